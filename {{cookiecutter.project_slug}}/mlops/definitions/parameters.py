"""What an environment puts into the pipeline's parameters, and the code and data it must store for that.

Pure: settings in, values and objects out. `mlops run` stores the objects and upserts the values as defaults, so that an
execution started by a schedule or from the console gets them too.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.definitions.code import code_parameters, objects, package
from mlops.errors import USAGE, MlopsError
from mlops.files import local_files, split_uri
from mlops.images import image_uri
from mlops.names import Names
from mlops.settings import Environment, Settings


@dataclass(frozen=True)
class Data:
    """The raw data: where it stands, the digest that is its version, and files of this machine to store there."""

    uri: str
    version: str
    files: dict[str, Path]


def find_data(root: Path, settings: Settings, names: Names, digest: Callable[[Path], str]) -> Data:
    """The data that `[data] source` names. Files of this machine get a place named by their digest.

    Raises MlopsError if the folder is missing or has no CSV file.
    """
    source = settings.data.source
    if source.startswith("s3://"):
        split_uri(source)
        return Data(source, "unversioned", {})
    folder = root / source
    if not folder.is_dir():
        raise MlopsError(f"mlops.toml: data.source: there is no folder {source!r}: put your CSV files there", USAGE)
    files = {name: file for name, file in local_files(folder) if file.suffix.lower() == ".csv"}
    if not files:
        raise MlopsError(f"{source}: no .csv file in this folder (mlops.toml, data.source)", USAGE)
    lines = [f"{name} {digest(file)}" for name, file in files.items()]
    version = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return Data(f"{names.artifacts}/raw/{version}", version, files)


def store_code(root: Path, definition: dict[str, Any], names: Names) -> tuple[dict[str, str], dict[str, bytes]]:
    """Each code parameter's URI, and the objects to store: key to content."""
    bucket, prefix = split_uri(f"{names.artifacts}/code")
    uris, contents = {}, {}
    for name, (script, as_archive) in code_parameters(definition).items():
        key, found = objects(package(root, script), prefix, as_archive)
        uris[name] = f"s3://{bucket}/{key}"
        contents.update(found)
    return uris, contents


def values(
    settings: Settings, environment: Environment, names: Names, data: Data, code: dict[str, str], commit: str
) -> dict[str, Any]:
    """The value of every parameter that the environment decides."""
    processing, training = environment.processing, environment.training
    return {
        "RoleArn": names.role,
        "ImageUri": image_uri(environment.region),
        "ArtifactsUri": names.artifacts,
        "ModelPackageGroupName": names.group,
        "ProcessingInstanceType": processing.instance_type,
        "ProcessingInstanceCount": processing.instance_count,
        "ProcessingVolumeSizeInGB": processing.volume_size_in_gb,
        "TrainingInstanceType": training.instance_type,
        "TrainingInstanceCount": training.instance_count,
        "TrainingVolumeSizeInGB": training.volume_size_in_gb,
        "InferenceInstanceType": environment.endpoint.instance_type,
        "MaxRuntimeInSeconds": environment.limits.max_runtime_in_seconds,
        "NotifyFunctionArn": names.notify_function,
        "InputDataUri": data.uri,
        "InputDataVersion": data.version,
        "ValidationFraction": settings.data.validation_fraction,
        "TestFraction": settings.data.test_fraction,
        "SplitSeed": settings.data.split_seed,
        "GateMetric": settings.gate.metric,
        "GateThreshold": settings.gate.threshold,
        "GateMinImprovement": settings.gate.min_improvement,
        "CodeCommit": commit,
        "CodeRepository": settings.project.repository,
        "StartedBy": "unknown",
        **code,
        **settings.hyperparameters,
    }


def code_commit(root: Path) -> str:
    """The checked-out commit, with `-dirty` if tracked files differ from it; `none` outside a git repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip()


def started_by() -> str:
    """Who starts an execution: GitHub's actor in a workflow, else this machine's user."""
    try:
        return (os.environ.get("GITHUB_ACTOR") or getpass.getuser())[:256]
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
