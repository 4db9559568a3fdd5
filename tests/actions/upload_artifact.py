"""Fake of actions/upload-artifact: copies the matching files to a folder of the test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from job import fail, inputs


def main() -> None:
    """Copy the files and keep their paths."""
    given = inputs()
    workspace = Path(os.environ["GITHUB_WORKSPACE"])
    target = Path(os.environ["FAKE_ARTIFACTS"]) / given["name"]
    found: set[Path] = set()
    for pattern in given["path"].split():
        for match in workspace.glob(pattern):
            found.update(match.rglob("*") if match.is_dir() else [match])
    files = [file for file in sorted(found) if file.is_file()]
    if given["include-hidden-files"] != "true":
        files = [f for f in files if not any(part.startswith(".") for part in f.relative_to(workspace).parts)]
    if not files and given["if-no-files-found"] == "error":
        fail("No files were found with the provided path")
    if given["archive"] == "false":
        if len(files) != 1:
            fail(f"archive: false takes a single file, not {len(files)}")
        target = target.with_name(files[0].name)  # such an artifact has the name of its file
    for file in files:
        copy = target / file.relative_to(workspace)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
        outputs.write(f"artifact-url=https://github.com/acme/my-model/actions/runs/1/artifacts/{len(files)}\n")
    print(f"{len(files)} files")


if __name__ == "__main__":
    main()
