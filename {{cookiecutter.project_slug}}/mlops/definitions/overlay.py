"""What an environment lays over the definition because no pipeline parameter can say it: network, key, spot training.

Pure, and applied at the moment of the upsert, so `pipeline/definition.json` stays the same in every environment. A
job's own setting, written in pipeline.py, is never replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlops.settings import Environment

Json = dict[str, Any]


def with_overlay(definition: Json, environment: Environment) -> Json:
    """The definition as this environment runs it."""

    def changed(body: Json) -> Json:
        lay = LAYERS.get(body["Type"])
        return {**body, "Arguments": lay(body["Arguments"], environment)} if lay else body

    return map_steps(definition, changed)


def with_caching(definition: Json, enabled: bool) -> Json:
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
