"""Output: links to AWS consoles, tables for the terminal (rich), and GitHub Markdown for job summaries.

Text from elsewhere appears in Markdown as code, never as markup, a mention, a link or a command.
Source: "Adding a job summary" in the GitHub Actions documentation.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sagegate.evaluation import Evaluation
from sagegate.files import Json

HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def studio(partition: str, region: str) -> str:
    """Studio's landing page: what comes after it has the domain's own address, which nothing here knows."""
    return f"{_console(partition, region)}/sagemaker/home?region={region}#/studio-landing"


def job_logs(partition: str, region: str) -> str:
    """The log groups of SageMaker's jobs in CloudWatch."""
    groups = "$3FlogGroupNameFilter$3D$252Faws$252Fsagemaker$252F"
    return f"{_console(partition, region)}/cloudwatch/home?region={region}#logsV2:log-groups{groups}"


def _console(partition: str, region: str) -> str:
    return f"https://{region}.{HOSTS.get(partition, HOSTS['aws'])}"


LONGEST = 300  # characters of one value


def code(text: object, in_table: bool = False) -> str:
    """`text` as a code span, in which GitHub resolves no @mention, #number, link or HTML. Empty text stays empty.

    The span's fence is longer than any run of backticks inside (CommonMark, "Code spans"); a table's cell ends at a
    bar even inside a span, unless it is escaped (GitHub Flavored Markdown, "Tables").
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 1]}…"
    if not line:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return fence + pad + (line.replace("|", "\\|") if in_table else line) + pad + fence


def link(text: object, url: str, in_table: bool = False) -> str:
    """A link whose text is `text` as code; only the text where the URL is not a plain https one."""
    is_plain = re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+", url)
    return f"[{code(text, in_table)}]({url})" if is_plain and text else code(text, in_table)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """A table's lines; cells are markdown already. Columns from `numbers_from` on are aligned to the right."""
    rule = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]


# A log or a file has no width of its own: tables are not folded to 80 columns there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def metrics_table(evaluation: Evaluation) -> None:
    """The candidate's metrics with their standard deviation; the gate's metric beside the champion's."""
    show_table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("metric", "candidate", "± std"):
        show_table.add_column(heading, justify="left" if heading == "metric" else "right")
    gate = evaluation.gate
    has_champion = isinstance(gate.get("champion"), int | float)
    if has_champion:
        show_table.add_column(f"champion v{gate.get('champion_version')}", justify="right")
    for name, (value, deviation) in evaluation.metrics.items():
        is_gate = name == gate.get("metric")
        row = [
            f"[bold]{name}[/]" if is_gate else name,
            f"{value:.4f}",
            "" if deviation is None else f"{deviation:.4f}",
        ]
        if has_champion:
            row.append(f"{gate['champion']:.4f}" if is_gate else "")
        show_table.add_row(*row)
    console.print(show_table)


def verdict(passed: bool, line: str, todo: str | None) -> None:
    """Print how a command ended, and what to do next."""
    console.print(f"[bold green]✔[/] {escape(line)}" if passed else f"[bold red]✘[/] {escape(line)}")
    if todo:
        console.print(f"  next: {escape(todo)}")


def line(text: str) -> None:
    """Print one plain line."""
    console.print(escape(text))


def log(step: str, lines: list[str]) -> None:
    """Print the last lines of a failed step's log."""
    if not lines:
        console.print(f"[dim]--- {step} printed nothing ---[/]")
        return
    console.print(f"[dim]--- last lines of {step}'s log ---[/]")
    for line in lines:
        console.print(f"[dim]|[/] {escape(line)}")


def pairs(rows: list[tuple[str, Any]]) -> None:
    """Print names and values, a line each, without wrapping. Skip empty values."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        if value not in (None, ""):
            console.print(f"[dim]{escape(name):<{width}}[/]{escape(str(value))}")


def table(headings: list[str], rows: list[list[Any]]) -> None:
    """Print a plain table."""
    made = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*["" if cell is None else escape(str(cell)) for cell in row])
    console.print(made)


def seconds(step: Json) -> str:
    """Return a step's duration, or the empty string if it has not started."""
    if "StartTime" not in step:
        return ""
    end = step.get("EndTime") or datetime.now(UTC)
    return f"{(end - step['StartTime']).total_seconds():.2f} s"


def note(step: Json) -> str:
    """Return a remark on a step: cached, reused, its attempt, or a condition's outcome."""
    if "CacheHitResult" in step:
        return "cached"
    if "SelectiveExecutionResult" in step:
        source = str(step["SelectiveExecutionResult"]["SourcePipelineExecutionArn"])
        return f"taken from {source.rpartition('/')[2]}"
    if step.get("AttemptCount", 1) > 1:
        return f"attempt {step['AttemptCount']}"
    outcome = step.get("Metadata", {}).get("Condition", {}).get("Outcome")
    return {"True": "passed", "False": "not passed"}.get(outcome, "") if outcome else ""


LOG_COLUMNS = 300
MARKS = {True: "✅", False: "❌"}


def append_summary(lines: Sequence[str]) -> None:
    """Append a block to the summary of a GitHub job. Do nothing outside a job."""
    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if file:
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write("\n".join(["", *lines, "", ""]))


def verdict_summary(passed: bool, title: str, line: str, todo: str | None = None) -> list[str]:
    """Return a heading, the reason and the next step."""
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
        lines += ["", *markdown_metrics(evaluation)]
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
    """Return the summary of a deployment: its outcome, facts (name, value) and the stack's events."""
    title = f"{environment}: model {version} {'is live' if passed else 'was not deployed'}"
    lines = verdict_summary(passed, title, line)
    rows = [[name, code(value, in_table=True)] for name, value in facts if value not in ("", None)]
    if rows:
        lines += ["", *markdown_table(["", ""], rows, numbers_from=2)]
    return lines + (["", *folded("What happened", fenced(events))] if events else [])


def pull_request_summary(branch: str, number: int, what: str, url: str, todo: str | None) -> list[str]:
    """Return the outcome of a branch's pull request, with a link to it."""
    lines = [f"### {MARKS[True]} {_plain(branch)}: pull request {number} {_plain(what)}", "", link(url, url)]
    return lines + (["", f"Next: {code(todo)}"] if todo else [])


def markdown_metrics(evaluation: Evaluation) -> list[str]:
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
    return markdown_table(headings, rows)


def steps_table(steps: list[Json]) -> list[str]:
    """Return a table of the steps: status, time, remark."""
    rows = []
    for step in steps:
        remark = step.get("FailureReason") or note(step)
        rows.append([code(step["StepName"], True), step["StepStatus"], seconds(step), code(remark, True)])
    return markdown_table(["step", "status", "time", ""], rows, numbers_from=4)


def folded(heading: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a heading unfolds."""
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
