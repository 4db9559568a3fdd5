"""Follow an execution to its end: a live table on a terminal, a line per event elsewhere."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops.aws import Door
from mlops.definition import steps_of

if TYPE_CHECKING:
    from rich.console import Group

Json = dict[str, Any]
POLL_SECONDS = 0.05
MARKS = {
    "Succeeded": "[green]✔[/]",
    "Failed": "[red]✘[/]",
    "Stopped": "[yellow]■[/]",
    "Executing": "[cyan]▸[/]",
}


def follow(door: Door, arn: str, body: Json, state: str) -> None:
    """Show the execution's steps until it ends."""
    title = f"{door.names.pipeline} · {door.environment.name} · execution {arn.rpartition('/')[2]} · {state}"
    if sys.stdout.isatty():
        _follow_live(door, arn, list(steps_of(body)), title)
    else:
        _follow_lines(door, arn, title)


def _steps(door: Door, arn: str) -> list[Json]:
    found: list[Json] = door.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    return found


def _follow_live(door: Door, arn: str, names: list[str], title: str) -> None:
    from rich.live import Live

    with Live(_table(names, [], title), refresh_per_second=12) as live:
        while True:
            ended = door.sagemaker.wait(arn, POLL_SECONDS)
            live.update(_table(names, _steps(door, arn), title), refresh=ended)
            if ended:
                return


def _table(names: list[str], steps: list[Json], title: str) -> Group:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    known = {step["StepName"]: step for step in steps}
    for name in names:
        if name in known:
            step = known[name]
            table.add_row(MARKS[step["StepStatus"]], name, _seconds(step), _note(step))
        else:
            table.add_row("[dim]·[/]", f"[dim]{name}[/]", "", "")
    return Group(title, table)


def _follow_lines(door: Door, arn: str, title: str) -> None:
    print(title, flush=True)
    shown: dict[str, str] = {}
    while True:
        ended = door.sagemaker.wait(arn, POLL_SECONDS)
        for step in _steps(door, arn):
            status = step["StepStatus"]
            if shown.get(step["StepName"]) != status and status != "Executing":
                print(
                    f"  {status:<10} {step['StepName']:<16} {_seconds(step):>8}  {_note(step)}".rstrip(),
                    flush=True,
                )
                shown[step["StepName"]] = status
        if ended:
            return


def _seconds(step: Json) -> str:
    end = step.get("EndTime") or datetime.now(UTC)
    return f"{(end - step['StartTime']).total_seconds():.2f} s"


def _note(step: Json) -> str:
    if "CacheHitResult" in step:
        return "cached"
    if "SelectiveExecutionResult" in step:
        source = str(step["SelectiveExecutionResult"]["SourcePipelineExecutionArn"])
        return f"taken from {source.rpartition('/')[2]}"
    if step.get("AttemptCount", 1) > 1:
        return f"attempt {step['AttemptCount']}"
    outcome = step.get("Metadata", {}).get("Condition", {}).get("Outcome")
    return {"True": "passed", "False": "not passed"}.get(outcome, "") if outcome else ""
