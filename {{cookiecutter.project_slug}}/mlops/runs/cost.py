"""What an execution on AWS will be billed for: instance seconds, by step and in all.

A job is billed from its start to its end on each instance; spot training by BillableTimeInSeconds ("Amazon SageMaker AI
pricing"; DescribeTrainingJob in the API reference).
"""

from __future__ import annotations

from typing import Any

from mlops.aws import Door
from mlops.runs.logs import job_of

Json = dict[str, Any]


def billable_seconds(door: Door, step: Json) -> int | None:
    """The instance seconds of a step's job; None without a job of its own, or before its end."""
    job = job_of(step)
    if job is None or "CacheHitResult" in step or "SelectiveExecutionResult" in step or "EndTime" not in step:
        return None
    kind, name = job
    if kind == "TrainingJob":
        described = door.sagemaker.describe_training_job(TrainingJobName=name)
        seconds = described.get("BillableTimeInSeconds")
        count = described["ResourceConfig"].get("InstanceCount", 1)
        return int(seconds) * count if seconds is not None else None
    if kind == "ProcessingJob":
        described = door.sagemaker.describe_processing_job(ProcessingJobName=name)
        count = described["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        times = (described.get("ProcessingStartTime"), described.get("ProcessingEndTime"))
    else:
        described = door.sagemaker.describe_transform_job(TransformJobName=name)
        count = described["TransformResources"]["InstanceCount"]
        times = (described.get("TransformStartTime"), described.get("TransformEndTime"))
    start, end = times
    return round((end - start).total_seconds()) * count if start and end else None


def summary(door: Door, steps: list[Json]) -> str:
    """One line: the instance seconds of all steps."""
    found = {step["StepName"]: billable_seconds(door, step) for step in steps}
    billed = {name: seconds for name, seconds in found.items() if seconds is not None}
    parts = ", ".join(f"{name} {seconds}" for name, seconds in billed.items())
    return f"billable: {sum(billed.values())} instance seconds ({parts})" if billed else "billable: nothing, all cached"
