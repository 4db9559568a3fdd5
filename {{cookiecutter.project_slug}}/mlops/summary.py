"""What a workflow's job shows on its page: Markdown for people who open nothing else. Outside a workflow, nothing.

Source: "Adding a job summary" in the GitHub Actions documentation. Texts from elsewhere are shown as code, never as
markup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops.evidence import Evaluation
from mlops.repository.markdown import code, link, table
from mlops.show import note, seconds

Json = dict[str, Any]
LOG_COLUMNS = 300
MARKS = {True: "✅", False: "❌"}


def append(lines: Sequence[str]) -> None:
    """Add to the job's summary, as a block of its own; does nothing where no job runs."""
    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if file:
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write("\n".join(["", *lines, "", ""]))


def verdict_summary(passed: bool, title: str, line: str, todo: str | None = None) -> list[str]:
    """How something ended: a heading, the reason, what to do next."""
    lines = [f"### {MARKS[passed]} {_plain(title)}", ""]
    lines += [code(line)] if line else []
    return lines + (["", f"Next: {code(todo)}"] if todo else [])


def run_summary(
    title: str,
    passed: bool,
    line: str,
    todo: str | None,
    evaluation: Evaluation | None,
    steps: list[Json],
    facts: Sequence[tuple[str, object]] = (),
) -> list[str]:
    """An execution that has ended: the verdict, its metrics beside the champion's, its steps, and facts about it."""
    lines = [*verdict_summary(passed, title, line, todo)]
    if evaluation and evaluation.metrics:
        lines += ["", *metrics(evaluation)]
    if steps:
        lines += ["", *folded("Steps and where the time went", steps_table(steps))]
    shown = [
        link(name, value) if isinstance(value, str) and value.startswith("https://") else f"{name} {code(value)}"
        for name, value in facts
        if value not in ("", None)
    ]
    return lines + (["", " · ".join(shown)] if shown else [])


def deployment_summary(
    environment: str,
    version: int,
    passed: bool,
    line: str,
    facts: Sequence[tuple[str, object]] = (),
    events: Sequence[str] = (),
) -> list[str]:
    """A deployment that has ended: what is live or why it is not, facts (name, value), the stack's events."""
    title = f"{environment}: model {version} {'is live' if passed else 'was not deployed'}"
    lines = verdict_summary(passed, title, line)
    rows = [[name, code(value, in_table=True)] for name, value in facts if value not in ("", None)]
    if rows:
        lines += ["", *table(["", ""], rows, numbers_from=2)]
    return lines + (["", *folded("What happened", fenced(events))] if events else [])


def pull_request_summary(branch: str, number: int, what: str, url: str, todo: str | None) -> list[str]:
    """What became of a branch's pull request, with a link to it."""
    lines = [f"### {MARKS[True]} {_plain(branch)}: pull request {number} {_plain(what)}", "", link(url, url)]
    return lines + (["", f"Next: {code(todo)}"] if todo else [])


def metrics(evaluation: Evaluation) -> list[str]:
    """The candidate's metrics with their standard deviation; the gate's metric in bold, beside the champion's."""
    gate = evaluation.gate
    champion = gate.get("champion")
    headings = ["metric", "candidate", "± std"]
    has_champion = isinstance(champion, int | float)
    if has_champion:
        headings.append(f"champion v{_plain(str(gate.get('champion_version')))}")
    rows = []
    for name, (value, deviation) in evaluation.metrics.items():
        is_gate = name == gate.get("metric")
        shown = code(name, in_table=True)
        row = [f"**{shown}**" if is_gate else shown, f"{value:.4f}", "" if deviation is None else f"{deviation:.4f}"]
        if has_champion:
            row.append(f"{champion:.4f}" if is_gate else "")
        rows.append(row)
    return table(headings, rows)


def steps_table(steps: list[Json]) -> list[str]:
    """Each step's status, time and what else there is to say of it."""
    rows = []
    for step in steps:
        remark = step.get("FailureReason") or note(step)
        rows.append([code(step["StepName"], True), step["StepStatus"], seconds(step), code(remark, True)])
    return table(["step", "status", "time", ""], rows, numbers_from=4)


def folded(heading: str, lines: Sequence[str]) -> list[str]:
    """Lines behind a heading that opens them."""
    return [f"<details><summary>{_plain(heading)}</summary>", "", *lines, "", "</details>"]


def fenced(lines: Sequence[str]) -> list[str]:
    """Lines of a log as they are; the fence is longer than any run of backticks in them."""
    shown = ["".join(c for c in line if c.isprintable() or c == "\t")[:LOG_COLUMNS] for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *shown, fence]


def _plain(text: str) -> str:
    """A heading without what would be markup in it."""
    return re.sub(r"[^\w .,:;()/+%=-]", "", " ".join(text.split()))
