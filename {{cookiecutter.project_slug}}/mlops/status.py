"""`mlops status`: the latest executions, or one with its steps."""

from __future__ import annotations

from typing import Any

from mlops import show
from mlops.aws import Door
from mlops.errors import MlopsError

Json = dict[str, Any]


def list_executions(door: Door, count: int) -> None:
    """The latest executions, the newest first, and how each ended."""
    try:
        listed = door.sagemaker.list_pipeline_executions(PipelineName=door.names.pipeline, MaxResults=count)
    except door.sagemaker.exceptions.ResourceNotFound:
        show.console.print("nothing has run yet: `mlops run` does")
        return
    rows = []
    for summary in listed["PipelineExecutionSummaries"]:
        reason = summary.get("PipelineExecutionFailureReason", "")
        started = f"{summary['StartTime']:%Y-%m-%d %H:%M:%S}"
        name = summary["PipelineExecutionArn"].rpartition("/")[2]
        rows.append([name, summary["PipelineExecutionStatus"], started, reason])
    show.table(["execution", "status", "started (UTC)", "reason"], rows)


def show_execution(door: Door, name: str) -> None:
    """One execution's steps, and the log of the step that failed."""
    arn = door.names.execution(name)
    try:
        execution = door.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except door.sagemaker.exceptions.ResourceNotFound:
        raise MlopsError(f"there is no execution {name}: `mlops status` lists them") from None
    steps = door.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    rows = [[s["StepName"], s["StepStatus"], _seconds(s), s.get("FailureReason")] for s in steps]
    show.table(["step", "status", "seconds", "reason"], rows)
    for step in steps:
        if step["StepStatus"] == "Failed" and "Fail" not in step["Metadata"]:
            show.log(step["StepName"], door.sagemaker.log_lines(arn, step["StepName"], 40))
    reason = execution.get("FailureReason")
    status = execution["PipelineExecutionStatus"]
    show.verdict(status in ("Succeeded", "Executing"), f"{status}: {reason}" if reason else status, None)


def _seconds(step: Json) -> str:
    return f"{(step['EndTime'] - step['StartTime']).total_seconds():.2f}" if "EndTime" in step else ""
