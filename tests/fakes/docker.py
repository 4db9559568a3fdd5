"""A fake of the command docker: `install` puts it into a folder for the PATH. A push goes to the fake AWS's ECR.

As with BuildKit, an image has an OCI manifest unless --output says otherwise, and an index if it has attestations.
Every call's arguments are a line of JSON in the file calls.jsonl beside the command.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def install(folder: Path) -> Path:
    """Write the command into a new folder; return the file with its calls."""
    folder.mkdir()
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\nFAKE_DOCKER={folder} exec {sys.executable} {__file__} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return folder / "calls.jsonl"


def main(args: list[str]) -> None:
    """Note the call, and do it."""
    calls = Path(os.environ["FAKE_DOCKER"]) / "calls.jsonl"
    before = [json.loads(line) for line in calls.read_text("utf-8").splitlines()] if calls.exists() else []
    with calls.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(args)}\n")
    if args[0] == "login":
        assert sys.stdin.read().strip(), "no password"
        return
    assert args[:2] == ["buildx", "build"], args
    given = dict(arg.partition("=")[::2] for arg in args if arg.startswith("--"))
    dockerfile = (Path(args[-1]) / "Dockerfile").read_text(encoding="utf-8")
    if "FROM $BASE" not in dockerfile:
        sys.exit("ERROR: failed to solve: base name should not be blank")
    base, (repository, _, tag) = given["--build-arg"].removeprefix("BASE="), given["--tag"].rpartition(":")
    logins = {call[-1] for call in before if call[0] == "login"}
    assert {base.partition("/")[0], repository.partition("/")[0]} <= logins, "no basic auth credentials"
    plain = "oci-mediatypes=false" in given["--output"] and "push=true" in given["--output"]
    kind = INDEX if given.get("--provenance") != "false" else DOCKER if plain else OCI
    layer = f"sha256:{hashlib.sha256(dockerfile.encode() + tag.encode()).hexdigest()}"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": layer}, "layers": [{"digest": layer}]}
    import boto3  # not above, because most calls do without it

    host, _, name = repository.partition("/")
    ecr = boto3.client("ecr", region_name=host.split(".")[3])
    ecr.put_image(registryId=host.split(".")[0], repositoryName=name, imageTag=tag, imageManifest=json.dumps(manifest))


if __name__ == "__main__":
    main(sys.argv[1:])
