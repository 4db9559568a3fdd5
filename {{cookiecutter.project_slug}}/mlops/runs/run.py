"""`mlops run`: compile if stale, store code and data, upsert the pipeline, start it, follow it, say what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.aws import Door, open_door
from mlops.definitions import definition, overlay, parameters
from mlops.definitions.check import reference_faults
from mlops.definitions.code import libraries, remember
from mlops.errors import USAGE, MlopsError
from mlops.local.selection import check_names, downstream
from mlops.runs import upsert
from mlops.runs.executions import execution_definition
from mlops.runs.watch import watch
from mlops.settings import Settings, load_environment, load_settings

if TYPE_CHECKING:
    from mlops.local.launcher import Launcher

Json = dict[str, Any]


@dataclass(frozen=True)
class How:
    """What the command line asks of a run: `NAME=VALUE` overrides, which steps to run, whether to follow it."""

    overrides: tuple[str, ...] = ()
    reads_cache: bool = True
    from_step: str | None = None
    only: tuple[str, ...] = ()
    retry: str | None = None
    waits: bool = True
    reason: str = ""

    def check(self, environment: str) -> None:
        """Raises MlopsError for options that do not go together."""
        if sum(map(bool, (self.from_step, self.only, self.retry))) > 1 or (self.retry and self.overrides):
            raise MlopsError("--from, --only and --retry exclude each other, and --retry takes no --set", USAGE)
        if environment == "local" and not self.waits:
            raise MlopsError("--no-wait needs --env: on this machine the command is what runs the pipeline", USAGE)
        if environment != "local" and not self.reads_cache:
            raise MlopsError("--no-cache is for this machine: on AWS, CacheConfig in pipeline.py decides", USAGE)


@dataclass(frozen=True)
class Plan:
    """What `run` is about to do: objects to store, the pipeline to have, the parameters to start it with."""

    contents: dict[str, bytes]
    data: parameters.Data
    body: str
    overrides: dict[str, str]
    tags: dict[str, str]
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
    data = parameters.find_data(root, settings, door.names, door.digest)
    commit = parameters.code_commit(root)
    values = parameters.values(settings, door.environment, door.names, data, uris, commit)
    declared = {p["Name"] for p in compiled["Parameters"]}
    body = definition.with_defaults(compiled, {k: v for k, v in values.items() if k in declared})
    body = overlay.with_overlay(body, door.environment)
    if door.environment.is_local:
        body = overlay.with_caching(body, how.reads_cache)
    overrides = {"StartedBy": parameters.started_by()} if "StartedBy" in declared else {}
    overrides |= wanted
    definition.parameter_values(body, overrides)
    steps = definition.steps_of(compiled)
    check_names(steps, list(how.only))
    selected = downstream(steps, how.from_step) if how.from_step else frozenset(how.only)
    tags = pipeline_tags(settings, commit)
    return Plan(contents, data, json.dumps(body), overrides, tags, libraries(root, compiled), selected)


def pipeline_tags(settings: Settings, commit: str) -> dict[str, str]:
    """The tags of the pipeline: what it belongs to and which code it runs."""
    return {"project": settings.project.name, "repository": settings.project.repository, "commit": commit}


def run(root: Path, environment: str, how: How, launcher: Launcher | None) -> int:
    """The verb; its exit code: 0 if the execution succeeded, 3 if the gate rejected the candidate, else 1."""
    how.check(environment)
    wanted = parse_overrides(how.overrides)
    if not how.retry and definition.is_stale(root, load_settings(root)):
        from mlops.definitions.compile import compile_project

        print("pipeline/pipeline.py or the hyperparameters changed: compiling", flush=True)
        compile_project(root)
    door = open_door(root, load_settings(root), load_environment(root, environment), launcher)
    try:
        arn, state = retried(door, how.retry) if how.retry else started(root, door, wanted, how, launcher)
        if not how.waits:
            name = arn.rpartition("/")[2]
            print(f"execution {name} started, {state}: `mlops status {name} --follow --env {environment}` follows it")
            return 0
        code = watch(door, arn, state)
        if launcher:
            from mlops.local import warm

            warm.note(root, libraries(root, execution_definition(door, arn)))
        remember(root)
        return code
    finally:
        door.close()


def started(root: Path, door: Door, wanted: dict[str, str], how: How, launcher: Launcher | None) -> tuple[str, str]:
    """Store, upsert and start; the execution's ARN and what became of the pipeline."""
    planned = plan(root, door, wanted, how)
    upsert.store(door, planned.contents, planned.data)
    if launcher:
        launcher.libraries = planned.libraries
    state = upsert.upsert(door, planned.body, planned.tags)
    return upsert.start(door, planned.overrides, planned.selected, how.reason), f"pipeline {state}"


def retried(door: Door, name: str) -> tuple[str, str]:
    """Retry an execution; its ARN and what that is."""
    return upsert.retry(door, name), "retried"


def parse_overrides(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` pairs as a dictionary."""
    for setting in settings:
        if "=" not in setting or setting.startswith("="):
            raise MlopsError(f"--set {setting}: write NAME=VALUE, such as --set max_depth=8", USAGE)
    return dict(setting.split("=", 1) for setting in settings)
