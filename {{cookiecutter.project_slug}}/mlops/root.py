"""Where the project is. Apart from the settings, so that finding it imports nothing."""

from __future__ import annotations

from pathlib import Path

from mlops.errors import USAGE, MlopsError


def find_root(start: Path | None = None) -> Path:
    """The project's folder: the nearest one upwards that holds `mlops.toml`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "mlops.toml").is_file():
            return folder
    raise MlopsError(f"no mlops.toml in {here} or above it: run mlops inside a generated project", USAGE)
