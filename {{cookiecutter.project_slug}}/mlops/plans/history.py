"""What earlier executions leave for the next one: each step's successes, and what this machine's cache holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops.aws import Door, pages
from mlops.definitions.definition import Step, parameter_values
from mlops.definitions.definition import steps_of as definition_steps
from mlops.local.cache import Cache
from mlops.local.values import ReferenceFault, Scope, resolve
from mlops.plans.forecast import Success, counting
from mlops.runs.executions import execution_definition, executions, steps_of

Json = dict[str, Any]
LOOK_BACK = 3  # executions; each costs three calls of an account-wide quota


def successes(door: Door, steps: dict[str, Step], parameters: Json) -> dict[str, list[Success]]:
    """Each step's successes, the latest first; looks no further than to the first that each step could take over."""
    found: dict[str, list[Success]] = {}
    wanted = {name: counting(step, parameters) for name, step in steps.items()}
    for summary in executions(door, LOOK_BACK):
        arn = summary["PipelineExecutionArn"]
        body = execution_definition(door, arn)
        given = _given(door, arn)
        declared = {p["Name"] for p in body.get("Parameters") or []}
        values = parameter_values(body, {name: value for name, value in given.items() if name in declared})
        bodies = definition_steps(body)
        for record in steps_of(door, arn):
            name = record["StepName"]
            if record["StepStatus"] != "Succeeded" or name not in bodies or "SelectiveExecutionResult" in record:
                continue
            arguments = counting(bodies[name], values)
            if arguments is not None:
                source, ended = _source(door, arn, record)
                found.setdefault(name, []).append(Success(arguments, source.rpartition("/")[2], ended))
        if all(any(s.arguments == wanted[n] for s in found.get(n, [])) for n in wanted if wanted[n] is not None):
            break
    return found


def _given(door: Door, arn: str) -> Json:
    call = door.sagemaker.list_pipeline_parameters_for_execution
    return {p["Name"]: p["Value"] for p in pages(call, "PipelineParameters", PipelineExecutionArn=arn)}


def _source(door: Door, arn: str, record: Json) -> tuple[str, datetime]:
    """The execution that a step's result is from, and when it was made: a cached result keeps its age."""
    source = record.get("CacheHitResult", {}).get("SourcePipelineExecutionArn")
    if source and source != arn:
        for original in steps_of(door, source):
            if original["StepName"] == record["StepName"] and "EndTime" in original:
                return str(source), original["EndTime"]
    return str(source or arn), record["EndTime"]


def local_results(root: Path, door: Door, parameters: Json) -> Callable[[Step], bool]:
    """A function that tells whether this machine's cache holds the result of a step; asked in the steps' order."""
    cache = Cache(root / ".mlops" / "cache", door.s3)
    execution = {
        "PipelineName": door.names.pipeline,
        "PipelineArn": door.names.pipeline_arn,
        **{name: "-" for name in ("PipelineExecutionId", "PipelineExecutionArn", "StartDateTime", "CurrentDateTime")},
    }
    scope = Scope(parameters, execution)

    def has_result(step: Step) -> bool:
        try:
            arguments = resolve(step.arguments, scope)
        except ReferenceFault:
            return False
        key = cache.key(door.names.pipeline_arn, step.name, step.type, arguments)
        entry = cache.find(key, (step.body.get("CacheConfig") or {}).get("ExpireAfter"))
        if entry:
            scope.steps[step.name] = entry["Properties"]
        return entry is not None

    return has_result
