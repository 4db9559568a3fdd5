"""Run a hyperparameter tuning job locally: parallel training jobs, whose objective is read from their logs.

Random and Grid search follow SageMaker's definitions; Bayesian search is Optuna's TPE sampler. Hyperband is rejected:
it stops jobs by the values they have reported so far, and local logs are read when a job has ended. Sources: "How
Hyperparameter Tuning Works" and "Define metrics and environment variables" in the SageMaker developer guide.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sagegate.files import Json
from sagegate.local.jobs import Context, JobFailed, host_logs
from sagegate.local.state import now
from sagegate.local.training import run_training_job

GRID_LIMIT = 1000


def run_tuning_job(name: str, request: Json, context: Context) -> Json:
    """Run a tuning job. Return its description, with TrainingJobSummaries from the best to the worst."""
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    limits, objective = config["ResourceLimits"], config["HyperParameterTuningJobObjective"]
    total, parallel = int(limits.get("MaxNumberOfTrainingJobs", 1)), int(limits.get("MaxParallelTrainingJobs", 1))
    maximize = objective["Type"] == "Maximize"
    pattern = _objective_pattern(definition, objective["MetricName"])
    search = make_search(config, maximize)
    training_request = {key: value for key, value in definition.items() if key != "StaticHyperParameters"}
    started, summaries, errors = now(), [], []

    def run_trial(number: int, chosen: dict[str, str]) -> None:
        trial = replace(
            context, folder=context.folder / f"{number:03d}", log=context.log.with_suffix(f".{number:03d}.log")
        )
        hyperparameters = (definition.get("StaticHyperParameters") or {}) | chosen
        try:
            job = run_training_job(
                training_job_name(name, number), training_request | {"HyperParameters": hyperparameters}, trial
            )
            value = read_objective(host_logs(trial.log), pattern)
            if value is None:
                raise JobFailed(f"no line of the log matches {pattern.pattern!r} of metric {objective['MetricName']}")
        except JobFailed as error:
            errors.append(str(error))
            search.report(number, None)
            return
        search.report(number, value)
        fields = ("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "CreationTime", "TrainingEndTime")
        summaries.append(
            {field: job[field] for field in fields}
            | {"TunedHyperParameters": chosen}
            | {"FinalHyperParameterTuningJobObjectiveMetric": objective | {"Value": value}}
        )

    numbers = range(1, total + 1)
    with ThreadPoolExecutor(parallel) as pool:
        for first in numbers[::parallel]:
            proposals = [(number, search.propose(number)) for number in numbers[first - 1 : first - 1 + parallel]]
            batch = [(number, chosen) for number, chosen in proposals if chosen is not None]
            list(pool.map(lambda trial: run_trial(*trial), batch))
    if not summaries:
        reason = errors[0] if errors else "nothing to try"
        raise JobFailed(f"no training job of the tuning job succeeded: {reason}")
    summaries.sort(key=lambda summary: summary["TrainingJobName"])
    summaries.sort(key=_objective_value, reverse=maximize)
    lines = [f"{_objective_value(summary)} {summary['TunedHyperParameters']}\n" for summary in summaries]
    context.log.write_text("".join(lines))
    arn = f"arn:aws:sagemaker:{context.region}:{context.account_id}:hyper-parameter-tuning-job/{name}"
    return request | {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobArn": arn,
        "HyperParameterTuningJobStatus": "Completed",
        "CreationTime": started,
        "HyperParameterTuningEndTime": now(),
        "TrainingJobStatusCounters": {"Completed": len(summaries), "NonRetryableError": len(errors)},
        "ObjectiveStatusCounters": {"Succeeded": len(summaries), "Pending": 0, "Failed": len(errors)},
        "BestTrainingJob": summaries[0],
        "TrainingJobSummaries": summaries,
    }


def training_job_name(tuning_job: str, number: int) -> str:
    """Return the name of a training job, at most 63 characters; the end of the tuning job's name makes it unique."""
    return f"{tuning_job[:44]}-{tuning_job[-10:]}-{number:03d}"


