"""What an execution or a model shows for itself: metrics, the gate's numbers, the step that failed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sagegate.evaluation import Evaluation
from sagegate.files import split_uri
from sagegate.session import Session

Json = dict[str, Any]


def read_evaluation(session: Session, uri: str) -> Evaluation | None:
    """The evaluation at `uri`, or None if there is none that can be read."""
    bucket, key = split_uri(uri)
    try:
        content = session.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        found = json.loads(content)
    except (session.s3.exceptions.NoSuchKey, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    tables = [table for name, table in found.items() if name.endswith("_metrics") and isinstance(table, dict)]
    metrics = {
        name: (entry["value"], entry.get("standard_deviation"))
        for table in tables
        for name, entry in table.items()
        if isinstance(entry, dict) and isinstance(entry.get("value"), int | float)
    }
    return Evaluation(metrics, found.get("gate", {}), uri, hashlib.sha256(content).hexdigest(), found)


def object_bytes(session: Session, uri: str) -> bytes | None:
    """An object's content, or None if there is none at `uri`."""
    bucket, key = split_uri(uri)
    try:
        content: bytes = session.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except session.s3.exceptions.NoSuchKey:
        return None
    return content


def evaluation_of_package(session: Session, package: Json) -> Evaluation | None:
    """A model package's evaluation."""
    statistics = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    return read_evaluation(session, statistics["S3Uri"]) if "S3Uri" in statistics else None


def evaluation_of_steps(session: Session, definition: Json, steps: list[Json]) -> Evaluation | None:
    """The evaluation that an execution's steps wrote: the first property file of a step that succeeded."""
    declared = {s["Name"]: s["PropertyFiles"][0] for s in definition["Steps"] if s.get("PropertyFiles")}
    for step in steps:
        job = step.get("Metadata", {}).get("ProcessingJob")
        if job and step["StepName"] in declared:
            file = declared[step["StepName"]]
            description = session.sagemaker.describe_processing_job(ProcessingJobName=job["Arn"].rpartition("/")[2])
            outputs = description["ProcessingOutputConfig"]["Outputs"]
            output = next(o for o in outputs if o["OutputName"] == file["OutputName"])
            return read_evaluation(session, f"{output['S3Output']['S3Uri']}/{file['FilePath']}")
    return None


def rejection(steps: list[Json]) -> str | None:
    """The message of the Fail step that was reached, if one was."""
    messages = [s["Metadata"]["Fail"]["ErrorMessage"] for s in steps if "Fail" in s.get("Metadata", {})]
    return messages[0] if messages else None


def registered(steps: list[Json]) -> str | None:
    """The ARN of the model package that the execution registered, if it did."""
    arns = [s["Metadata"]["RegisterModel"]["Arn"] for s in steps if "RegisterModel" in s.get("Metadata", {})]
    return arns[0] if arns else None
