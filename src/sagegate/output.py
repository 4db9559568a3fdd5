"""Output to the terminal, and links to AWS consoles."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sagegate.evaluation import Evaluation
from sagegate.files import Json

CONSOLE_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
# A log or a file has no width of its own: do not fold tables to 80 columns there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def job_logs(partition: str, region: str) -> str:
    """Return the URL of the log groups of SageMaker's jobs in CloudWatch."""
    console = f"https://{region}.{CONSOLE_HOSTS.get(partition, CONSOLE_HOSTS['aws'])}"
    groups = "$3FlogGroupNameFilter$3D$252Faws$252Fsagemaker$252F"
    return f"{console}/cloudwatch/home?region={region}#logsV2:log-groups{groups}"


# --- the terminal ----------------------------------------------------------------------------------------------------
def line(text: str) -> None:
    """Print one plain line."""
    console.print(escape(text))


def verdict(passed: bool, line: str, todo: str | None) -> None:
    """Print a command's result, and what to do next."""
    console.print(f"[bold green]✔[/] {escape(line)}" if passed else f"[bold red]✘[/] {escape(line)}")
    if todo:
        console.print(f"  next: {escape(todo)}")


def log(step: str, lines: list[str], said: str = "") -> None:
    """Print the last lines of a failed step's log, without those at its end that the text `said` repeats."""
    if not lines:
        console.print(f"[dim]--- {step} printed nothing ---[/]")
    while lines and lines[-1].strip() in said:
        lines = lines[:-1]
    if not lines:
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
    """Print a table; a cell that is None stays empty."""
    made = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*["" if cell is None else escape(str(cell)) for cell in row])
    console.print(made)


def metrics_table(evaluation: Evaluation) -> None:
    """Print the metrics; the row of the gate's metric is bold."""
    headings, rows = metrics_rows(evaluation)
    made = Table(box=None, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index else "left")
    for name, *numbers in rows:
        made.add_row(escape(name), *numbers, style="bold" if name == evaluation.gate.get("metric") else "")
    console.print(made)


# --- values, for the terminal and for Markdown -----------------------------------------------------------------------
def metrics_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows: each metric with its standard deviation; the gate's also with the champion's value."""
    gate, headings = evaluation.gate, ["metric", "candidate", "± std"]
    champion = gate.get("champion")
    has_champion = isinstance(champion, int | float)
    if has_champion:
        headings.append(f"champion v{gate.get('champion_version')}")
    rows = []
    for name, (value, deviation) in evaluation.metrics.items():
        row = [name, f"{value:.4f}", "" if deviation is None else f"{deviation:.4f}"]
        if has_champion:
            row.append(f"{champion:.4f}" if name == gate.get("metric") else "")
        rows.append(row)
    return headings, rows


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
