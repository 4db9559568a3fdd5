"""What an environment lays over the definition because no pipeline parameter can say it: network, key, spot training.

Pure, and applied at the moment of the upsert, so `pipeline/definition.json` stays the same in every environment. A
job's own setting, written in pipeline.py, is never replaced.
What an environment puts into the pipeline's parameters, and the code and data it must store for that.

Pure: settings in, values and objects out. `sagegate run` stores the objects and upserts the values as defaults, so that an
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

from sagegate.config import Environment, Settings, image_uri
from sagegate.errors import USAGE, SagegateError
from sagegate.files import local_files, split_uri
from sagegate.names import Names
from sagegate.pipeline.code import code_parameters, objects, package

Json = dict[str, Any]


def apply_environment(definition: Json, environment: Environment) -> Json:
    """The definition as this environment runs it."""

    def changed(body: Json) -> Json:
        lay = LAYERS.get(body["Type"])
        return {**body, "Arguments": lay(body["Arguments"], environment)} if lay else body

    return map_steps(definition, changed)


def set_caching(definition: Json, enabled: bool) -> Json:
    """The definition for this machine: every job's cache on, or off with `--no-cache`.

    SageMaker's cache compares S3 URIs, so a step that reads a fixed place (the champion's) must not use it there. The
    local cache compares what the URIs hold, so here every job can.
    """

    def changed(body: Json) -> Json:
        if body["Type"] not in ("Processing", "Training"):
            return body
        kept = body.get("CacheConfig", {}).get("ExpireAfter")
        return {**body, "CacheConfig": {"Enabled": enabled} | ({"ExpireAfter": kept} if kept else {})}

    return map_steps(definition, changed)


def map_steps(definition: Json, change: Callable[[Json], Json]) -> Json:
    """The definition with every step changed, those inside conditions too."""

    def changed(body: Json) -> Json:
        if body["Type"] != "Condition":
            return change(body)
        inner = {key: [changed(b) for b in body["Arguments"].get(key) or []] for key in ("IfSteps", "ElseSteps")}
        return {**body, "Arguments": body["Arguments"] | inner}

    return {**definition, "Steps": [changed(body) for body in definition["Steps"]]}


def _processing(arguments: Json, environment: Environment) -> Json:
    result = dict(arguments)
    if environment.network:
        given = arguments.get("NetworkConfig") or {}
        result["NetworkConfig"] = {"VpcConfig": _vpc(environment)} | given
    if environment.encryption:
        key = environment.encryption.kms_key_arn
        cluster = {"VolumeKmsKeyId": key} | arguments["ProcessingResources"]["ClusterConfig"]
        result["ProcessingResources"] = {**arguments["ProcessingResources"], "ClusterConfig": cluster}
        if "ProcessingOutputConfig" in arguments:
            result["ProcessingOutputConfig"] = {"KmsKeyId": key} | arguments["ProcessingOutputConfig"]
    return result


def _training(arguments: Json, environment: Environment) -> Json:
    result = dict(arguments)
    if environment.network:
        result.setdefault("VpcConfig", _vpc(environment))
    if environment.encryption:
        key = environment.encryption.kms_key_arn
        result["ResourceConfig"] = {"VolumeKmsKeyId": key} | arguments["ResourceConfig"]
        result["OutputDataConfig"] = {"KmsKeyId": key} | arguments["OutputDataConfig"]
    if environment.training.spot:
        result["EnableManagedSpotTraining"] = True
        wait = {"MaxWaitTimeInSeconds": environment.training.max_wait_in_seconds}
        result["StoppingCondition"] = wait | arguments["StoppingCondition"]
    return result


def _tuning(arguments: Json, environment: Environment) -> Json:
    """A tuning job holds its training jobs' requests: one, or several in a list."""
    result = dict(arguments)
    if "TrainingJobDefinition" in arguments:
        result["TrainingJobDefinition"] = _training(arguments["TrainingJobDefinition"], environment)
    if "TrainingJobDefinitions" in arguments:
        result["TrainingJobDefinitions"] = [_training(d, environment) for d in arguments["TrainingJobDefinitions"]]
    return result


def _transform(arguments: Json, environment: Environment) -> Json:
    if not environment.encryption:
        return arguments
    key = environment.encryption.kms_key_arn
    result = {**arguments, "TransformOutput": {"KmsKeyId": key} | arguments["TransformOutput"]}
    return {**result, "TransformResources": {"VolumeKmsKeyId": key} | arguments["TransformResources"]}


def _model(arguments: Json, environment: Environment) -> Json:
    return {"VpcConfig": _vpc(environment)} | arguments if environment.network else arguments


def _vpc(environment: Environment) -> Json:
    assert environment.network
    network = environment.network
    return {"SecurityGroupIds": list(network.security_group_ids), "Subnets": list(network.subnet_ids)}


LAYERS: dict[str, Callable[[Json, Environment], Json]] = {
    "Processing": _processing,
    "Training": _training,
    "Tuning": _tuning,
    "Transform": _transform,
    "Model": _model,
}


@dataclass(frozen=True)
class Data:
    """The raw data: where it stands, the digest that is its version, and files of this machine to store there."""

    uri: str
    version: str
    files: dict[str, Path]


def find_data(root: Path, settings: Settings, names: Names, digest: Callable[[Path], str]) -> Data:
    """The data that `[data] source` names. Files of this machine get a place named by their digest.

    Raises SagegateError if the folder is missing or has no CSV file.
    """
    source = settings.data.source
    if source.startswith("s3://"):
        split_uri(source)
        return Data(source, "unversioned", {})
    folder = root / source
    if not folder.is_dir():
        raise SagegateError(f"mlops.toml: data.source: there is no folder {source!r}: put your CSV files there", USAGE)
    files = {name: file for name, file in local_files(folder) if file.suffix.lower() == ".csv"}
    if not files:
        raise SagegateError(f"{source}: no .csv file in this folder (mlops.toml, data.source)", USAGE)
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
