"""Parameters that go to CloudFormation."""

from pathlib import Path

import pytest
from templates import ENDPOINT, PLATFORM, load

from sagegate.account.cloudformation import declared_only


@pytest.mark.parametrize("template", [PLATFORM, ENDPOINT], ids=lambda path: path.stem)
def test_every_parameter_of_a_template_is_passed_and_no_other(template: Path) -> None:
    declared = load(template)["Parameters"]
    values = dict.fromkeys([*declared, "OfALaterVersion"], "x")
    assert list(declared_only(template.read_text(encoding="utf-8"), values)) == list(declared)


def test_a_template_without_parameters_gets_none() -> None:
    assert declared_only("Resources:\n  ProjectName: {}\n", {"ProjectName": "x"}) == {}
