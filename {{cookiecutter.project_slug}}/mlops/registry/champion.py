"""The champion: the last approved model, at a fixed place in the bucket, so that every execution compares with it.

`PROJECT/champion/` holds `model.tar.gz` and `champion.json`, or only the marker `no-champion.json` before the first
approval, because a job's input must not be empty.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mlops.aws import Door
from mlops.files import split_uri

MODEL, RECORD, MARKER = "model.tar.gz", "champion.json", "no-champion.json"


def current(door: Door) -> dict[str, Any] | None:
    """The champion's record (version, model_package_arn, digest), or None."""
    bucket, prefix = _place(door)
    try:
        body = door.s3.get_object(Bucket=bucket, Key=f"{prefix}/{RECORD}")["Body"].read()
    except door.s3.exceptions.NoSuchKey:
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def ensure_place(door: Door) -> None:
    """Put the marker where the champion will stand, if nothing is there."""
    bucket, prefix = _place(door)
    if not door.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents"):
        note = {"champion": None, "note": "no model has been approved yet"}
        door.s3.put_object(Bucket=bucket, Key=f"{prefix}/{MARKER}", Body=json.dumps(note).encode())


def crown(door: Door, package: dict[str, Any]) -> None:
    """Make a model package the champion.

    The record is written last and holds the artifact's digest: evaluate refuses a record and an artifact that do not
    belong together, so an interruption in between is noticed, and approving again mends it.
    """
    bucket, prefix = _place(door)
    source = split_uri(package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"])
    content = door.s3.get_object(Bucket=source[0], Key=source[1])["Body"].read()
    record = {
        "version": package["ModelPackageVersion"],
        "model_package_arn": package["ModelPackageArn"],
        "digest": hashlib.sha256(content).hexdigest(),
    }
    door.s3.put_object(Bucket=bucket, Key=f"{prefix}/{MODEL}", Body=content)
    door.s3.put_object(Bucket=bucket, Key=f"{prefix}/{RECORD}", Body=json.dumps(record, indent=1).encode())
    door.s3.delete_object(Bucket=bucket, Key=f"{prefix}/{MARKER}")


def dethrone(door: Door) -> None:
    """Leave the place without a champion."""
    bucket, prefix = _place(door)
    for key in (RECORD, MODEL):
        door.s3.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
    ensure_place(door)


def _place(door: Door) -> tuple[str, str]:
    return split_uri(f"{door.names.artifacts}/champion")
