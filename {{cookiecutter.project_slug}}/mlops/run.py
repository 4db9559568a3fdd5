"""`mlops run`: compile if stale, store code and data, upsert the pipeline, start it, follow it, say what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops import champion, definition, evidence, parameters
from mlops.aws import Door, open_door
from mlops.check import reference_faults
from mlops.code import libraries
from mlops.errors import FAILED, INTERRUPTED, REJECTED, USAGE, MlopsError
from mlops.follow import follow
from mlops.local import warm
from mlops.local.launcher import Launcher
from mlops.local.selection import check_names, downstream
from mlops.local.store import split_uri
from mlops.settings import load_environment, load_settings

Json = dict[str, Any]


@dataclass(frozen=True)
class How:
    """What the command line asks of a run: `NAME=VALUE` overrides, and which steps to run."""

    overrides: tuple[str, ...] = ()
    reads_cache: bool = True
    from_step: str | None = None
    only: tuple[str, ...] = ()
    retry: str | None = None


@dataclass(frozen=True)
class Plan:
    """What `run` is about to do: objects to store, the pipeline to have, the parameters to start it with."""

    contents: dict[str, bytes]
    data: parameters.Data
    body: str
    overrides: dict[str, str]
    libraries: tuple[str, ...]
    selected: frozenset[str]


def plan(root: Path, door: Door, wanted: dict[str, str], how: How) -> Plan:
    """Settings and code -> the plan. Nothing is written; a fault in the definition or a parameter is raised here."""
    settings = load_settings(root)
    compiled = definition.load(root)
    fault = next(reference_faults(compiled), None)
    if fault:
        raise MlopsError(f"pipeline/definition.json: {fault}: mend pipeline/pipeline.py and run `mlops compile`")
    uris, contents = parameters.store_code(root, compiled, door.names)
    data = parameters.find_data(root, settings, door.names, door.s3.file_digest)
    commit = parameters.code_commit(root)
    values = parameters.values(settings, door.environment, door.names, data, uris, commit)
    declared = {p["Name"] for p in compiled["Parameters"]}
    body = definition.with_defaults(compiled, {k: v for k, v in values.items() if k in declared})
    if door.environment.is_local:
        body = definition.with_caching(body, how.reads_cache)
    overrides = {"StartedBy": parameters.started_by()} if "StartedBy" in declared else {}
    overrides |= wanted
    definition.parameter_values(body, overrides)
    steps = definition.steps_of(compiled)
    check_names(steps, list(how.only))
    selected = downstream(steps, how.from_step) if how.from_step else frozenset(how.only)
    return Plan(contents, data, json.dumps(body), overrides, libraries(root, compiled), selected)


def store(door: Door, planned: Plan) -> None:
    """Store the code packages and the data that are not there yet; they are named by digest, so they never change."""
    bucket, _ = split_uri(door.names.artifacts)
    known = {o["Key"] for o in _listed(door, f"{door.names.artifacts}/code/")}
    for key, content in planned.contents.items():
        if key not in known:
            door.s3.put_object(Bucket=bucket, Key=key, Body=content)
    if planned.data.files:
        _, prefix = split_uri(planned.data.uri)
        known = {o["Key"] for o in _listed(door, f"{planned.data.uri}/")}
        for name, file in planned.data.files.items():
            if f"{prefix}/{name}" not in known:
                door.s3.upload_file(str(file), bucket, f"{prefix}/{name}")
    champion.ensure_place(door)


def _listed(door: Door, uri: str) -> list[Json]:
    bucket, prefix = split_uri(uri)
    found: list[Json] = door.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return found


def upsert(door: Door, body: str) -> str:
    """Create or update the pipeline; `created`, `updated` or `unchanged`."""
    request = {"PipelineName": door.names.pipeline, "PipelineDefinition": body, "RoleArn": door.names.role}
    try:
        existing = door.sagemaker.describe_pipeline(PipelineName=door.names.pipeline)
    except door.sagemaker.exceptions.ResourceNotFound:
        door.sagemaker.create_pipeline(**request)
        return "created"
    if json.loads(existing["PipelineDefinition"]) == json.loads(body):
        return "unchanged"
    door.sagemaker.update_pipeline(**request)
    return "updated"


def run(root: Path, environment: str, how: How, launcher: Launcher) -> int:
    """The verb; its exit code: 0 if the execution succeeded, 3 if the gate rejected the candidate, else 1."""
    if sum(map(bool, (how.from_step, how.only, how.retry))) > 1 or (how.retry and how.overrides):
        raise MlopsError("--from, --only and --retry exclude each other, and --retry takes no --set", USAGE)
    wanted = parse_overrides(how.overrides)
    if not how.retry and definition.is_stale(root, load_settings(root)):
        from mlops.compile import compile_project

        print("pipeline/pipeline.py or the hyperparameters changed: compiling", flush=True)
        compile_project(root)
    door = open_door(root, load_settings(root), load_environment(root, environment), launcher)
    try:
        arn, state = retry(door, how.retry) if how.retry else start(root, door, wanted, how)
        described = door.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
        body = json.loads(described["PipelineDefinition"])
        try:
            follow(door, arn, body, state)
        except KeyboardInterrupt:
            door.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
            door.sagemaker.wait(arn, 10)
            raise MlopsError(f"execution {arn.rpartition('/')[2]} stopped", INTERRUPTED) from None
        warm.note(root, libraries(root, body))
        return report(door, arn, body)
    finally:
        door.close()


def start(root: Path, door: Door, wanted: dict[str, str], how: How) -> tuple[str, str]:
    """Store, upsert and start; the execution's ARN and what became of the pipeline."""
    planned = plan(root, door, wanted, how)
    store(door, planned)
    door.sagemaker.launcher.libraries = planned.libraries
    state = upsert(door, planned.body)
    request: Json = {
        "PipelineName": door.names.pipeline,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in planned.overrides.items()],
    }
    if planned.selected:
        chosen = [{"StepName": name} for name in sorted(planned.selected)]
        request["SelectiveExecutionConfig"] = {"SelectedSteps": chosen}
    started = door.sagemaker.start_pipeline_execution(**request)
    return str(started["PipelineExecutionArn"]), f"pipeline {state}"


