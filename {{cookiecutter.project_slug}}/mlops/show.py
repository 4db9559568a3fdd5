"""What the verbs print, with rich: tables for people, one line for what matters."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops.evidence import Evaluation

Json = dict[str, Any]

# A log or a file has no width of its own: tables are not folded to 80 columns there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def metrics(evaluation: Evaluation) -> None:
    """The candidate's metrics with their standard deviation; the gate's metric beside the champion's."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("metric", "candidate", "± std"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    gate = evaluation.gate
    has_champion = isinstance(gate.get("champion"), int | float)
    if has_champion:
        table.add_column(f"champion v{gate.get('champion_version')}", justify="right")
    for name, (value, deviation) in evaluation.metrics.items():
        is_gate = name == gate.get("metric")
        row = [
            f"[bold]{name}[/]" if is_gate else name,
            f"{value:.4f}",
            "" if deviation is None else f"{deviation:.4f}",
        ]
        if has_champion:
            row.append(f"{gate['champion']:.4f}" if is_gate else "")
        table.add_row(*row)
    console.print(table)


def verdict(passed: bool, line: str, todo: str | None) -> None:
    """How it ended, and what to do next."""
    console.print(f"[bold green]✔[/] {escape(line)}" if passed else f"[bold red]✘[/] {escape(line)}")
    if todo:
        console.print(f"  next: {escape(todo)}")


def line(text: str) -> None:
    """One plain line."""
    console.print(escape(text))


def log(step: str, lines: list[str]) -> None:
    """The end of a failed step's output."""
    if not lines:
        console.print(f"[dim]--- {step} printed nothing ---[/]")
        return
    console.print(f"[dim]--- last lines of {step}'s log ---[/]")
    for line in lines:
        console.print(f"[dim]|[/] {escape(line)}")


def pairs(rows: list[tuple[str, Any]]) -> None:
    """Names and values, a line each; what has no value is left out. Nothing is folded, so it can be searched."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        if value not in (None, ""):
            console.print(f"[dim]{escape(name):<{width}}[/]{escape(str(value))}")


def table(headings: list[str], rows: list[list[Any]]) -> None:
    """A plain table."""
    made = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*["" if cell is None else escape(str(cell)) for cell in row])
    console.print(made)


def seconds(step: Json) -> str:
    """How long a step has taken; nothing for one that has not started."""
    if "StartTime" not in step:
        return ""
    end = step.get("EndTime") or datetime.now(UTC)
    return f"{(end - step['StartTime']).total_seconds():.2f} s"


def note(step: Json) -> str:
    """What else there is to say of a step: cached, taken over, its attempt, a condition's outcome."""
    if "CacheHitResult" in step:
        return "cached"
    if "SelectiveExecutionResult" in step:
        source = str(step["SelectiveExecutionResult"]["SourcePipelineExecutionArn"])
        return f"taken from {source.rpartition('/')[2]}"
    if step.get("AttemptCount", 1) > 1:
        return f"attempt {step['AttemptCount']}"
    outcome = step.get("Metadata", {}).get("Condition", {}).get("Outcome")
    return {"True": "passed", "False": "not passed"}.get(outcome, "") if outcome else ""
