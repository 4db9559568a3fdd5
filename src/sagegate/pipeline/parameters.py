"""The environment's part of the pipeline: parameter values, data and code, and settings that no parameter can carry.

`sagegate run` upserts the values as the parameters' defaults, so an execution that a schedule or the console starts
gets them too. VPC, KMS key and spot training are written into the jobs at the same moment, so the committed
`pipeline/definition.json` stays the same for every environment.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagegate.config import Environment, Settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json, local_files, split_uri
from sagegate.images import image_uri, repository_uri
from sagegate.names import Names
from sagegate.pipeline.code import code_parameters, objects, package

# The files of data, as model/raw_files.py reads them.
ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
# What a CustomerMetadataValue may not have, by botocore's pattern; \w has the letters and digits of every script.
NOT_METADATA = re.compile(r"[^\w .:/=+\-@]")
# Where each type of job has its volume and its output: CreateProcessingJob, CreateTrainingJob and CreateTransformJob in
# the SageMaker API reference.
ENCRYPTED: dict[str, tuple[tuple[str, ...], str]] = {
    "Processing": (("ProcessingResources", "ClusterConfig"), "ProcessingOutputConfig"),
    "Training": (("ResourceConfig",), "OutputDataConfig"),
    "Transform": (("TransformResources",), "TransformOutput"),
}


def apply_environment(definition: Json, environment: Environment) -> Json:
    """Return the definition with the environment's VPC, KMS key and spot training in its jobs.

    A setting that pipeline.py makes itself is kept.
    """

    def changed(body: Json) -> Json:
        return {**body, "Arguments": _apply_to_job(body["Type"], body.get("Arguments") or {}, environment)}

    return _map_steps(definition, changed)


def _apply_to_job(kind: str, arguments: Json, environment: Environment) -> Json:
    if kind == "Tuning":  # it holds the requests of its training jobs: one, or a list
        if "TrainingJobDefinition" in arguments:
            job = _apply_to_job("Training", arguments["TrainingJobDefinition"], environment)
            arguments = arguments | {"TrainingJobDefinition": job}
        if "TrainingJobDefinitions" in arguments:
            jobs = [_apply_to_job("Training", job, environment) for job in arguments["TrainingJobDefinitions"]]
            arguments = arguments | {"TrainingJobDefinitions": jobs}
        return arguments
    network, encryption, training = environment.network, environment.encryption, environment.training
    if network and kind in ("Processing", "Training", "Model"):
        vpc = {"SecurityGroupIds": list(network.security_group_ids), "Subnets": list(network.subnet_ids)}
        path = ("NetworkConfig",) if kind == "Processing" else ()
        arguments = _with_default(arguments, path, {"VpcConfig": vpc})
    if encryption and kind in ENCRYPTED:
        volume, output = ENCRYPTED[kind]
        arguments = _with_default(arguments, volume, {"VolumeKmsKeyId": encryption.kms_key_arn})
        if output in arguments:  # a processing job may have no outputs
            arguments = _with_default(arguments, (output,), {"KmsKeyId": encryption.kms_key_arn})
    if training.spot and kind == "Training":
        wait = {"MaxWaitTimeInSeconds": training.max_wait_in_seconds}
        arguments = _with_default({**arguments, "EnableManagedSpotTraining": True}, ("StoppingCondition",), wait)
    return arguments


def _with_default(arguments: Json, path: tuple[str, ...], values: Json) -> Json:
    """Return the arguments with those of `values` at `path` that are not set there."""
    if not path:
        return values | arguments
    return {**arguments, path[0]: _with_default(arguments.get(path[0]) or {}, path[1:], values)}


def set_caching(definition: Json, enabled: bool) -> Json:
    """Return the definition for a local run: every job's cache on, or off for `--no-cache`.

    SageMaker's cache compares S3 URIs, so a step that reads a fixed URI (the champion's) must not use it there. The
    local cache compares the content as well, so every job can.
    """

    def changed(body: Json) -> Json:
        if body["Type"] not in ("Processing", "Training", "Tuning"):
            return body
        return {**body, "CacheConfig": {**body.get("CacheConfig", {}), "Enabled": enabled}}

    return _map_steps(definition, changed)


def _map_steps(definition: Json, change: Callable[[Json], Json]) -> Json:
    """Return the definition with every step changed, those inside conditions included."""

    def changed(body: Json) -> Json:
        if body["Type"] != "Condition":
            return change(body)
        inner = {key: [changed(b) for b in body["Arguments"].get(key) or []] for key in ("IfSteps", "ElseSteps")}
        return {**body, "Arguments": body["Arguments"] | inner}

    return {**definition, "Steps": [changed(body) for body in definition["Steps"]]}


@dataclass(frozen=True)
class Data:
    """The raw data: its S3 URI, a digest of its content, and the local files to upload there, by name."""

    uri: str
    version: str
    files: dict[str, Path]


def data_source(settings: Settings, environment: Environment) -> tuple[str, str]:
    """Return where an environment's data is, and which setting says so."""
    if environment.data_source:
        return environment.data_source, f"environments/{environment.name}.toml: data_source"
    return settings.data.source, "mlops.toml: data.source"