def retry(door: Door, name: str) -> tuple[str, str]:
    """Start an ended execution's failed steps again; its ARN and what that is."""
    arn = door.names.execution(name)
    try:
        door.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    except door.sagemaker.exceptions.ResourceNotFound:
        raise MlopsError(f"there is no execution {name}: `mlops status` lists them") from None
    return arn, "retried"


def parse_overrides(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` pairs as a dictionary."""
    for setting in settings:
        if "=" not in setting or setting.startswith("="):
            raise MlopsError(f"--set {setting}: write NAME=VALUE, such as --set max_depth=8", USAGE)
    return dict(setting.split("=", 1) for setting in settings)


def report(door: Door, arn: str, body: Json) -> int:
    """Print the metrics, the gate's verdict and what to do next; the exit code."""
    from mlops import show

    execution = door.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    steps = door.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    evaluation = evidence.evaluation_of_steps(door, body, steps)
    if evaluation:
        show.metrics(evaluation)
    rejected = evidence.rejection(steps)
    if rejected:
        show.verdict(False, rejected, "nothing was registered; improve the model, or change [gate] in mlops.toml")
        return REJECTED
    if execution["PipelineExecutionStatus"] != "Succeeded":
        failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
        if failed:
            show.log(failed["StepName"], door.sagemaker.log_lines(arn, failed["StepName"], 25))
        show.verdict(False, str(execution.get("FailureReason", execution["PipelineExecutionStatus"])), None)
        return FAILED
    package = evidence.registered(steps)
    version = package.rpartition("/")[2] if package else None
    reason = evaluation.gate.get("reason", "") if evaluation else ""
    todo = f"mlops approve {version} --reason '...', then mlops serve" if version else None
    show.verdict(True, f"model {version} registered: {reason}" if version else "succeeded", todo)
    return 0
