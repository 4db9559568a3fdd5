"""What the backend knows of executions: the latest ones, one of them, its steps, the definition that it runs.
The output of a step's job: a file on this machine, a CloudWatch Logs stream on AWS.

SageMaker's log groups are `/aws/sagemaker/ProcessingJobs`, `TrainingJobs` and `TransformJobs`; a job's streams start
with its name and a slash (developer guide, "CloudWatch Logs for Amazon SageMaker AI").
What an execution on AWS will be billed for: instance seconds, by step and in all.

A job is billed from its start to its end on each instance; spot training by BillableTimeInSeconds ("Amazon SageMaker AI
pricing"; DescribeTrainingJob in the API reference).
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from sagegate import output
from sagegate.errors import SagegateError
from sagegate.session import Session, is_missing, pages

Json = dict[str, Any]


def latest_executions(session: Session, count: int) -> list[Json]:
    """The summaries of the latest executions, the newest first; none if there is no pipeline yet."""
    request = {"PipelineName": session.names.pipeline, "SortBy": "CreationTime", "SortOrder": "Descending"}
    request_pages = pages(
        session.sagemaker.list_pipeline_executions, "PipelineExecutionSummaries", **request, MaxResults=min(count, 100)
    )
    try:
        return list(islice(request_pages, count))
    except Exception as error:
        if is_missing(session, error):
            return []
        raise


def describe_execution(session: Session, name: str) -> Json:
    """One execution; raises SagegateError if there is none."""
    arn = session.names.execution(name)
    try:
        found: Json = session.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except Exception as error:
        if is_missing(session, error):
            raise SagegateError(f"there is no execution {name}: `sagegate status{session.option}` lists them") from None
        raise
    return found


def execution_steps(session: Session, arn: str) -> list[Json]:
    """An execution's steps in the order they started."""
    call = session.sagemaker.list_pipeline_execution_steps
    return list(pages(call, "PipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending"))


def execution_definition(session: Session, arn: str) -> Json:
    """The definition that an execution runs."""
    described = session.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
    body: Json = json.loads(described["PipelineDefinition"])
    return body


LOG_GROUPS = {
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
    "TransformJob": "/aws/sagemaker/TransformJobs",
}


def job_of(step: Json) -> tuple[str, str] | None:
    """The kind (`TrainingJob`) and name of the job that an execution's step ran, or None if it ran none."""
    for kind in LOG_GROUPS:
        arn = step.get("Metadata", {}).get(kind, {}).get("Arn")
        if arn:
            return kind, str(arn).rpartition("/")[2]
    return None


def last_log_lines(session: Session, arn: str, step: Json, count: int) -> list[str]:
    """The last lines that a step's job printed, of all its hosts; none for a step without a job or output."""
    if session.environment.is_local:
        lines: list[str] = session.sagemaker.log_lines(arn, step["StepName"], count)
        return lines
    job = job_of(step)
    return job_lines(session, *job, count) if job else []


def job_lines(session: Session, kind: str, name: str, count: int) -> list[str]:
    """The last lines of a job on AWS, its hosts' streams one after the other."""
    logs = session.client("logs")
    group = LOG_GROUPS[kind]
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


def console_links(session: Session) -> dict[str, str]:
    """Addresses where an environment's executions and logs can be looked at."""
    where = (session.names.partition, session.names.region)
    return {"Studio": output.studio(*where), "CloudWatch": output.job_logs(*where)}


def billable_seconds(session: Session, step: Json) -> int | None:
    """The instance seconds of a step's job; None without a job of its own, or before its end."""
    job = job_of(step)
    if job is None or "CacheHitResult" in step or "SelectiveExecutionResult" in step or "EndTime" not in step:
        return None
    kind, name = job
    if kind == "TrainingJob":
        described = session.sagemaker.describe_training_job(TrainingJobName=name)
        seconds = described.get("BillableTimeInSeconds")
        count = described["ResourceConfig"].get("InstanceCount", 1)
        return int(seconds) * count if seconds is not None else None
    if kind == "ProcessingJob":
        described = session.sagemaker.describe_processing_job(ProcessingJobName=name)
        count = described["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        times = (described.get("ProcessingStartTime"), described.get("ProcessingEndTime"))
    else:
        described = session.sagemaker.describe_transform_job(TransformJobName=name)
        count = described["TransformResources"]["InstanceCount"]
        times = (described.get("TransformStartTime"), described.get("TransformEndTime"))
    start, end = times
    return round((end - start).total_seconds()) * count if start and end else None


def summary(session: Session, steps: list[Json]) -> str:
    """One line: the instance seconds of all steps."""
    found = {step["StepName"]: billable_seconds(session, step) for step in steps}
    billed = {name: seconds for name, seconds in found.items() if seconds is not None}
    parts = ", ".join(f"{name} {seconds}" for name, seconds in billed.items())
    return f"billable: {sum(billed.values())} instance seconds ({parts})" if billed else "billable: nothing, all cached"
