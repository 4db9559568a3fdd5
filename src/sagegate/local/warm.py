"""Whether a run will need the heavy libraries, guessed before anything is loaded: importing them then starts at once.

After a run, the modification times of what it read are noted. If they are the same now, every job will come from the
cache and nothing needs warming; a wrong guess costs some idle processor time and nothing else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILES = ("mlops.toml", "pipeline/definition.json", "environments/local.toml")
FOLDERS = ("model", "data")


def guess(root: Path, whole: bool) -> tuple[str, ...]:
    """The libraries to import now: those of the last run if something has changed since or all is to run, else none."""
    try:
        noted: dict[str, Any] = json.loads((root / ".mlops" / "warm.json").read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(noted["modules"]) if whole or noted["stamp"] != _stamp(root) else ()


def note(root: Path, modules: tuple[str, ...]) -> None:
    """Remember what a run read and which libraries its scripts import."""
    from sagegate.files import write_json

    write_json(root / ".mlops" / "warm.json", {"stamp": _stamp(root), "modules": modules})


def _stamp(root: Path) -> list[list[Any]]:
    names = [root / name for name in FILES]
    for folder in FOLDERS:
        if (root / folder).is_dir():
            names += [Path(entry.path) for entry in os.scandir(root / folder) if entry.is_file()]
    return [[str(f), f.stat().st_mtime_ns, f.stat().st_size] for f in sorted(names) if f.is_file()]
