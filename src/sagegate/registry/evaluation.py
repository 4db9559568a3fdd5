"""Results of an execution or a model package: its evaluation, the gate's rejection, the registered model."""

from __future__ import annotations

import hashlib
import json

from sagegate.evaluation import Evaluation
from sagegate.files import Json
from sagegate.session import Session, is_missing, read_object

REPORT = "report.html"


def read_evaluation(session: Session, uri: str) -> Evaluation | None:
    """Return the evaluation stored at `uri`, or None if it does not exist or is not a JSON object."""
    content = read_object(session, uri)
    try:
        body = json.loads(content) if content is not None else None
    except (ValueError, RecursionError):
        return None
    if content is None or not isinstance(body, dict):
        return None
    tables = [table for name, table in body.items() if name.endswith("_metrics") and isinstance(table, dict)]
    metrics = {
        name: (entry["value"], entry.get("standard_deviation"))
        for table in tables
        for name, entry in table.items()
        if isinstance(entry, dict) and isinstance(entry.get("value"), int | float)
    }
    for name in ("gate", "lineage"):
        body[name] = body[name] if isinstance(body.get(name), dict) else {}
    return Evaluation(metrics, body["gate"], uri, hashlib.sha256(content).hexdigest(), body)


def read_report(session: Session, uri: str | None) -> bytes | None:
    """Return the page that Evaluate wrote beside the evaluation at `uri`, or None without one."""
    return read_object(session, f"{uri.rpartition('/')[0]}/{REPORT}") if uri else None


def evaluation_of_package(session: Session, package: Json) -> Evaluation | None:
    """Return the evaluation that a model package (DescribeModelPackage's response) names."""
    uri = statistics_uri(package)
    return read_evaluation(session, uri) if uri else None


def statistics_uri(package: Json) -> str | None:
    """Return where the evaluation is that a model package (DescribeModelPackage's response) names."""
    uri: str | None = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {}).get("S3Uri")
    return uri


def evaluation_of_steps(session: Session, definition: Json, steps: list[Json]) -> Evaluation | None:
    """Return the evaluation that an execution wrote, None if it wrote none."""
    uri = evaluation_uri(session, definition, steps)
    return read_evaluation(session, uri) if uri else None


def evaluation_uri(session: Session, definition: Json, steps: list[Json]) -> str | None:
    """Return where an execution's evaluation is: the first property file of a processing step that has run."""
    declared = {s["Name"]: s["PropertyFiles"][0] for s in definition["Steps"] if s.get("PropertyFiles")}
    for step in steps:
        job = step.get("Metadata", {}).get("ProcessingJob")
        if job and step["StepName"] in declared:
            file = declared[step["StepName"]]
            name = job["Arn"].rpartition("/")[2]
            try:
                description = session.sagemaker.describe_processing_job(ProcessingJobName=name)
            except Exception as error:
                if is_missing(session, error):
                    return None
                raise
            outputs = {o["OutputName"]: o["S3Output"] for o in description["ProcessingOutputConfig"]["Outputs"]}
            return f"{outputs[file['OutputName']]['S3Uri']}/{file['FilePath']}"
    return None


def rejection_message(steps: list[Json]) -> str | None:
    """Return the message of the Fail step that an execution reached, if it reached one."""
    messages = (s["Metadata"]["Fail"]["ErrorMessage"] for s in steps if "Fail" in s.get("Metadata", {}))
    return next(messages, None)


def registered_model(steps: list[Json]) -> str | None:
    """Return the ARN of the model package that an execution registered, if it registered one."""
    arns = (s["Metadata"]["RegisterModel"]["Arn"] for s in steps if "RegisterModel" in s.get("Metadata", {}))
    return next(arns, None)
