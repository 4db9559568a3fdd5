"""S3: moto's objects as files for jobs, and as bytes for endpoints.

Jobs read files, so the content of an object is stored once, in a file named by its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from moto.s3.exceptions import MissingBucket
from moto.s3.models import FakeBucket, S3Backend, s3_backends
from moto.utilities.utils import get_partition

from sagegate.files import Json, split_uri, write_atomically
from sagegate.local.storage import NoSuchKey, Store


class NoSuchBucket(OSError):
    """The bucket of `uri` does not exist."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri}: NoSuchBucket: The specified bucket does not exist")
        self.uri = uri


class MotoStore(Store):
    """The local engine's store, on an account's buckets in moto."""

    def __init__(self, folder: Path, account_id: str, region: str) -> None:
        super().__init__(folder)
        self.account_id = account_id
        self.region = region

    @property
    def backend(self) -> S3Backend:
        """moto's S3 of the account."""
        return s3_backends[self.account_id][get_partition(self.region)]

    def bucket(self, name: str, uri: str) -> FakeBucket:
        """Return a bucket; raises NoSuchBucket."""
        try:
            return self.backend.get_bucket(name)
        except MissingBucket:
            raise NoSuchBucket(uri) from None

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> Json:
        """Store an object; raises NoSuchBucket."""
        self.bucket(Bucket, f"s3://{Bucket}/{Key}")
        return {"ETag": self.backend.put_object(Bucket, Key, Body).etag}

    def get_object(self, *, Bucket: str, Key: str) -> Json:
        """Return an object's content as a stream under `Body`; raises NoSuchKey."""
        self.bucket(Bucket, f"s3://{Bucket}/{Key}")
        found = self.backend.get_object(Bucket, Key)
        if found is None:
            raise NoSuchKey(f"no such object: s3://{Bucket}/{Key}")
        return {"Body": io.BytesIO(found.value), "ContentLength": len(found.value)}

    def objects(self, uri: str) -> list[tuple[str, Path]]:
        """Return (name, file) of the object at `uri` or of those below it; raises NoSuchBucket."""
        bucket, key = split_uri(uri)
        keys = list(self.bucket(bucket, uri).keys)  # a copy, because other threads write
        whole = key.rstrip("/")
        if whole in keys and not key.endswith("/"):
            names = [(whole.rpartition("/")[2], whole)]
        else:
            below = f"{whole}/" if whole else ""
            names = [(k.removeprefix(below), k) for k in sorted(keys) if k.startswith(below)]
        found = []
        for name, key in names:
            stored = self.backend.get_object(bucket, key)  # None if the object was deleted
            if stored is not None and name and not name.endswith("/"):
                file = self.folder / hashlib.sha256(stored.value).hexdigest()
                if not file.is_file():
                    write_atomically(file, stored.value)
                found.append((name, file))
        return found

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Move the files below `folder` to `uri`; raises NoSuchBucket."""
        bucket, key = split_uri(uri)
        self.bucket(bucket, uri)
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            name = "/".join(filter(None, [key.rstrip("/"), file.relative_to(folder).as_posix()]))
            self.put_object(Bucket=bucket, Key=name, Body=file.read_bytes())
            file.unlink()

    def file_digest(self, file: Path) -> str:
        """Return the file's name, which is its digest."""
        return file.name

    def save_digests(self) -> None:
        """Do nothing, because file names are digests."""


class NoSuchObject(Exception):
    """The object or its bucket does not exist."""


def read(uri: str) -> bytes:
    """Return the content of an object in any account; raises NoSuchObject."""
    backend, bucket, key = _locate(uri)
    found = backend.get_object(bucket, key)
    if found is None:
        raise NoSuchObject(f"The specified key does not exist: {uri}")
    return bytes(found.value)


def write(uri: str, content: bytes) -> None:
    """Store an object in any account; raises NoSuchObject if the bucket does not exist."""
    backend, bucket, key = _locate(uri)
    backend.put_object(bucket, key, content)


def _locate(uri: str) -> tuple[S3Backend, str, str]:
    bucket, key = split_uri(uri)
    if bucket not in s3_backends.bucket_accounts:
        raise NoSuchObject(f"The specified bucket does not exist: {uri}")
    partition, account = s3_backends.bucket_accounts[bucket]
    return s3_backends[account][partition], bucket, key
