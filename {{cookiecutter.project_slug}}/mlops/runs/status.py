"""`mlops status` and `mlops stop`: the latest executions, or one with its steps."""

from __future__ import annotations

from typing import Any

from mlops import show
from mlops.aws import Door
from mlops.errors import USAGE, MlopsError
from mlops.runs.executions import describe, executions, steps_of
from mlops.runs.logs import last_lines, links
from mlops.show import note, seconds

Json = dict[str, Any]
LOG_LINES = 40


def list_executions(door: Door, count: int) -> None:
    """The latest executions, the newest first, and how each ended."""
    found = executions(door, count)
    if not found:
        show.line(f"nothing has run yet: `mlops run{door.option}` does")
        return
    rows = []
    for summary in found:
        reason = summary.get("PipelineExecutionFailureReason", "")
        started = f"{summary['StartTime']:%Y-%m-%d %H:%M:%S}"
        name = summary["PipelineExecutionArn"].rpartition("/")[2]
        rows.append([name, summary["PipelineExecutionStatus"], started, reason])
    show.table(["execution", "status", "started (UTC)", "reason"], rows)


def show_execution(door: Door, name: str) -> None:
    """One execution's steps, what they are billed for, and the log of the step that failed."""
    execution = describe(door, name)
    arn = execution["PipelineExecutionArn"]
    steps = steps_of(door, arn)
    headings = ["step", "status", "time", "note"]
    rows = [[s["StepName"], s["StepStatus"], seconds(s), s.get("FailureReason") or note(s)] for s in steps]
    if not door.environment.is_local:
        from mlops.runs.cost import billable_seconds

        headings.insert(3, "billable s")
        for row, step in zip(rows, steps, strict=True):
            row.insert(3, billable_seconds(door, step))
    if "PipelineExecutionDescription" in execution:
        show.line(f"reason: {execution['PipelineExecutionDescription']}")
    show.table(headings, rows)
    for step in steps:
        if step["StepStatus"] == "Failed" and "Fail" not in step.get("Metadata", {}):
            show.log(step["StepName"], last_lines(door, arn, step, LOG_LINES))
    if not door.environment.is_local:
        for console, address in links(door).items():
            show.line(f"{console}: {address}")
    reason = execution.get("FailureReason")
    status = execution["PipelineExecutionStatus"]
    show.verdict(status in ("Succeeded", "Executing"), f"{status}: {reason}" if reason else status, None)


def follow_execution(door: Door, name: str | None) -> int:
    """Follow an execution (the latest by default) to its end; the exit code, as of `mlops run`."""
    from mlops.runs.watch import watch

    if name is None:
        latest = executions(door, 1)
        if not latest:
            raise MlopsError(f"nothing has run yet: `mlops run{door.option}` does", USAGE)
        name = latest[0]["PipelineExecutionArn"].rpartition("/")[2]
    return watch(door, describe(door, name)["PipelineExecutionArn"], "followed")


def stop_execution(door: Door, name: str) -> None:
    """Ask an execution to stop; one that has ended is left as it is, and said so."""
    execution = describe(door, name)
    status = execution["PipelineExecutionStatus"]
    if status not in ("Executing", "Stopping"):
        raise MlopsError(f"execution {name} has ended already: {status}")
    from mlops.runs.upsert import token

    arn = execution["PipelineExecutionArn"]
    door.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=token())
    show.verdict(True, f"execution {name} is stopping", f"mlops status {name}{door.option}")
