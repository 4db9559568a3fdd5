"""Follow an execution and report on it: the end of `mlops run` and of `mlops status --follow`."""

from __future__ import annotations

from mlops.aws import Door
from mlops.errors import INTERRUPTED, MlopsError
from mlops.runs.executions import execution_definition
from mlops.runs.follow import follow
from mlops.runs.report import report


def watch(door: Door, arn: str, state: str) -> int:
    """Follow an execution to its end and report on it; the exit code. Ctrl-C stops a local execution, and leaves one
    on AWS running."""
    body = execution_definition(door, arn)
    name = arn.rpartition("/")[2]
    try:
        follow(door, arn, body, state)
    except KeyboardInterrupt:
        if not door.environment.is_local:
            where = f"--env {door.environment.name}"
            said = f"execution {name} goes on: `mlops status {name} --follow {where}`, or `mlops stop {name} {where}`"
            raise MlopsError(said, INTERRUPTED) from None
        door.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
        door.wait(arn, 10)
        raise MlopsError(f"execution {name} stopped", INTERRUPTED) from None
    return report(door, arn, body)
