"""What jobs' pages say: texts from elsewhere stay texts, and a phase tells its time and the end of its output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# DELETED phase
from sagegate import output
from sagegate.evaluation import Evaluation

EVIL = "</details>`` ` @everyone | #1 <img src=x> [x](http://x)\n```\n# heading"


def test_nothing_is_written_outside_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    output.append_summary(["text"])
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_appended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "output.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    output.append_summary(["a", "b"])
    output.append_summary(["c"])
    assert file.read_text(encoding="utf-8").split("\n\n") == ["\na\nb", "\nc", ""]


def test_texts_from_elsewhere_are_no_markup() -> None:
    steps = [{"StepName": EVIL, "StepStatus": "Failed", "FailureReason": EVIL}]
    evaluation = Evaluation({EVIL: (0.5, None)}, {"metric": EVIL, "champion": 0.4, "champion_version": EVIL})
    lines = output.run_summary(EVIL, False, EVIL, EVIL, evaluation, steps, [("execution", EVIL)])
    lines += output.deployment_summary("staging", 3, False, EVIL, [("commit", EVIL)])
    lines += output.pull_request_summary(EVIL, 3, EVIL, EVIL, EVIL)
    for line in lines:
        if line.startswith("#"):
            assert not set(line) & set("<>`@[]|"), line
        bare = line.replace("<details><summary>", "").replace("</summary>", "")
        if bare != "</details>":
            # What is left outside code spans has no tag, mention or link of theirs.
            assert not any(sign in outside_code(bare) for sign in ("<", "@", "](")), line


def outside_code(line: str) -> str:
    """A line without its code spans, whose fences are runs of backticks of one length."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def test_a_log_cannot_end_its_fence() -> None:
    lines = output.fenced(["````", "\x1b[31mred", "x" * 1000])
    assert lines[0] == "`````text" and lines[-1] == "`````" and max(map(len, lines)) == output.LOG_COLUMNS
    assert "\x1b" not in "".join(lines)
