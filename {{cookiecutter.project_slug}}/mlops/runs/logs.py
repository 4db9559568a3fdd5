"""The output of a step's job: a file on this machine, a CloudWatch Logs stream on AWS.

SageMaker's log groups are `/aws/sagemaker/ProcessingJobs`, `TrainingJobs` and `TransformJobs`; a job's streams start
with its name and a slash (developer guide, "CloudWatch Logs for Amazon SageMaker AI").
"""

from __future__ import annotations

from typing import Any

from mlops import consoles
from mlops.aws import Door, pages

Json = dict[str, Any]
GROUPS = {
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
    "TransformJob": "/aws/sagemaker/TransformJobs",
}


def job_of(step: Json) -> tuple[str, str] | None:
    """The kind (`TrainingJob`) and name of the job that an execution's step ran, or None if it ran none."""
    for kind in GROUPS:
        arn = step.get("Metadata", {}).get(kind, {}).get("Arn")
        if arn:
            return kind, str(arn).rpartition("/")[2]
    return None


def last_lines(door: Door, arn: str, step: Json, count: int) -> list[str]:
    """The last lines that a step's job printed, of all its hosts; none for a step without a job or output."""
    if door.environment.is_local:
        lines: list[str] = door.sagemaker.log_lines(arn, step["StepName"], count)
        return lines
    job = job_of(step)
    return job_lines(door, *job, count) if job else []


def job_lines(door: Door, kind: str, name: str, count: int) -> list[str]:
    """The last lines of a job on AWS, its hosts' streams one after the other."""
    logs = door.client("logs")
    group = GROUPS[kind]
    found: list[str] = []
    try:
        for stream in pages(
            logs.describe_log_streams, "logStreams", logGroupName=group, logStreamNamePrefix=f"{name}/"
        ):
            request = {"logGroupName": group, "logStreamName": stream["logStreamName"], "limit": count}
            events = logs.get_log_events(**request, startFromHead=False)["events"]
            found += [str(event["message"]).rstrip("\n") for event in events]
    except logs.exceptions.ResourceNotFoundException:
        return []  # the job ended before it printed anything
    return found[-count:]


def links(door: Door) -> dict[str, str]:
    """Addresses where an environment's executions and logs can be looked at."""
    where = (door.names.partition, door.names.region)
    return {"Studio": consoles.studio(*where), "CloudWatch": consoles.job_logs(*where)}
