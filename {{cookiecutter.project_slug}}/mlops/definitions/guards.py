"""What the pipeline has to keep whatever else is changed in it: a gate that can fail, and a fair comparison.

Each rule is a known bug of public templates, looked for in the compiled definition and in mlops.toml; `mlops check`
reports breaches. Who breaks a rule on purpose says so under `[waivers]` in mlops.toml: the rule's name, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlops.definitions.definition import Step, references, steps_of
from mlops.errors import USAGE, MlopsError
from mlops.settings import Settings

Json = Any
VERDICTS = {"beaten", "no champion"}
# What a model that knows nothing reaches, of the metrics of model/metrics.py that have such a value.
KNOWS_NOTHING = {"auc": 0.5, "r2": 0.0} | dict.fromkeys(
    ("accuracy", "f1", "precision", "recall", "weighted_f1", "weighted_precision", "weighted_recall"), 0.0
)
GATE_SETTINGS = ("GateMetric", "GateThreshold", "GateMinImprovement")


@dataclass(frozen=True)
class Breach:
    """A rule that is broken: where, what is wrong there, and what to do."""

    rule: str
    message: str


@dataclass(frozen=True)
class Pipeline:
    """The definition as the rules look at it. `gates` are the conditions whose holding lets a model be registered."""

    steps: dict[str, Step]
    registering: list[Step]
    gates: list[Step]

    @classmethod
    def of(cls, definition: dict[str, Json]) -> Pipeline:
        """The parts of a definition."""
        steps = steps_of(definition)
        registering = [step for step in steps.values() if step.type == "RegisterModel"]
        names = dict.fromkeys(name for step in registering for name in _behind(step, steps))
        return cls(steps, registering, [steps[name] for name in names])

    def evaluating(self) -> list[Step]:
        """The steps whose property files the gates read."""
        names = (reference.step for gate in self.gates for reference in references(gate.arguments))
        return [self.steps[name] for name in dict.fromkeys(names) if name in self.steps]


def _behind(step: Step, steps: dict[str, Step]) -> Iterator[str]:
    """The conditions that must hold for a step to run, the nearest first."""
    while step.branch:
        name, holds = step.branch
        if holds:
            yield name
        step = steps[name]


def gate(pipeline: Pipeline) -> Iterator[str]:
    """Models are registered only where both halves of the gate hold, and both halves can fail."""
    for step in pipeline.registering:
        behind = [pipeline.steps[name] for name in _behind(step, pipeline.steps)]
        if not behind:
            yield f"step {step.name} registers a model whatever the evaluation says: put it into the gate's if_steps"
            continue
        conditions = [condition for gate in behind for condition in gate.arguments.get("Conditions") or []]
        if not any(_is_threshold(condition) for condition in conditions):
            yield (
                f"step {behind[0].name}: nothing requires gate.threshold_margin of the evaluation to be at least 0, so "
                f"the threshold rejects no model: restore ConditionGreaterThanOrEqualTo(..., right=0.0)"
            )
        if not any(_is_comparison(condition) for condition in conditions):
            yield (
                f"step {behind[0].name}: nothing requires gate.champion_verdict of the evaluation to be one of "
                f"{', '.join(sorted(VERDICTS))}, so a model worse than the champion passes: restore that ConditionIn"
            )


def _is_threshold(condition: Json) -> bool:
    """Whether a condition is `threshold_margin >= 0`, or stricter."""
    least = condition.get("RightValue")
    is_number = isinstance(least, int | float) and not isinstance(least, bool) and math.isfinite(least) and least >= 0
    is_greater = condition.get("Type") in ("GreaterThan", "GreaterThanOrEqualTo")
    return is_greater and is_number and _reads(condition.get("LeftValue"), "gate.threshold_margin")


def _is_comparison(condition: Json) -> bool:
    """Whether a condition lets only a model pass that beats the champion, or that has none to beat."""
    if condition.get("Type") == "In" and _reads(condition.get("QueryValue"), "gate.champion_verdict"):
        values = condition.get("Values") or []
        return bool(values) and all(isinstance(value, str) and value in VERDICTS for value in values)
    is_equal = condition.get("Type") == "Equals" and _reads(condition.get("LeftValue"), "gate.champion_verdict")
    return is_equal and condition.get("RightValue") in sorted(VERDICTS)


def _reads(value: Json, path: str) -> bool:
    """Whether a value is that number of the evaluation."""
    found = list(references(value)) if isinstance(value, dict) else []
    return len(found) == 1 and found[0].kind == "PropertyFile" and found[0].path.partition(":")[2] == path


def rejection(pipeline: Pipeline) -> Iterator[str]:
    """A model that the gate rejects fails the execution, and with it the command and the CI job."""
    for step in pipeline.gates:
        fails = [s for s in pipeline.steps.values() if s.type == "Fail" and s.branch == (step.name, False)]
        if not fails:
            yield (
                f"step {step.name}: no Fail step in its else_steps, so an execution whose model is rejected succeeds: "
                f"put one there"
            )


def approval(pipeline: Pipeline) -> Iterator[str]:
    """A registered model waits for a person."""
    for step in pipeline.registering:
        status = step.arguments.get("ModelApprovalStatus")
        if status != "PendingManualApproval":
            yield (
                f"step {step.name}: ModelApprovalStatus is {status!r}, so nobody approves the model: "
                f'set approval_status="PendingManualApproval"'
            )


def champion(pipeline: Pipeline) -> Iterator[str]:
    """The evaluation compares with the champion that stands now, at its fixed place, and not with the candidate."""
    place = {"Std:Join": {"On": "/", "Values": [{"Get": "Parameters.ArtifactsUri"}, "champion"]}}
    for step in pipeline.evaluating():
        source = _source(step, "--champion")
        if source is None:
            yield f"step {step.name}: gets no --champion from an input: without it nothing is compared"
        elif source == _source(step, "--model"):
            yield f"step {step.name}: --champion and --model are the same input: the candidate is compared with itself"
        elif source != place:
            yield (
                f"step {step.name}: --champion is not the champion's place: its input's source must be "
                f'Join(on="/", values=[artifacts, "champion"]), where `mlops approve` puts the champion'
            )
        if (step.body.get("CacheConfig") or {}).get("Enabled"):
            yield (
                f"step {step.name}: is cached, so a later champion would not be seen (SageMaker's cache compares "
                f"addresses): remove its cache_config"
            )


def candidate(pipeline: Pipeline) -> Iterator[str]:
    """What is registered is what was evaluated."""
    sources = [source for step in pipeline.evaluating() if (source := _source(step, "--model")) is not None]
    for step in pipeline.registering:
        containers = (step.arguments.get("InferenceSpecification") or {}).get("Containers") or []
        for container in containers if sources else []:
            if container.get("ModelDataUrl") not in sources:
                yield (
                    f"step {step.name}: registers another artifact than the one that is evaluated: give both the same "
                    f"property of the training step"
                )


def test_rows(pipeline: Pipeline) -> Iterator[str]:
    """The rows that judge a model have not been seen in training."""
    held_out = [source for step in pipeline.evaluating() if (source := _source(step, "--test")) is not None]
    whole = {"Get": "Parameters.InputDataUri"}
    for step in pipeline.steps.values():
        for name, source in _channels(step.arguments) if step.type in ("Training", "Tuning") else ():
            if source in held_out:
                yield (
                    f"step {step.name}: channel {name} holds the rows that the evaluation judges by: train on the "
                    f"outputs train and validation of Preprocess"
                )
            elif source == whole:
                yield (
                    f"step {step.name}: channel {name} holds all raw data, and with it the test rows: train on the "
                    f"outputs train and validation of Preprocess"
                )


def gate_settings(pipeline: Pipeline) -> Iterator[str]:
    """What mlops.toml says under [gate] is what the evaluation judges by."""
    for step in pipeline.evaluating():
        given = {reference.path for reference in references(step.arguments) if reference.kind == "Parameters"}
        for name in GATE_SETTINGS:
            if name not in given:
                yield f"step {step.name}: does not get the parameter {name}, so [gate] in mlops.toml has no effect"


def _source(step: Step, flag: str) -> Json | None:
    """Where the input comes from whose folder is the argument `flag` of a processing step; None if there is none."""
    arguments = (step.arguments.get("AppSpecification") or {}).get("ContainerArguments") or []
    folder = next((after for name, after in pairwise(arguments) if name == flag), None)
    inputs = [entry.get("S3Input") or {} for entry in step.arguments.get("ProcessingInputs") or []]
    return next((s3.get("S3Uri") for s3 in inputs if folder is not None and s3.get("LocalPath") == folder), None)


def _channels(arguments: Json) -> Iterator[tuple[str, Json]]:
    """The names and sources of the data channels in the arguments of a training or tuning step."""
    if isinstance(arguments, list):
        for item in arguments:
            yield from _channels(item)
    elif isinstance(arguments, dict):
        for channel in arguments.get("InputDataConfig") or []:
            yield str(channel.get("ChannelName")), channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri")
        for key, item in arguments.items():
            if key != "InputDataConfig":
                yield from _channels(item)


RULES: dict[str, Callable[[Pipeline], Iterator[str]]] = {
    "gate": gate,
    "rejection": rejection,
    "approval": approval,
    "champion": champion,
    "candidate": candidate,
    "test-rows": test_rows,
    "gate-settings": gate_settings,
}

SETTINGS = ("threshold", "min-improvement")


def in_definition(definition: dict[str, Json]) -> Iterator[Breach]:
    """The breaches in a compiled definition."""
    pipeline = Pipeline.of(definition)
    for name, rule in RULES.items():
        yield from (Breach(name, f"pipeline/definition.json: {said}") for said in rule(pipeline))


def in_settings(settings: Settings) -> Iterator[Breach]:
    """The breaches in mlops.toml: a threshold that every model meets, a comparison that a worse model passes."""
    metric, threshold = settings.gate.metric, settings.gate.threshold
    worst = KNOWS_NOTHING.get(metric)
    if worst is not None and threshold <= worst:
        yield Breach(
            "threshold",
            f"mlops.toml: gate.threshold: {threshold:g} rejects no model, for one that knows nothing has {metric} "
            f"{worst:g}: ask for more",
        )
    if settings.gate.min_improvement < 0:
        yield Breach(
            "min-improvement",
            f"mlops.toml: gate.min_improvement: {settings.gate.min_improvement:g} lets a model replace a better "
            f"champion: 0.0 lets a tie pass, and more asks for more",
        )


def not_waived(found: list[Breach], waivers: dict[str, str], rules: set[str]) -> list[Breach]:
    """The breaches that mlops.toml does not waive; raises MlopsError for a waiver that is of no use.

    `rules` are the names of all rules that there are.
    """
    for name in waivers:
        if name not in rules:
            raise MlopsError(f"mlops.toml: waivers.{name}: there is no such rule: {', '.join(sorted(rules))}", USAGE)
        if all(breach.rule != name for breach in found):
            raise MlopsError(f"mlops.toml: waivers.{name}: nothing breaks this rule any more: remove the line", USAGE)
    return [breach for breach in found if breach.rule not in waivers]
