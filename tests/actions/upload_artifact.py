"""Stands in for actions/upload-artifact: files whose path matches go to the test's folder, with their paths."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from job import fail, inputs


def main() -> None:
    """Copy."""
    asked = inputs()
    workspace = Path(os.environ["GITHUB_WORKSPACE"])
    target = Path(os.environ["STAND_IN_ARTIFACTS"]) / asked["name"]
    found: set[Path] = set()
    for pattern in asked["path"].split():
        for match in workspace.glob(pattern):
            found.update(match.rglob("*") if match.is_dir() else [match])
    files = [file for file in sorted(found) if file.is_file()]
    if asked["include-hidden-files"] != "true":
        files = [f for f in files if not any(part.startswith(".") for part in f.relative_to(workspace).parts)]
    if not files and asked["if-no-files-found"] == "error":
        fail("No files were found with the provided path")
    for file in files:
        place = target / file.relative_to(workspace)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    print(f"{len(files)} files")


if __name__ == "__main__":
    main()
