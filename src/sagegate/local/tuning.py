"""A hyperparameter tuning job: training jobs in parallel, their objective read from their logs.

Random and Grid search as SageMaker defines them; Bayesian through Optuna's TPE sampler. Hyperband is refused: it stops
jobs by what they have reported so far, which local jobs do too late to be worth it. Sources: "How Hyperparameter
Tuning Works" and "Define metrics and environment variables" in the SageMaker developer guide.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sagegate.local.jobs import Context, JobFailed, logs_of, train
from sagegate.local.state import now

Json = dict[str, Any]
GRID_LIMIT = 1000


class Search(Protocol):
    """Proposes hyperparameters and learns what they gave."""

    def ask(self) -> tuple[int, dict[str, str]] | None:
        """A number for the trial and its hyperparameters; None when there are no more."""

    def tell(self, trial: int, value: float | None) -> None:
        """The objective that a trial reached; None if it failed."""


def tune(name: str, request: Json, context: Context) -> Json:
    """Run a tuning job; its description, with TrainingJobSummaries from the best to the worst."""
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    limits = config["ResourceLimits"]
    total, parallel = int(limits.get("MaxNumberOfTrainingJobs", 1)), int(limits.get("MaxParallelTrainingJobs", 1))
    objective = config["HyperParameterTuningJobObjective"]
    maximize = objective["Type"] == "Maximize"
    search = make_search(config, maximize)
    pattern = _pattern(definition, objective["MetricName"])
    started, summaries, reasons = now(), [], []

    def attempt(number: int, trial: int, chosen: dict[str, str]) -> Json | None:
        job = training_job_name(name, number)
        log = context.log.with_suffix(f".{number:03d}.log")
        folder = context.folder / f"{number:03d}"
        training = {key: value for key, value in definition.items() if key != "StaticHyperParameters"}
        training["HyperParameters"] = (definition.get("StaticHyperParameters") or {}) | chosen
        try:
            description = train(job, training, replace(context, folder=folder, log=log))
            values = (read_objective(file, pattern) for file in logs_of(log))
            value = next((value for value in values if value is not None), None)
            if value is None:
                raise JobFailed(f"no line of the log matches {pattern.pattern!r} of metric {objective['MetricName']}")
        except JobFailed as error:
            reasons.append(str(error))
            search.tell(trial, None)
            return None
        search.tell(trial, value)
        metric = {"MetricName": objective["MetricName"], "Type": objective["Type"], "Value": value}
        fields = ("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "CreationTime", "TrainingEndTime")
        own = {field: description[field] for field in fields}
        return own | {"TunedHyperParameters": chosen, "FinalHyperParameterTuningJobObjectiveMetric": metric}

    with ThreadPoolExecutor(parallel) as pool:
        numbers = iter(range(1, total + 1))
        while True:
            batch = [
                (number, *asked)
                for number, asked in zip(itertools.islice(numbers, parallel), _asks(search), strict=False)
            ]
            if not batch:
                break
            summaries += [done for done in pool.map(lambda trial: attempt(*trial), batch) if done]
    if not summaries:
        raise JobFailed(f"no training job of the tuning job succeeded: {(reasons or ['nothing to try'])[0]}")
    summaries.sort(key=_value, reverse=maximize)
    lines = [f"{_value(job)} {job['TunedHyperParameters']}\n" for job in summaries]
    context.log.write_text("".join(lines))
    arn = f"arn:aws:sagemaker:{context.region}:{context.account_id}:hyper-parameter-tuning-job/{name}"
    return request | {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobArn": arn,
        "HyperParameterTuningJobStatus": "Completed",
        "CreationTime": started,
        "HyperParameterTuningEndTime": now(),
        "TrainingJobStatusCounters": {"Completed": len(summaries), "NonRetryableError": len(reasons)},
        "ObjectiveStatusCounters": {"Succeeded": len(summaries), "Pending": 0, "Failed": len(reasons)},
        "BestTrainingJob": summaries[0],
        "TrainingJobSummaries": summaries,
    }


def training_job_name(tuning: str, number: int) -> str:
    """The name of a tuning job's training job: at most 63 characters, and its end tells steps apart."""
    return f"{tuning[:44]}-{tuning[-10:]}-{number:03d}"


