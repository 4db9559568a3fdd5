"""Follow an execution to its end: a live table on a terminal, a line per event elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlops.aws import Door, pages
from mlops.definitions.definition import steps_of
from mlops.errors import MlopsError
from mlops.show import note, seconds

if TYPE_CHECKING:
    from rich.console import Group

Json = dict[str, Any]
LOCAL_POLL_SECONDS = 0.05
# On AWS a look costs two calls of an account-wide quota: often while steps may be cached, then rarely.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 10.0
PATIENCE_SECONDS = 600.0
MARKS = {
    "Succeeded": "[green]✔[/]",
    "Failed": "[red]✘[/]",
    "Stopped": "[yellow]■[/]",
    "Stopping": "[yellow]■[/]",
    "Executing": "[cyan]▸[/]",
    "Starting": "[cyan]▸[/]",
}
UNDER_WAY = ("Executing", "Starting", "Stopping")


def follow(door: Door, arn: str, body: Json, state: str) -> None:
    """Show the execution's steps until it ends. Lost connections and throttling are waited out for ten minutes."""
    title = f"{door.names.pipeline} · {door.environment.name} · execution {arn.rpartition('/')[2]} · {state}"
    if sys.stdout.isatty() and not os.environ.get("CI"):  # a runner may have a terminal, its log has not
        _follow_live(door, arn, list(steps_of(body)), title)
    else:
        _follow_lines(door, arn, title)


def looks(door: Door, arn: str) -> Iterator[tuple[list[Json], bool]]:
    """The steps so far, and whether the execution has ended; the last look comes after its end."""
    pauses = _pauses(door)
    lost_since: float | None = None
    while True:
        try:
            ended = door.wait(arn, next(pauses))
            call = door.sagemaker.list_pipeline_execution_steps
            steps = list(pages(call, "PipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending"))
        except Exception as error:
            lost_since = lost_since or time.monotonic()
            _survive(door, arn, error, time.monotonic() - lost_since)
            continue
        lost_since = None
        yield steps, ended
        if ended:
            return


def _pauses(door: Door) -> Iterator[float]:
    """Seconds to wait before each look; MLOPS_POLL_SECONDS sets them all."""
    given = os.environ.get("MLOPS_POLL_SECONDS")
    pause = float(given) if given else LOCAL_POLL_SECONDS if door.environment.is_local else FIRST_POLL_SECONDS
    grows = not given and not door.environment.is_local
    while True:
        yield pause
        pause = min(pause * 1.2, LAST_POLL_SECONDS) if grows else pause


def _survive(door: Door, arn: str, error: Exception, lost: float) -> None:
    """Return if looking again may help; else raise what the reader needs to know: the execution itself goes on."""
    if door.environment.is_local:
        raise error
    from mlops.refusals import expired, passes, refusal

    again = f"`mlops status {arn.rpartition('/')[2]} --follow --env {door.environment.name}` follows it"
    if expired(error):
        raise MlopsError(f"the AWS credentials expired; the execution goes on: log in again, then {again}") from None
    if not passes(error):
        raise error
    if lost > PATIENCE_SECONDS:
        raise MlopsError(f"{refusal(error)}; the execution goes on: {again}") from None


def _follow_live(door: Door, arn: str, names: list[str], title: str) -> None:
    from rich.live import Live

    with Live(_table(names, [], title), refresh_per_second=12) as live:
        for steps, ended in looks(door, arn):
            live.update(_table(names, steps, title), refresh=ended)


def _table(names: list[str], steps: list[Json], title: str) -> Group:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    known = {step["StepName"]: step for step in steps}
    for name in names:
        if name in known:
            step = known[name]
            table.add_row(MARKS[step["StepStatus"]], name, seconds(step), note(step))
        else:
            table.add_row("[dim]·[/]", f"[dim]{name}[/]", "", "")
    return Group(title, table)


def _follow_lines(door: Door, arn: str, title: str) -> None:
    print(title, flush=True)
    shown: dict[str, str] = {}
    for steps, _ in looks(door, arn):
        for step in steps:
            status = step["StepStatus"]
            if shown.get(step["StepName"]) == status or status in UNDER_WAY:
                continue
            print(f"  {status:<10} {step['StepName']:<16} {seconds(step):>8}  {note(step)}".rstrip(), flush=True)
            shown[step["StepName"]] = status
