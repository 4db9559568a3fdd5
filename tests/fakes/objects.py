"""Objects in moto's S3, read and written by the services themselves (no request, no permission)."""

from __future__ import annotations

from urllib.parse import urlparse

from moto.s3.models import S3Backend, s3_backends


class NoSuchObject(Exception):
    """There is no object at this address."""


def _place(uri: str) -> tuple[S3Backend, str, str]:
    """s3://BUCKET/KEY -> the backend of the account that owns the bucket, the bucket, the key."""
    parts = urlparse(uri)
    bucket, key = parts.netloc, parts.path.lstrip("/")
    if bucket not in s3_backends.bucket_accounts:
        raise NoSuchObject(f"The specified bucket does not exist: {uri}")
    partition, account = s3_backends.bucket_accounts[bucket]
    return s3_backends[account][partition], bucket, key


def read(uri: str) -> bytes:
    """The content of the object at s3://BUCKET/KEY; raises NoSuchObject."""
    backend, bucket, key = _place(uri)
    found = backend.get_object(bucket, key)
    if found is None:
        raise NoSuchObject(f"The specified key does not exist: {uri}")
    return bytes(found.value)


def write(uri: str, content: bytes) -> None:
    """Put an object at s3://BUCKET/KEY; raises NoSuchObject if the bucket does not exist."""
    backend, bucket, key = _place(uri)
    backend.put_object(bucket, key, content)
