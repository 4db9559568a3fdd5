"""GitHub Markdown and job summaries: text from elsewhere cannot become markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagegate import markdown
from sagegate.evaluation import Evaluation

EVIL = "</details>`` ` @everyone | #1 <img src=x> [x](http://x)\n```\n# heading"


def test_no_summary_outside_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    markdown.append_summary(["text"])
    assert list(tmp_path.iterdir()) == []


def test_summaries_are_appended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "output.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    markdown.append_summary(["a", "b"])
    markdown.append_summary(["c"])
    assert file.read_text(encoding="utf-8").split("\n\n") == ["\na\nb", "\nc", ""]


def test_text_from_elsewhere_is_not_markup() -> None:
    steps = [{"StepName": EVIL, "StepStatus": "Failed", "FailureReason": EVIL}]
    evaluation = Evaluation({EVIL: (0.5, None)}, {"metric": EVIL, "champion": 0.4, "champion_version": EVIL})
    lines = markdown.run_summary(EVIL, False, EVIL, EVIL, evaluation, steps, [("execution", EVIL)])
    lines += markdown.deployment_summary("staging", 3, False, EVIL, [("commit", EVIL)])
    lines += markdown.pull_request_summary(EVIL, 3, EVIL, EVIL, EVIL)
    for line in lines:
        if line.startswith("#"):
            assert not set(line) & set("<>`@[]|"), line
        bare = line.replace("<details><summary>", "").replace("</summary>", "")
        if bare != "</details>":
            # Outside code spans there is no tag, mention or link.
            assert not any(sign in outside_code(bare) for sign in ("<", "@", "](")), line


def outside_code(line: str) -> str:
    """Return a line without its code spans, whose two fences have the same length."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def test_a_log_cannot_end_its_fence() -> None:
    lines = markdown.fenced(["````", "\x1b[31mred", "x" * 1000])
    assert lines[0] == "`````text" and lines[-1] == "`````" and max(map(len, lines)) == markdown.LOG_COLUMNS
    assert "\x1b" not in "".join(lines)
