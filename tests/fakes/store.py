"""The engine's store over moto's S3: what a boto3 client uploads a job reads, what a job writes a client sees.

Jobs read files, so objects are laid out in a folder, one file per content, named by its SHA-256: a file
never changes, and a digest costs nothing.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from moto.s3.exceptions import MissingBucket
from moto.s3.models import FakeBucket, S3Backend, s3_backends
from moto.utilities.utils import get_partition

from sagegate.files import split_uri, write_atomically
from sagegate.local.storage import NoSuchKey, Store


class NoSuchBucket(OSError):
    """The bucket of `uri` does not exist."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri}: NoSuchBucket: The specified bucket does not exist")
        self.uri = uri


class MotoStore(Store):
    """S3 as an account sees it."""

    def __init__(self, folder: Path, account_id: str, region: str) -> None:
        super().__init__(folder)
        self.account_id = account_id
        self.region = region

    @property
    def backend(self) -> S3Backend:
        """moto's S3 of the account."""
        return s3_backends[self.account_id][get_partition(self.region)]

    def bucket(self, name: str, uri: str) -> FakeBucket:
        """A bucket; raises NoSuchBucket."""
        try:
            return self.backend.get_bucket(name)
        except MissingBucket:
            raise NoSuchBucket(uri) from None

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:
        """Store an object."""
        self.bucket(Bucket, f"s3://{Bucket}/{Key}")
        key = self.backend.put_object(Bucket, Key, Body)
        return {"ETag": key.etag}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """An object's content as a stream under `Body`; raises NoSuchKey."""
        self.bucket(Bucket, f"s3://{Bucket}/{Key}")
        found = self.backend.get_object(Bucket, Key)
        if found is None:
            raise NoSuchKey(f"no such object: s3://{Bucket}/{Key}")
        content = found.value
        return {"Body": io.BytesIO(content), "ContentLength": len(content)}

    def objects(self, uri: str) -> list[tuple[str, Path]]:
        """The objects at `uri` or below it, as `Store.objects` gives them; raises NoSuchBucket."""
        name, key = split_uri(uri)
        keys = list(self.bucket(name, uri).keys)  # at once: other threads write
        whole = key.rstrip("/")
        if whole in keys and not key.endswith("/"):
            return self._files(name, [(whole.rpartition("/")[2], whole)])
        below = f"{whole}/" if whole else ""
        return self._files(name, [(k.removeprefix(below), k) for k in sorted(keys) if k.startswith(below)])

    def _files(self, bucket: str, names: list[tuple[str, str]]) -> list[tuple[str, Path]]:
        found = []
        for name, key in names:
            stored = self.backend.get_object(bucket, key)  # None for an object that was deleted
            if stored is None or not name or name.endswith("/"):
                continue
            content = stored.value
            file = self.folder / hashlib.sha256(content).hexdigest()
            if not file.is_file():
                write_atomically(file, content)
            found.append((name, file))
        return found

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Move the files below a finished job's `folder` to `uri`; raises NoSuchBucket."""
        bucket, key = split_uri(uri)
        self.bucket(bucket, uri)
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            name = "/".join(filter(None, [key.rstrip("/"), file.relative_to(folder).as_posix()]))
            self.put_object(Bucket=bucket, Key=name, Body=file.read_bytes())
            file.unlink()

    def file_digest(self, file: Path) -> str:
        """Files are named by their SHA-256."""
        return file.name

    def save_digests(self) -> None:
        """Nothing to remember: names are digests."""
