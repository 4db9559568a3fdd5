"""GitHub Markdown, and the summaries of GitHub jobs.

Text from elsewhere appears as code, so it cannot become markup, a mention, a link or a command.
Sources: "Adding a job summary" in the GitHub Actions documentation; CommonMark; GitHub Flavored Markdown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sagegate.evaluation import Evaluation
from sagegate.files import Json
from sagegate.output import metrics_rows, note, seconds

VALUE_LENGTH = 300
LOG_COLUMNS = 300
MARKS = {True: "✅", False: "❌"}


# --- elements --------------------------------------------------------------------------------------------------------
def code(text: object, in_table: bool = False) -> str:
    """Return `text` as a code span, in which GitHub resolves no @mention, #number, link or HTML. Empty stays empty.

    The span's fence is longer than any run of backticks inside (CommonMark, "Code spans"). A bar ends a table's cell
    even inside a span, unless it is escaped (GitHub Flavored Markdown, "Tables").
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) > VALUE_LENGTH:
        line = f"{line[: VALUE_LENGTH - 1]}…"
    if not line:
        return ""
    fence = "`" * (_longest_backticks([line]) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return fence + pad + (line.replace("|", "\\|") if in_table else line) + pad + fence


def link(text: object, url: str, in_table: bool = False) -> str:
    """Return a link with `text` as code; without the link if the URL is not a plain http or https one."""
    is_plain = re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+", url)
    return f"[{code(text, in_table)}]({url})" if is_plain and text else code(text, in_table)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """Return a table's lines; cells are Markdown already. Columns from `numbers_from` on are aligned to the right."""
    rule = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]


def folded(heading: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a click on the heading unfolds."""
    return [f"<details><summary>{_plain(heading)}</summary>", "", *lines, "", "</details>"]


def fenced(lines: Sequence[str]) -> list[str]:
    """Return the lines of a log as a code block, whose fence is longer than any run of backticks in them."""
    shown = ["".join(c for c in line if c.isprintable() or c == "\t")[:LOG_COLUMNS] for line in lines]
    fence = "`" * max(3, _longest_backticks(shown) + 1)
    return [f"{fence}text", *shown, fence]


def _longest_backticks(lines: Sequence[str]) -> int:
    return max((len(run) for line in lines for run in re.findall("`+", line)), default=0)


def _plain(text: str) -> str:
    """Return `text` without characters that could be markup."""
    return re.sub(r"[^\w .,:;()/+±%=-]", "", " ".join(text.split()))


# --- job summaries ---------------------------------------------------------------------------------------------------
def append_summary(lines: Sequence[str]) -> None:
    """Append a block to the summary of a GitHub job. Do nothing outside a job."""
    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if file:
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write("\n".join(["", *lines, "", ""]))


def set_output(name: str, value: str) -> None:
    """Set an output of the GitHub job's step: NAME and a value of one line. Do nothing outside a job."""
    file = os.environ.get("GITHUB_OUTPUT")
    if file:
        with Path(file).open("a", encoding="utf-8") as outputs:
            outputs.write(f"{name}={value}\n")


def verdict_summary(passed: bool, title: str, line: str, todo: str | None = None) -> list[str]:
    """Return a heading, the reason and the next step."""
    lines = [f"### {MARKS[passed]} {_plain(title)}", "", *([code(line)] if line else [])]
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
    """Return the summary of an ended execution: verdict, metrics, steps, and facts (name, value; an URL is a link)."""
    lines = verdict_summary(passed, title, line, todo)
    if evaluation and evaluation.metrics:
        lines += ["", *_metrics(evaluation)]
    if steps:
        lines += ["", *folded("Steps and where the time went", _steps(steps))]
    shown = [
        link(name, value) if isinstance(value, str) and value.startswith("https://") else f"{name} {code(value)}"
        for name, value in facts
    ]
    return lines + (["", " · ".join(shown)] if shown else [])


def deployment_summary(
    environment: str, version: int, passed: bool, line: str, facts: Sequence[tuple[str, object]] = ()
) -> list[str]:
    """Return the summary of a deployment: its outcome and facts (name, value)."""
    title = f"{environment}: model {version} {'is live' if passed else 'was not deployed'}"
    lines = verdict_summary(passed, title, line)
    rows = [[name, code(value, in_table=True)] for name, value in facts if value not in ("", None)]
    return lines + (["", *table(["", ""], rows, numbers_from=2)] if rows else [])


def pull_request_summary(branch: str, number: int, result: str, url: str, todo: str | None) -> list[str]:
    """Return the result for a branch's pull request, with a link to it."""
    lines = [f"### {MARKS[True]} {_plain(branch)}: pull request {number} {_plain(result)}", "", link(url, url)]
    return lines + (["", f"Next: {code(todo)}"] if todo else [])


def _metrics(evaluation: Evaluation) -> list[str]:
    headings, rows = metrics_rows(evaluation)
    for row in rows:
        is_gate = row[0] == evaluation.gate.get("metric")
        row[0] = f"**{code(row[0], in_table=True)}**" if is_gate else code(row[0], in_table=True)
    return table([_plain(heading) for heading in headings], rows)


def _steps(steps: list[Json]) -> list[str]:
    rows = [
        [code(s["StepName"], True), s["StepStatus"], seconds(s), code(s.get("FailureReason") or note(s), True)]
        for s in steps
    ]
    return table(["step", "status", "time", ""], rows, numbers_from=4)
