"""What became of each deployment: `s3://BUCKET/PROJECT/deployments/ENV/TIME-VERSION.json`, written by `mlops deploy`.

Records are only added. Their names sort by time, so the last one says how the environment is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mlops.aws import Door, pages
from mlops.errors import MlopsError
from mlops.files import split_uri
from mlops.sections import Section, Sha256, Version, convert

STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


class Record(Section, frozen=True):
    """One deployment: which model, from which commit and pull request, by whom, with what result.

    `details` is what else is worth keeping, such as the smoke test's numbers.
    """

    environment: str
    version: Version
    model_package_arn: str
    artifact_sha256: Sha256
    result: Literal["healthy", "failed"]
    reason: str
    commit: str
    deployed_by: str
    at: str  # UTC, as STAMP writes it
    pull_request: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


def now() -> str:
    """The time for a record."""
    return datetime.now(UTC).strftime(STAMP)


def write(door: Door, record: Record) -> str:
    """Store a record in the bucket of the door's environment; its URI."""
    uri = f"{_place(door, record.environment)}{record.at}-{record.version}.json"
    bucket, key = split_uri(uri)
    door.s3.put_object(Bucket=bucket, Key=key, Body=msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return uri


def latest(door: Door, environment: str | None = None) -> Record | None:
    """The last record of an environment (the door's own by default), or None; raises MlopsError for a broken one."""
    bucket, prefix = split_uri(_place(door, environment or door.environment.name))
    keys = [item["Key"] for item in pages(door.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)]
    if not keys:
        return None
    return _read(door, bucket, max(keys))


def records(door: Door, environment: str | None = None) -> Iterator[Record]:
    """The records of an environment (the door's own by default) in the door's bucket, the newest first."""
    bucket, prefix = split_uri(_place(door, environment or door.environment.name))
    keys = [item["Key"] for item in pages(door.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)]
    for key in sorted(keys, reverse=True):
        yield _read(door, bucket, key)


def last_healthy(door: Door, other_than: str = "", environment: str | None = None) -> Record | None:
    """The last healthy deployment in an environment (the door's own by default): what it serves.

    With `other_than`, a digest: the last one of another artifact.
    """
    found = (r for r in records(door, environment) if r.result == "healthy" and r.artifact_sha256 != other_than)
    return next(found, None)


def last_of(door: Door, arn: str, digest: str, environment: str | None = None) -> Record | None:
    """The last deployment in an environment (the door's own by default) of one model package with one artifact."""
    wanted = (arn, digest)
    return next((r for r in records(door, environment) if (r.model_package_arn, r.artifact_sha256) == wanted), None)


def _place(door: Door, environment: str) -> str:
    return f"{door.names.artifacts}/deployments/{environment}/"


def _read(door: Door, bucket: str, key: str) -> Record:
    content = door.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        return convert(Record, json.loads(content), "record")
    except ValueError as error:
        raise MlopsError(f"s3://{bucket}/{key} is not a deployment record ({error}): deploy again") from None
