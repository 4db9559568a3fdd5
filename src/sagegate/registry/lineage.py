"""The lineage of a model package: code, data, execution, evaluation and libraries.

The model package names code, data and execution in its metadata. The evaluation.json that it points to holds the
metrics, row counts, library versions and the digest of the evaluated artifact.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sagegate.errors import SagegateError
from sagegate.evaluation import Evaluation
from sagegate.files import Json
from sagegate.registry.evaluation import evaluation_of_package
from sagegate.session import Session, read_object

ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):model-package/(?P<rest>.+)")


@dataclass(frozen=True)
class Lineage:
    """One model package. A field that an older package did not record is empty."""

    arn: str
    group: str
    version: int
    account_id: str
    region: str
    approval: str
    artifact_uri: str
    artifact_sha256: str | None  # of the evaluated artifact
    evaluation: Evaluation | None
    data_uri: str
    data_version: str
    rows: dict[str, int]
    hyperparameters: dict[str, object]
    commit: str
    repository: str
    execution_arn: str
    started_by: str
    overrides: str
    libraries: dict[str, str]


def read_lineage(session: Session, package: Json) -> Lineage:
    """Return the lineage of a model package (DescribeModelPackage's response)."""
    arn = package["ModelPackageArn"]
    parsed = ARN.fullmatch(arn)
    if parsed is None:
        raise SagegateError(f"{arn} is not the ARN of a model package")
    metadata = package.get("CustomerMetadataProperties", {})
    evaluation = evaluation_of_package(session, package)
    recorded = evaluation.body.get("lineage", {}) if evaluation else {}
    return Lineage(
        arn=arn,
        group=package["ModelPackageGroupName"],
        version=package["ModelPackageVersion"],
        account_id=parsed["account"],
        region=parsed["region"],
        approval=package["ModelApprovalStatus"],
        artifact_uri=package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"],
        artifact_sha256=recorded.get("artifact_sha256"),
        evaluation=evaluation,
        data_uri=metadata.get("data_uri", ""),
        data_version=metadata.get("data_version", ""),
        rows=recorded.get("rows", {}),
        hyperparameters=recorded.get("hyperparameters", {}),
        commit=metadata.get("commit", ""),
        repository=metadata.get("repository", ""),
        execution_arn=metadata.get("execution", ""),
        started_by=metadata.get("started_by", ""),
        overrides=metadata.get("overrides", ""),
        libraries=recorded.get("versions", {}),
    )


def read_artifact(session: Session, lineage: Lineage) -> bytes:
    """Return the artifact that S3 holds now. Raises SagegateError if it is not the evaluated one, or missing."""
    content = read_object(session, lineage.artifact_uri)
    if content is None:
        raise SagegateError(
            f"model {lineage.version}: its artifact {lineage.artifact_uri} does not exist: run the pipeline again"
        )
    actual = hashlib.sha256(content).hexdigest()
    if lineage.artifact_sha256 not in (None, actual):
        raise SagegateError(
            f"model {lineage.version}: {lineage.artifact_uri} is not the artifact that was evaluated (SHA-256 {actual},"
            f" evaluated {lineage.artifact_sha256}): find out who changed it, and run the pipeline again"
        )
    return content


def lineage_rows(lineage: Lineage) -> list[tuple[str, str]]:
    """Return (name, value) pairs for the terminal; a value may be empty."""
    return [
        ("artifact", lineage.artifact_uri),
        ("artifact SHA-256", lineage.artifact_sha256 or ""),
        ("gate", str(lineage.evaluation.gate.get("reason", "")) if lineage.evaluation else ""),
        ("evaluation", lineage.evaluation.uri if lineage.evaluation else ""),
        ("data", lineage.data_uri),
        ("data version", lineage.data_version),
        ("rows", ", ".join(f"{name} {count}" for name, count in sorted(lineage.rows.items()))),
        ("hyperparameters", ", ".join(f"{name} {value}" for name, value in sorted(lineage.hyperparameters.items()))),
        ("commit", lineage.commit),
        ("repository", lineage.repository),
        ("execution", lineage.execution_arn),
        ("started by", lineage.started_by),
        ("overrides", lineage.overrides),
        ("libraries", ", ".join(f"{name} {version}" for name, version in sorted(lineage.libraries.items()))),
    ]
