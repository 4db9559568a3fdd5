"""The champion: a copy of the model approved or deployed last, with which every execution compares its candidate.

A deployment does not lower the bar: see `update_champion` in deployment/deploy.py.

`PROJECT/champion/` holds `model.tar.gz` and `champion.json`. Before the first approval it holds only the marker
`no-champion.json`, because the S3 prefix of a job's input must not be empty.
"""

from __future__ import annotations

import hashlib
import json

from sagegate.errors import SagegateError
from sagegate.files import Json, split_uri
from sagegate.registry.approval import artifact_uri
from sagegate.session import Session, read_object

MODEL, RECORD, MARKER = "model.tar.gz", "champion.json", "no-champion.json"


def current_champion(session: Session) -> Json | None:
    """Return the champion's record (`version`, `model_package_arn`, `digest`), or None if there is no champion.

    Raises SagegateError if the record is damaged.
    """
    uri = f"{session.names.artifacts}/champion/{RECORD}"
    content = read_object(session, uri)
    try:
        if content is None:
            return None
        record: Json = json.loads(content)
        if (type(record["version"]), type(record["digest"])) == (int, str):
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise SagegateError(f"{uri} is damaged: `sagegate approve VERSION --reason '...'` writes it again")


def ensure_marker(session: Session) -> None:
    """Write the marker if the champion's prefix is empty."""
    bucket, prefix = split_uri(f"{session.names.artifacts}/champion/")
    if not session.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"):
        note = {"champion": None, "note": "no model has been approved yet"}
        session.s3.put_object(Bucket=bucket, Key=prefix + MARKER, Body=json.dumps(note).encode())


def set_champion(session: Session, package: Json) -> None:
    """Make a model package (DescribeModelPackage's response) the champion.

    The record is written last and holds the artifact's digest. model/evaluate.py rejects a record whose digest is not
    the artifact's, so an interruption in between is noticed; approving again repairs it.
    """
    bucket, prefix = split_uri(f"{session.names.artifacts}/champion/")
    uri = artifact_uri(package)
    content = read_object(session, uri)
    if content is None:
        raise SagegateError(
            f"model {package['ModelPackageVersion']}: its artifact {uri} does not exist: run the pipeline again"
        )
    record = {
        "version": package["ModelPackageVersion"],
        "model_package_arn": package["ModelPackageArn"],
        "digest": hashlib.sha256(content).hexdigest(),
    }
    session.s3.put_object(Bucket=bucket, Key=prefix + MODEL, Body=content)
    session.s3.put_object(Bucket=bucket, Key=prefix + RECORD, Body=json.dumps(record, indent=1).encode())
    session.s3.delete_object(Bucket=bucket, Key=prefix + MARKER)


def clear_champion(session: Session) -> None:
    """Remove the champion and write the marker again."""
    bucket, prefix = split_uri(f"{session.names.artifacts}/champion/")
    for name in (RECORD, MODEL):
        session.s3.delete_object(Bucket=bucket, Key=prefix + name)
    ensure_marker(session)
