"""The generated reference pages say what the code says."""

import pytest
from reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    page = (FOLDER / name).read_text(encoding="utf-8")
    assert page == PAGES[name]().rstrip() + "\n", "run `python scripts/reference.py`"