def _objective_value(summary: Json) -> float:
    return float(summary["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def _objective_pattern(definition: Json, metric: str) -> re.Pattern[str]:
    for declared in definition["AlgorithmSpecification"].get("MetricDefinitions") or []:
        if declared["Name"] == metric:
            return re.compile(declared["Regex"])
    raise JobFailed(f"the objective {metric!r} has no MetricDefinition with a Regex in the training job's definition")


def read_objective(logs: list[Path], pattern: re.Pattern[str]) -> float | None:
    """Return the last finite value of the pattern's first group in the first log that has one."""
    for log in logs:
        matches = pattern.findall(log.read_text(errors="replace"))
        last = matches[-1] if matches else ""
        try:
            value = float(last[0] if isinstance(last, tuple) else last)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return None


def make_search(config: Json, maximize: bool) -> Search:
    """Return the search of a tuning job's Strategy. Raises JobFailed for a strategy that does not run locally."""
    ranges, seed, strategy = config["ParameterRanges"], config.get("RandomSeed", 0), config["Strategy"]
    if strategy == "Grid":
        return Grid(ranges)
    if strategy == "Random":
        return Random(ranges, seed)
    if strategy == "Bayesian":
        return Bayesian(ranges, seed, maximize)
    raise JobFailed(f"strategy {strategy} does not run locally: choose Random, Grid or Bayesian")


class Search:
    """Proposes hyperparameters for numbered trials, and may learn from their objectives."""

    def __init__(self, ranges: Json) -> None:
        self.categories: list[Json] = ranges.get("CategoricalParameterRanges") or []
        self.integers: list[Json] = ranges.get("IntegerParameterRanges") or []
        self.floats: list[Json] = ranges.get("ContinuousParameterRanges") or []

    def propose(self, trial: int) -> dict[str, str] | None:
        """Return hyperparameters, or None if there are no more to try."""
        raise NotImplementedError

    def report(self, trial: int, value: float | None) -> None:
        """Learn the objective of a trial, or None if the trial failed."""


class Grid(Search):
    """Every combination of categories; SageMaker's grid search takes no other ranges."""

    def __init__(self, ranges: Json) -> None:
        super().__init__(ranges)
        if self.integers or self.floats:
            raise JobFailed("Grid search takes CategoricalParameterRanges only, as on SageMaker")
        names = [category["Name"] for category in self.categories]
        combinations = itertools.product(*[category["Values"] for category in self.categories])
        self._combinations = (
            dict(zip(names, values, strict=True)) for values in itertools.islice(combinations, GRID_LIMIT)
        )

    def propose(self, trial: int) -> dict[str, str] | None:
        """Return the next combination."""
        return next(self._combinations, None)


class Random(Search):
    """Independent draws from each range, on its scale."""

    def __init__(self, ranges: Json, seed: int) -> None:
        super().__init__(ranges)
        self._random = random.Random(seed)

    def propose(self, trial: int) -> dict[str, str] | None:
        """Return random values."""
        chosen = {item["Name"]: self._random.choice(item["Values"]) for item in self.categories}
        for item in self.integers:
            low, high = int(item["MinValue"]), int(item["MaxValue"])
            value = round(self._draw(low - 0.5, high + 0.5, item)) if low < high else low
            chosen[item["Name"]] = str(min(high, max(low, value)))
        for item in self.floats:
            chosen[item["Name"]] = repr(self._draw(float(item["MinValue"]), float(item["MaxValue"]), item))
        return chosen

    def _draw(self, low: float, high: float, item: Json) -> float:
        scale = item.get("ScalingType", "Linear")
        if scale == "Logarithmic" or (scale == "Auto" and low > 0 and high / low >= 1000):
            return math.exp(self._random.uniform(math.log(max(low, 1e-12)), math.log(high)))
        if scale == "ReverseLogarithmic":
            return 1 - math.exp(self._random.uniform(math.log(1 - high), math.log(1 - low)))
        return self._random.uniform(low, high)


class Bayesian(Search):
    """Optuna's TPE sampler."""

    def __init__(self, ranges: Json, seed: int, maximize: bool) -> None:
        super().__init__(ranges)
        try:
            import optuna
        except ImportError:
            raise JobFailed("Bayesian search needs Optuna: `uv add --dev optuna`, or choose Random") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
        self._study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._trials: dict[int, Any] = {}

    def propose(self, trial: int) -> dict[str, str] | None:
        """Return the sampler's most promising values."""
        optuna_trial = self._trials[trial] = self._study.ask()
        chosen = {}
        for item in self.categories:
            chosen[item["Name"]] = str(optuna_trial.suggest_categorical(item["Name"], item["Values"]))
        for item in self.integers:
            low, high = int(item["MinValue"]), int(item["MaxValue"])
            chosen[item["Name"]] = str(optuna_trial.suggest_int(item["Name"], low, high, log=_is_logarithmic(item)))
        for item in self.floats:
            start, end = float(item["MinValue"]), float(item["MaxValue"])
            chosen[item["Name"]] = repr(optuna_trial.suggest_float(item["Name"], start, end, log=_is_logarithmic(item)))
        return chosen

    def report(self, trial: int, value: float | None) -> None:
        """Tell the sampler the objective of a trial."""
        if value is None:
            self._study.tell(self._trials[trial], state=self._failed)
        else:
            self._study.tell(self._trials[trial], value)


def _is_logarithmic(item: Json) -> bool:
    return bool(item.get("ScalingType") == "Logarithmic")