def _value(job: Json) -> float:
    return float(job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def _asks(search: Search) -> Iterator[tuple[int, dict[str, str]]]:
    while (asked := search.ask()) is not None:
        yield asked


def _pattern(definition: Json, metric: str) -> re.Pattern[str]:
    declared = definition["AlgorithmSpecification"].get("MetricDefinitions") or []
    found = next((d["Regex"] for d in declared if d["Name"] == metric), None)
    if found is None:
        raise JobFailed(
            f"the objective {metric!r} has no MetricDefinition with a Regex in the training job's definition"
        )
    return re.compile(found)


def read_objective(log: Path, pattern: re.Pattern[str]) -> float | None:
    """The last value that the pattern's first group finds in a job's log."""
    found = pattern.findall(log.read_text(errors="replace")) if log.is_file() else []
    last = found[-1] if found else None
    try:
        value = float(last[0] if isinstance(last, tuple) else last) if last else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def make_search(config: Json, maximize: bool) -> Search:
    """The search of a tuning job's Strategy; raises JobFailed for one that does not run here."""
    ranges, seed, strategy = config["ParameterRanges"], config.get("RandomSeed", 0), config["Strategy"]
    if strategy == "Grid":
        return Grid(ranges)
    if strategy == "Random":
        return Random(ranges, seed)
    if strategy == "Bayesian":
        return Bayesian(ranges, seed, maximize)
    raise JobFailed(f"strategy {strategy} does not run on this machine: Random, Grid and Bayesian do")


class Grid:
    """Every combination of categorical values; SageMaker's grid search takes no other ranges."""

    def __init__(self, ranges: Json) -> None:
        if ranges.get("IntegerParameterRanges") or ranges.get("ContinuousParameterRanges"):
            raise JobFailed("Grid search takes CategoricalParameterRanges only, as on SageMaker")
        axes = ranges.get("CategoricalParameterRanges") or []
        names = [axis["Name"] for axis in axes]
        combinations = itertools.product(*[axis["Values"] for axis in axes])
        first = enumerate(itertools.islice(combinations, GRID_LIMIT))
        self._left = ((trial, dict(zip(names, values, strict=True))) for trial, values in first)

    def ask(self) -> tuple[int, dict[str, str]] | None:
        """The next combination."""
        return next(self._left, None)

    def tell(self, trial: int, value: float | None) -> None:
        """A grid learns nothing."""


class Random:
    """Independent draws from each range, on its scale."""

    def __init__(self, ranges: Json, seed: int) -> None:
        self._ranges = ranges
        self._random = random.Random(seed)
        self._count = 0

    def ask(self) -> tuple[int, dict[str, str]] | None:
        """A draw."""
        self._count += 1
        chosen = {axis["Name"]: self._random.choice(axis["Values"]) for axis in _axes(self._ranges, "Categorical")}
        for axis in _axes(self._ranges, "Integer"):
            low, high = int(axis["MinValue"]), int(axis["MaxValue"])
            drawn = self._draw(low - 0.5, high + 0.5, axis) if low < high else low
            chosen[axis["Name"]] = str(min(high, max(low, round(drawn))))
        for axis in _axes(self._ranges, "Continuous"):
            chosen[axis["Name"]] = repr(self._draw(float(axis["MinValue"]), float(axis["MaxValue"]), axis))
        return self._count, chosen

    def _draw(self, low: float, high: float, axis: Json) -> float:
        scale = axis.get("ScalingType", "Linear")
        if scale == "Logarithmic" or (scale == "Auto" and low > 0 and high / low >= 1000):
            return math.exp(self._random.uniform(math.log(max(low, 1e-12)), math.log(high)))
        if scale == "ReverseLogarithmic":
            return 1 - math.exp(self._random.uniform(math.log(1 - high), math.log(1 - low)))
        return self._random.uniform(low, high)

    def tell(self, trial: int, value: float | None) -> None:
        """Random search learns nothing."""


class Bayesian:
    """Optuna's TPE sampler."""

    def __init__(self, ranges: Json, seed: int, maximize: bool) -> None:
        try:
            import optuna
        except ImportError:
            raise JobFailed("Bayesian search needs Optuna: `uv add --dev optuna`, or choose Random") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
        self._study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
        self._ranges = ranges
        self._failed = optuna.trial.TrialState.FAIL
        self._trials: dict[int, Any] = {}

    def ask(self) -> tuple[int, dict[str, str]] | None:
        """What the sampler finds most promising."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        chosen: dict[str, str] = {
            axis["Name"]: str(trial.suggest_categorical(axis["Name"], axis["Values"]))
            for axis in _axes(self._ranges, "Categorical")
        }
        for axis in _axes(self._ranges, "Integer"):
            low, high, log = int(axis["MinValue"]), int(axis["MaxValue"]), axis.get("ScalingType") == "Logarithmic"
            chosen[axis["Name"]] = str(trial.suggest_int(axis["Name"], low, high, log=log))
        for axis in _axes(self._ranges, "Continuous"):
            start, end, log = float(axis["MinValue"]), float(axis["MaxValue"]), axis.get("ScalingType") == "Logarithmic"
            chosen[axis["Name"]] = repr(trial.suggest_float(axis["Name"], start, end, log=log))
        return trial.number, chosen

    def tell(self, trial: int, value: float | None) -> None:
        """Learn from a trial."""
        if value is None:
            self._study.tell(self._trials[trial], state=self._failed)
        else:
            self._study.tell(self._trials[trial], value)


def _axes(ranges: Json, kind: str) -> list[Json]:
    return ranges.get(f"{kind}ParameterRanges") or []
