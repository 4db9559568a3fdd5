"""What an ended execution comes to: its metrics, the gate's verdict, what failed and why, what to do next."""

from __future__ import annotations

from typing import Any

from mlops import evidence, show
from mlops.aws import Door
from mlops.errors import FAILED, REJECTED
from mlops.logs import last_lines
from mlops.status import steps_of

Json = dict[str, Any]
LOG_LINES = 25


def report(door: Door, arn: str, body: Json) -> int:
    """Print it; the exit code of the command: 0 succeeded, 3 rejected by the gate, 1 failed."""
    execution = door.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    steps = steps_of(door, arn)
    evaluation = evidence.evaluation_of_steps(door, body, steps)
    if evaluation:
        show.metrics(evaluation)
    if not door.environment.is_local:
        from mlops import cost

        show.line(cost.summary(door, steps))
    rejected = evidence.rejection(steps)
    if rejected:
        show.verdict(False, rejected, "nothing was registered; improve the model, or change [gate] in mlops.toml")
        return REJECTED
    if execution["PipelineExecutionStatus"] != "Succeeded":
        failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
        if failed:
            show.log(failed["StepName"], last_lines(door, arn, failed, LOG_LINES))
        reason = _reason(execution, failed)
        show.verdict(
            False, reason, f"mlops explain {arn.rpartition('/')[2]}{door.option}" if door.option and failed else None
        )
        return FAILED
    package = evidence.registered(steps)
    version = package.rpartition("/")[2] if package else None
    reason = evaluation.gate.get("reason", "") if evaluation else ""
    todo = f"mlops approve {version} --reason '...'{door.option}, then mlops serve{door.option}" if version else None
    show.verdict(True, f"model {version} registered: {reason}" if version else "succeeded", todo)
    return 0


def _reason(execution: Json, failed: Json | None) -> str:
    """Why an execution did not succeed; SageMaker's own reason says only that some step failed."""
    if failed and failed.get("FailureReason"):
        return f"Step {failed['StepName']} failed: {failed['FailureReason']}"
    return str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])
