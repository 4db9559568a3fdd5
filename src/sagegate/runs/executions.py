"""Queries about executions: their steps and definition, the logs of their jobs, the seconds that AWS bills.

SageMaker's log groups are `/aws/sagemaker/ProcessingJobs`, `TrainingJobs` and `TransformJobs`; the names of a job's
streams start with the job's name and a slash (developer guide, "CloudWatch Logs for Amazon SageMaker AI").
"""

from __future__ import annotations

import json
from itertools import islice

from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.session import Session, is_missing, paginate

LOG_GROUPS = {
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
    "TransformJob": "/aws/sagemaker/TransformJobs",
    "TuningJob": "/aws/sagemaker/TrainingJobs",  # the logs of its training jobs, whose names start with its name
}


def latest_executions(session: Session, count: int) -> list[Json]:
    """Return the summaries of the latest executions, newest first; none if there is no pipeline yet."""
    summaries = paginate(
        session.sagemaker,
        "list_pipeline_executions",
        "PipelineExecutionSummaries",
        PipelineName=session.names.pipeline,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=min(count, 100),
    )
    try:
        return list(islice(summaries, count))
    except Exception as error:
        if is_missing(session, error):
            return []
        raise


def describe_execution(session: Session, name: str) -> Json:
    """Return an execution as SageMaker describes it; raise SagegateError if there is none."""
    try:
        found: Json = session.sagemaker.describe_pipeline_execution(PipelineExecutionArn=session.names.execution(name))
    except Exception as error:
        if is_missing(session, error):
            raise SagegateError(f"there is no execution {name}: `sagegate status{session.option}` lists them") from None
        raise
    return found


def execution_steps(session: Session, arn: str) -> list[Json]:
    """Return an execution's steps in the order they started."""
    request = {"PipelineExecutionArn": arn, "SortOrder": "Ascending"}
    return list(paginate(session.sagemaker, "list_pipeline_execution_steps", "PipelineExecutionSteps", **request))


def execution_definition(session: Session, arn: str) -> Json:
    """Return the definition that an execution runs."""
    described = session.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
    definition: Json = json.loads(described["PipelineDefinition"])
    return definition


def execution_parameters(session: Session, arn: str) -> dict[str, str]:
    """Return the parameters that an execution was started with; the others have the definition's defaults."""
    operation = "list_pipeline_parameters_for_execution"
    parameters = paginate(session.sagemaker, operation, "PipelineParameters", PipelineExecutionArn=arn)
    return {parameter["Name"]: str(parameter["Value"]) for parameter in parameters}


def job_of(step: Json) -> tuple[str, str] | None:
    """Return the kind (`TrainingJob`) and name of the job that an execution's step ran, or None."""
    for kind in LOG_GROUPS:
        arn = step.get("Metadata", {}).get(kind, {}).get("Arn")
        if arn:
            return kind, str(arn).rpartition("/")[2]
    return None


def last_log_lines(session: Session, arn: str, step: Json, count: int) -> list[str]:
    """Return the last lines that a step's job printed on its hosts; none for a step without a job or output."""
    if session.environment.is_local:
        lines: list[str] = session.sagemaker.log_lines(arn, step["StepName"], count)
        return lines
    job = job_of(step)
    if job and job[0] == "TuningJob":
        failed = failed_training_job(session, job[1])
        job = ("TrainingJob", failed["TrainingJobName"]) if failed else None
    return job_log_lines(session, *job, count) if job else []


def failed_training_job(session: Session, tuning_job: str) -> Json | None:
    """Return the summary of a training job of a tuning job on AWS that failed, or None."""
    listed = session.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=tuning_job, StatusEquals="Failed", MaxResults=1
    )
    return next(iter(listed["TrainingJobSummaries"]), None)


def tuning_result(session: Session, steps: list[Json]) -> str | None:
    """Return the best hyperparameters that a Tuning step found, as text; None if no such step has succeeded."""
    for step in steps:
        job = job_of(step)
        if job and job[0] == "TuningJob" and step["StepStatus"] == "Succeeded":
            described = session.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=job[1])
            best, counts = described["BestTrainingJob"], described["ObjectiveStatusCounters"]
            metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
            values = " ".join(f"{name}={value}" for name, value in sorted(best["TunedHyperParameters"].items()))
            failed = f", {counts['Failed']} failed" if counts.get("Failed") else ""
            return f"{metric['MetricName']} {metric['Value']:.5g} of {counts['Succeeded']} models{failed}: {values}"
    return None


def job_log_lines(session: Session, kind: str, name: str, count: int) -> list[str]:
    """Return the last lines of a job on AWS, one host's stream after the other."""
    logs = session.client("logs")
    group = LOG_GROUPS[kind]
    lines: list[str] = []
    request = {"logGroupName": group, "logStreamNamePrefix": f"{name}/"}
    try:
        for stream in paginate(logs, "describe_log_streams", "logStreams", **request):
            stream_request = {"logGroupName": group, "logStreamName": stream["logStreamName"], "limit": count}
            events = logs.get_log_events(**stream_request, startFromHead=False)["events"]
            lines += [str(event["message"]).rstrip("\n") for event in events]
    except logs.exceptions.ResourceNotFoundException:
        return []  # no job of this kind has printed anything yet
    return lines[-count:]


def billable_seconds(session: Session, step: Json) -> int | None:
    """Return the instance seconds that AWS bills for a step; None if it ran no job or the job has not ended.

    A job is billed from start to end on each instance, spot training by BillableTimeInSeconds ("Amazon SageMaker AI
    pricing"; DescribeTrainingJob in the API reference). A tuning job is billed for its training jobs; those on spot
    instances cost less than their time says.
    """
    job = job_of(step)
    if job is None or "CacheHitResult" in step or "SelectiveExecutionResult" in step or "EndTime" not in step:
        return None
    kind, name = job
    if kind == "TrainingJob":
        described = session.sagemaker.describe_training_job(TrainingJobName=name)
        billed = described.get("BillableTimeInSeconds")
        return None if billed is None else int(billed) * int(described["ResourceConfig"].get("InstanceCount", 1))
    if kind == "TuningJob":
        request = {"HyperParameterTuningJobName": name}
        definition = session.sagemaker.describe_hyper_parameter_tuning_job(**request)["TrainingJobDefinition"]
        operation = "list_training_jobs_for_hyper_parameter_tuning_job"
        jobs = paginate(session.sagemaker, operation, "TrainingJobSummaries", **request)
        ran = [job for job in jobs if "TrainingStartTime" in job and "TrainingEndTime" in job]
        times = [(job["TrainingEndTime"] - job["TrainingStartTime"]).total_seconds() for job in ran]
        return int(sum(times) * definition["ResourceConfig"]["InstanceCount"])
    if kind == "ProcessingJob":
        described = session.sagemaker.describe_processing_job(ProcessingJobName=name)
        count = described["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        start, end = described.get("ProcessingStartTime"), described.get("ProcessingEndTime")
    else:
        described = session.sagemaker.describe_transform_job(TransformJobName=name)
        count = described["TransformResources"]["InstanceCount"]
        start, end = described.get("TransformStartTime"), described.get("TransformEndTime")
    return round((end - start).total_seconds()) * count if start and end else None


def billed(session: Session, steps: list[Json]) -> str:
    """Return the billed instance seconds of all steps, as text."""
    seconds = {step["StepName"]: billable_seconds(session, step) for step in steps}
    known = {name: count for name, count in seconds.items() if count is not None}
    parts = ", ".join(f"{name} {count}" for name, count in known.items())
    return f"{sum(known.values())} instance seconds ({parts})" if known else "nothing, all cached"
