"""Files written whole or not at all, and archives that are the same bytes for the same content."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(file: Path, content: bytes) -> None:
    """Write `content` to `file` through a temporary file beside it: a reader sees the old or the new, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(file: Path, value: Any) -> None:
    """Write `value` as JSON, atomically; timestamps become ISO 8601."""
    write_atomically(file, json.dumps(value, indent=1, default=lambda v: v.isoformat()).encode())


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of `files` (name to content) that depends on nothing else: no times, owners or modes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()


def files_under(folder: Path) -> dict[str, bytes]:
    """The files below `folder`: relative name (with /) to content."""
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
