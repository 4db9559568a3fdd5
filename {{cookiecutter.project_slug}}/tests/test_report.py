"""report.html: the same bytes for the same input, and never in the way of a verdict."""

from pathlib import Path

import pytest

import metrics
import report
from tests.test_model import SCHEMA, as_champion, judge, run_scripts


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the splits, the model's archive, and the same model as the champion."""
    folder = tmp_path_factory.mktemp("work")
    as_champion(run_scripts(folder), folder / "champion")
    return folder


def test_the_same_input_gives_the_same_page_with_every_metric(work: Path) -> None:
    pages = []
    for _ in range(2):
        judge(work, work / "packed", work / "champion")
        pages.append((work / "evaluation" / "report.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1] and "champion v2" in pages[0]
    for name in metrics.METRICS[SCHEMA.problem_type]:
        assert report.named(name) in pages[0]


def test_a_report_that_cannot_be_drawn_changes_no_verdict(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = judge(work, work / "packed", work / "champion")
    monkeypatch.setattr(report, "worst_slices", lambda *_: 1 / 0)
    assert judge(work, work / "packed", work / "champion") == drawn
    assert not (work / "evaluation" / "report.html").exists()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "report.html" in line]
    assert "was not written" in line and "ZeroDivisionError" in line
