"""A model package with its evidence: what it was made from, by whom, how it was judged. Read from the registry.

The registry's entry names code, data and execution; evaluation.json, to which it points, has the numbers, the rows, the
versions of the libraries and the digest of the artifact that was evaluated.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from sagegate.errors import SagegateError
from sagegate.evaluation import Evaluation
from sagegate.files import split_uri
from sagegate.registry.evaluation import evaluation_of_package
from sagegate.session import Session

Json = dict[str, Any]
CHUNK = 1 << 20  # bytes
ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):model-package/(?P<rest>.+)")


@dataclass(frozen=True)
class Lineage:
    """One model package. What an older artifact did not record is empty, never guessed."""

    arn: str
    group: str
    version: int
    account_id: str
    region: str
    approval: str
    artifact_uri: str
    artifact_sha256: str | None  # of the artifact that was evaluated
    evaluation: Evaluation | None
    data_uri: str
    data_version: str
    rows: dict[str, int]
    commit: str
    repository: str
    execution_arn: str
    started_by: str
    libraries: dict[str, str]


def of_package(session: Session, package: Json) -> Lineage:
    """The lineage of a package, which is in the shape of DescribeModelPackage's response."""
    arn = package["ModelPackageArn"]
    place = ARN.fullmatch(arn)
    if place is None:
        raise SagegateError(f"{arn} is not the ARN of a model package")
    known = package.get("CustomerMetadataProperties", {})
    evaluation = evaluation_of_package(session, package)
    made_of = evaluation.body.get("lineage", {}) if evaluation else {}
    return Lineage(
        arn=arn,
        group=package["ModelPackageGroupName"],
        version=package["ModelPackageVersion"],
        account_id=place["account"],
        region=place["region"],
        approval=package["ModelApprovalStatus"],
        artifact_uri=package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"],
        artifact_sha256=made_of.get("artifact_sha256"),
        evaluation=evaluation,
        data_uri=known.get("data_uri", ""),
        data_version=known.get("data_version", ""),
        rows=made_of.get("rows", {}),
        commit=known.get("commit", ""),
        repository=known.get("repository", ""),
        execution_arn=known.get("execution", ""),
        started_by=known.get("started_by", ""),
        libraries=made_of.get("versions", {}),
    )


def artifact_digest(session: Session, lineage: Lineage) -> str:
    """SHA-256 of the artifact as it lies in S3 now.

    Raises SagegateError if it is gone, or is not the one that was evaluated.
    """
    bucket, key = split_uri(lineage.artifact_uri)
    try:
        body = session.s3.get_object(Bucket=bucket, Key=key)["Body"]
    except session.s3.exceptions.NoSuchKey:
        raise SagegateError(
            f"model {lineage.version}: its artifact {lineage.artifact_uri} is gone: run again"
        ) from None
    digest = hashlib.sha256()
    while chunk := body.read(CHUNK):
        digest.update(chunk)
    found = digest.hexdigest()
    if lineage.artifact_sha256 not in (None, found):
        raise SagegateError(
            f"model {lineage.version}: {lineage.artifact_uri} is not the artifact that was evaluated (SHA-256 {found},"
            f" evaluated {lineage.artifact_sha256}): find out who changed it, and run the pipeline again"
        )
    return found


def rows_for_people(lineage: Lineage) -> list[tuple[str, str]]:
    """What is known, as (name, value) pairs."""
    evaluation = lineage.evaluation
    pairs = [
        ("artifact", lineage.artifact_uri),
        ("artifact SHA-256", lineage.artifact_sha256 or ""),
        ("evaluation", evaluation.uri if evaluation else ""),
        ("data", lineage.data_uri),
        ("data version", lineage.data_version),
        ("rows", ", ".join(f"{name} {count}" for name, count in sorted(lineage.rows.items()))),
        ("commit", lineage.commit),
        ("repository", lineage.repository),
        ("execution", lineage.execution_arn),
        ("started by", lineage.started_by),
        ("libraries", ", ".join(f"{name} {version}" for name, version in sorted(lineage.libraries.items()))),
    ]
    return [(name, value) for name, value in pairs if value]
