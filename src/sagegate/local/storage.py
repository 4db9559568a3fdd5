"""An S3 client on a folder: `.mlops/s3/BUCKET/KEY`, with the calls and responses of boto3's that `sagegate` uses.

Objects appear whole or not at all: a file that is being written has a name of its own. SHA-256 digests are kept in
`.mlops/digests.json` by path, with what tells that a file changed, so that an unchanged object is not read again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sagegate.errors import SagegateError
from sagegate.files import TEMPORARY, Json, read_checked, split_uri, sync_file, write_atomically, write_json

TICK_NS = 2_000_000_000  # the coarsest clock of file systems: a file may change twice in it and show one time


class NoSuchKey(SagegateError):
    """boto3's `client.exceptions.NoSuchKey`."""


class Paginator:
    """boto3's paginator, for a call whose response has everything in one page."""

    def __init__(self, call: Callable[..., Json]) -> None:
        self.call = call

    def paginate(self, **request: Any) -> Iterator[Json]:
        """Yield the page."""
        yield self.call(**request)


class Store:
    """The objects of all buckets."""

    exceptions = SimpleNamespace(NoSuchKey=NoSuchKey)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests_file = folder.parent / "digests.json"
        self._has_new_digests = False

    # --- calls of boto3's S3 client --------------------------------------------------------------------------------
    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> Json:
        """Store an object, unless it is there already."""
        file = self.folder / Bucket / Key
        if not file.is_file() or file.stat().st_size != len(Body) or file.read_bytes() != Body:
            write_atomically(file, Body)
        return {}

    def upload_file(self, Filename: str, Bucket: str, Key: str) -> None:
        """Copy a local file into the store, unless it is there already."""
        source, file = Path(Filename), self.folder / Bucket / Key
        if not file.is_file() or self.file_digest(file) != self.file_digest(source):
            write_atomically(file, source.read_bytes())

    def get_object(self, *, Bucket: str, Key: str) -> Json:
        """Return an object's content as a stream under `Body`. Raises NoSuchKey."""
        try:
            return {"Body": io.BytesIO((self.folder / Bucket / Key).read_bytes())}
        except (FileNotFoundError, IsADirectoryError):
            raise NoSuchKey(f"no such object: s3://{Bucket}/{Key}") from None

    def list_objects_v2(self, *, Bucket: str, Prefix: str, **_: Any) -> Json:
        """Return the objects whose key starts with `Prefix`, all in one page."""
        folder, slash, start = Prefix.rpartition("/")
        names = [name for name, _ in self.objects(f"s3://{Bucket}/{folder}") if name.startswith(start)]
        return {"Contents": [{"Key": f"{folder}{slash}{name}"} for name in names]}

    def get_paginator(self, operation: str) -> Paginator:
        """Return a paginator for a call."""
        return Paginator(getattr(self, operation))

    def delete_object(self, *, Bucket: str, Key: str) -> Json:
        """Delete an object. As in S3, deleting a missing object is no error."""
        (self.folder / Bucket / Key).unlink(missing_ok=True)
        return {}

    # --- for jobs and the cache ------------------------------------------------------------------------------------
    def objects(self, uri: str) -> list[tuple[str, Path]]:
        """Return the objects at `uri` or below it as (name relative to `uri`, file), sorted by name.

        The URI of an object gives that object under its last name. Any other URI is taken as a folder: `s3://b/train`
        does not match `s3://b/training/x`.
        """
        bucket, key = split_uri(uri)
        top = self.folder / bucket / key
        if top.is_file():
            return [(top.name, top)]
        files = (f for f in top.rglob("*") if f.is_file() and not f.name.startswith(TEMPORARY))
        return sorted((f.relative_to(top).as_posix(), f) for f in files)

    def read(self, uri: str) -> bytes:
        """Return the content of the object at `uri`. Raises NoSuchKey."""
        bucket, key = split_uri(uri)
        content: bytes = self.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Move the files below a finished job's `folder` into the store at `uri`.

        S3 has no links: a link to a file becomes an object with the content of that file; other links are left out.
        """
        bucket, key = split_uri(uri)
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        for file in sorted(files, key=lambda f: not f.is_symlink()):  # links first: moving a file breaks links to it
            target = self.folder / bucket / key / file.relative_to(folder)
            if file.is_symlink():
                write_atomically(target, file.read_bytes())
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                sync_file(file)
                os.replace(file, target)

    def digest(self, uri: str) -> str:
        """Return the SHA-256 of the names and contents of the objects at `uri`; the empty string if there is none."""
        parts = [f"{name}\0{self.file_digest(file)}" for name, file in self.objects(uri)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""

    def file_digest(self, file: Path) -> str:
        """Return the SHA-256 of a file. It is computed again only if the file may have changed since.

        The digest of a file that was just written is not kept, as in git's index: it could change in the same tick.
        """
        taken, stat = time.time_ns(), file.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._digests.get(str(file))
        if known and known[:-1] == state:
            return str(known[-1])
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if max(stat.st_mtime_ns, stat.st_ctime_ns) < taken - TICK_NS:
            self._digests[str(file)] = [*state, digest]
            self._has_new_digests = True
        return digest

    def save_digests(self) -> None:
        """Save the digests for the next process."""
        if self._has_new_digests:
            self._has_new_digests = False
            known = {file: entry for file, entry in self._digests.copy().items() if os.path.exists(file)}
            with suppress(OSError):  # the next process computes them again
                write_json(self._digests_file, {"Files": known})

    @cached_property
    def _digests(self) -> dict[str, list[Any]]:
        """By path: size, times of modification and change in nanoseconds, inode and SHA-256."""
        try:
            return dict(json.loads(read_checked(self._digests_file))["Files"])
        except (OSError, ValueError):
            return {}
