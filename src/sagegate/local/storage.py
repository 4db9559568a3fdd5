"""S3 as a folder: `.mlops/s3/BUCKET/KEY`, with the calls and response shapes of boto3's S3 client that the verbs use.

Objects appear whole or not at all. Their SHA-256 is remembered by path, size and modification time, so an unchanged
object is not read again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any

from sagegate.files import split_uri, write_atomically


class NoSuchKey(Exception):
    """There is no object with that key; boto3's `client.exceptions.NoSuchKey`."""


class Exceptions:
    """What `client.exceptions` holds."""

    NoSuchKey = NoSuchKey


class Store:
    """A folder that answers like S3."""

    exceptions = Exceptions

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._memo_file = folder.parent / "digests.json"
        self._memo: dict[str, list[Any]] | None = None
        self._dirty = False
        self._lock = Lock()

    # --- boto3's S3 client -----------------------------------------------------------------------------------------
    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:
        """Store an object."""
        write_atomically(self._path(Bucket, Key), Body)
        return {"ETag": f'"{hashlib.md5(Body, usedforsecurity=False).hexdigest()}"'}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """An object's content as a stream under `Body`."""
        try:
            content = self._path(Bucket, Key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NoSuchKey(f"no such object: s3://{Bucket}/{Key}") from None
        return {"Body": io.BytesIO(content), "ContentLength": len(content)}

    def list_objects_v2(self, *, Bucket: str, Prefix: str = "", **_: Any) -> dict[str, Any]:
        """The objects whose key starts with `Prefix`, all in one page."""
        root = self.folder / Bucket
        below = root / Prefix.rpartition("/")[0]
        files = sorted(f for f in below.rglob("*") if f.is_file()) if below.is_dir() else []
        keys = [(f.relative_to(root).as_posix(), f) for f in files if not f.name.startswith(".")]
        found = [{"Key": key, "Size": f.stat().st_size} for key, f in keys if key.startswith(Prefix)]
        return {"Contents": found, "KeyCount": len(found), "IsTruncated": False} if found else {"KeyCount": 0}

    def copy_object(self, *, Bucket: str, Key: str, CopySource: dict[str, str]) -> dict[str, Any]:
        """Copy an object inside the store."""
        source = self.get_object(Bucket=CopySource["Bucket"], Key=CopySource["Key"])
        return self.put_object(Bucket=Bucket, Key=Key, Body=source["Body"].read())

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """Remove an object; removing a missing one is no error, as in S3."""
        self._path(Bucket, Key).unlink(missing_ok=True)
        return {}

    def upload_file(self, Filename: str, Bucket: str, Key: str) -> None:
        """Copy a file of this machine into the store."""
        target = self._path(Bucket, Key)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            shutil.copyfile(Filename, temporary)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    # --- what jobs need --------------------------------------------------------------------------------------------
    def objects(self, uri: str) -> list[tuple[str, Path]]:
        """The objects at `uri` or below it: (name relative to `uri`, file), sorted by name.

        An object's own URI gives that one object under its last name. `uri` is taken as a folder: `s3://b/train` does
        not match `s3://b/training/x`.
        """
        bucket, key = split_uri(uri)
        top = self._path(bucket, key.rstrip("/"))
        if top.is_file():
            return [(top.name, top)]
        files = (f for f in top.rglob("*") if f.is_file() and not f.name.startswith("."))
        return sorted((f.relative_to(top).as_posix(), f) for f in files)

    def download(self, objects: list[tuple[str, Path]], folder: Path) -> None:
        """Copy objects into a job's folder."""
        for name, file in objects:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Move the files below a finished job's `folder` into the store at `uri`.

        There are no links in S3: for one to a file, the store gets what that file holds; others are left out.
        """
        bucket, key = split_uri(uri)
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        for file in sorted(files, key=lambda f: not f.is_symlink()):  # links first, while what they point to is there
            name = "/".join([key.rstrip("/"), file.relative_to(folder).as_posix()])
            if file.is_symlink():
                self.upload_file(str(file), bucket, name)
                continue
            target = self._path(bucket, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)

    def read(self, uri: str) -> bytes:
        """The content of the object at `uri`; raises NoSuchKey."""
        bucket, key = split_uri(uri)
        content: bytes = self.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def digest(self, uri: str) -> str:
        """SHA-256 over the names and contents of the objects at `uri`; the empty string if there is none."""
        parts = [f"{name}\0{self.file_digest(file)}" for name, file in self.objects(uri)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""

    def file_digest(self, file: Path) -> str:
        """SHA-256 of a file, remembered while its size and modification time stay."""
        stat = file.stat()
        with self._lock:
            memo = self._memo = self._load_memo() if self._memo is None else self._memo
            known = memo.get(str(file))
        if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(known[2])
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with self._lock:
            memo[str(file)] = [stat.st_size, stat.st_mtime_ns, digest]
            self._dirty = True
        return digest

    def save_digests(self) -> None:
        """Keep the digests for the next process."""
        with self._lock:
            if self._dirty and self._memo is not None:
                kept = {name: entry for name, entry in self._memo.items() if os.path.exists(name)}
                write_atomically(self._memo_file, json.dumps(kept).encode())
                self._dirty = False

    def _load_memo(self) -> dict[str, list[Any]]:
        try:
            memo: dict[str, list[Any]] = json.loads(self._memo_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return memo

    def _path(self, bucket: str, key: str) -> Path:
        if ".." in key.split("/") or not bucket:
            raise ValueError(f"{bucket}/{key} is not a place in the store")
        return self.folder / bucket / key