def find_files(root: Path, source: str, setting: str) -> dict[str, Path]:
    """Return the files of local data by name: a file, or all of a folder but hidden ones and _SUCCESS and its like.

    Raises SagegateError if there is none, or one that no job reads: it may be a part of the data.
    """
    place = root / source
    if not place.exists():
        raise SagegateError(f"{setting}: there is no {source!r}: put your data there, or run `sagegate data`", USAGE)
    files = dict(local_files(place)) if place.is_dir() else {place.name: place}
    files = {name: file for name, file in files.items() if not re.search(r"(^|/)_", name)}
    for name in files:
        if not name.lower().endswith(ENDINGS):
            what = f"the files of data are {', '.join(ENDINGS)}: convert it, or move it out of {source}"
            raise SagegateError(f"{setting}: {shown(name)} is not read: {what}", USAGE)
    if not files:
        raise SagegateError(f"{setting}: no .csv or .parquet file in {source!r}: put your data there", USAGE)
    return files


def shown(text: str) -> str:
    """Return a text on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def find_data(
    root: Path, settings: Settings, environment: Environment, names: Names, digest: Callable[[Path], str]
) -> Data:
    """Return an environment's data; local files go to a prefix named by their digest. Raises SagegateError."""
    source, setting = data_source(settings, environment)
    if source.startswith("s3://"):
        return Data(source, "unversioned", {})
    files = find_files(root, source, setting)
    lines = [f"{name} {digest(file)}" for name, file in files.items()]
    version = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return Data(f"{names.artifacts}/raw/{version}", version, files)


def pack_code(root: Path, definition: Json, names: Names) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return each code parameter's URI, and the objects to upload: key to content."""
    bucket, prefix = split_uri(f"{names.artifacts}/code")
    uris, contents = {}, {}
    for name, (script, as_archive) in code_parameters(definition).items():
        key, found = objects(package(root, script), prefix, as_archive)
        uris[name] = f"s3://{bucket}/{key}"
        contents.update(found)
    return uris, contents


def environment_values(
    settings: Settings, environment: Environment, names: Names, data: Data, code: dict[str, str], commit: str
) -> Json:
    """Return the value of every parameter that sagegate fills in; pipeline.py declares those that it needs."""
    processing, training, own = environment.processing, environment.training, settings.image
    return {
        "RoleArn": names.role,
        "ImageUri": f"{repository_uri(names)}@{own.digest}" if own else image_uri(environment.region),
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
        "InputDataUri": data.uri,
        "InputDataVersion": data.version,
        "ValidationFraction": settings.data.validation_fraction,
        "TestFraction": settings.data.test_fraction,
        "SplitSeed": settings.data.split_seed,
        "GateMetric": settings.gate.metric,
        "GateThreshold": settings.gate.threshold,
        "GateMinImprovement": settings.gate.min_improvement,
        "GateConfidence": settings.gate.confidence,
        "CodeCommit": commit,
        "CodeRepository": settings.project.repository,
        "StartedBy": "unknown",
        "Overrides": "none",
        **code,
        **settings.hyperparameters,
    }


def code_commit(root: Path) -> str:
    """Return the checked-out commit, with `-dirty` if tracked files differ; `none` outside a git repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip()


def started_by() -> str:
    """Return GitHub's actor in a workflow, else the local user's name."""
    try:
        return (os.environ.get("GITHUB_ACTOR") or getpass.getuser())[:256]
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def metadata_text(text: str) -> str:
    """Return a text with `-` for what a model's metadata cannot hold, as in `renovate[bot]` and `DOMAIN\\user`."""
    return NOT_METADATA.sub("-", text)[:256]
