"""Which files of a code package differ from those of the package that was there before."""

from __future__ import annotations

import io
import tarfile

from mlops.aws import Door, pages
from mlops.definitions.code import ARCHIVE
from mlops.definitions.difference import ADDED, CHANGED, REMOVED
from mlops.files import split_uri

Files = dict[str, bytes]


def file_changes(old: Files, new: Files) -> list[tuple[str, str]]:
    """Each file that was added, removed or changed, by name."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            found.append((ADDED, name))
        elif name not in new:
            found.append((REMOVED, name))
        elif old[name] != new[name]:
            found.append((CHANGED, name))
    return found


def stored(door: Door, uri: str) -> Files | None:
    """The files of a package in the bucket, packed or not; None if it is not there any more."""
    bucket, key = split_uri(uri)
    if not key.endswith(ARCHIVE):
        listed = pages(door.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=f"{key}/")
        files = {item["Key"].removeprefix(f"{key}/"): _content(door, bucket, item["Key"]) for item in listed}
        return files or None
    try:
        content = _content(door, bucket, key)
    except door.s3.exceptions.NoSuchKey:
        return None
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [(member.name, tar.extractfile(member)) for member in tar.getmembers() if member.isfile()]
        return {name: stream.read() for name, stream in members if stream}


def _content(door: Door, bucket: str, key: str) -> bytes:
    content: bytes = door.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content
