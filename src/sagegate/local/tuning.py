"""Run a hyperparameter tuning job locally: parallel training jobs, whose objective is read from their logs.

Random and Grid search follow SageMaker's definitions; Bayesian search is Optuna's TPE sampler. Hyperband is rejected:
it stops jobs by the values they have reported so far, and local logs are read when a job has ended. Sources: "How
Hyperparameter Tuning Works" and "Define metrics and environment variables" in the SageMaker developer guide.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sagegate.files import Json
from sagegate.local.jobs import Context, JobFailed, host_logs
from sagegate.local.state import now
from sagegate.local.training import run_training_job


def run_tuning_job(name: str, request: Json, context: Context) -> Json:
    """Run a tuning job. Return its description, with TrainingJobSummaries from the best to the worst."""
    if "TrainingJobDefinition" not in request:
        raise JobFailed("TrainingJobDefinition is missing: a list of TrainingJobDefinitions does not run locally")
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    limits, objective = config["ResourceLimits"], config["HyperParameterTuningJobObjective"]
    # Grid search needs no number of jobs: it tries all combinations.
    least = sys.maxsize if config["Strategy"] == "Grid" else 1
    total, parallel = int(limits.get("MaxNumberOfTrainingJobs", least)), int(limits.get("MaxParallelTrainingJobs", 1))
    maximize = objective["Type"] == "Maximize"
    _check_objective(definition, objective["MetricName"])
    values: dict[int, float | None] = {}
    proposals = zip(range(1, total + 1), _propose(config, maximize, values), strict=False)
    training_request = {key: value for key, value in definition.items() if key != "StaticHyperParameters"}
    started = now()
    summaries: list[Json] = []
    errors: dict[int, str] = {}
    failed: list[str] = []

    def run_trial(number: int, chosen: dict[str, str]) -> None:
        trial = replace(context, folder=context.folder / f"{number:03d}", log=trial_log(context.log, number))
        hyperparameters = (definition.get("StaticHyperParameters") or {}) | chosen
        try:
            job = run_training_job(
                training_job_name(name, number), training_request | {"HyperParameters": hyperparameters}, trial
            )
            measured = {metric["MetricName"]: float(metric["Value"]) for metric in job["FinalMetricDataList"]}
            value = measured.get(objective["MetricName"])
            if value is None:
                raise JobFailed(f"no line of the log has a number that the Regex of {objective['MetricName']} finds")
        except JobFailed as error:
            errors[number] = str(error)
            failed.append(f"failed {chosen}: {error}\n")
            values[number] = None
            return
        values[number] = value
        fields = (
            *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus"),
            *("CreationTime", "TrainingStartTime", "TrainingEndTime"),
        )
        summaries.append(
            {field: job[field] for field in fields}
            | {"TunedHyperParameters": chosen}
            | {"FinalHyperParameterTuningJobObjectiveMetric": objective | {"Value": value}}
        )

    with ThreadPoolExecutor(parallel) as pool:
        while batch := list(itertools.islice(proposals, parallel)):
            list(pool.map(lambda trial: run_trial(*trial), batch))
    if not summaries:
        first = min(errors, default=0)
        logs = host_logs(trial_log(context.log, first))
        context.log.write_text("".join(log.read_text(errors="replace") for log in logs))
        raise JobFailed(f"no training job of the tuning job succeeded: {errors.get(first, 'nothing to try')}")
    summaries.sort(key=lambda summary: summary["TrainingJobName"])
    summaries.sort(key=_objective_value, reverse=maximize)
    lines = [f"{_objective_value(summary)} {summary['TunedHyperParameters']}\n" for summary in summaries]
    context.log.write_text("".join(lines + failed))
    return request | {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobArn": context.arn(f"hyper-parameter-tuning-job/{name}"),
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


def trial_log(log: Path, number: int) -> Path:
    """Return the log of a training job, for that of its tuning job."""
    return log.with_suffix(f".{number:03d}.log")


def _objective_value(summary: Json) -> float:
    return float(summary["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


def _check_objective(definition: Json, metric: str) -> None:
    if metric not in [each["Name"] for each in definition["AlgorithmSpecification"].get("MetricDefinitions") or []]:
        raise JobFailed(
            f"the objective {metric!r} has no MetricDefinition with a Regex in the training job's definition"
        )


def _propose(config: Json, maximize: bool, values: dict[int, float | None]) -> Iterator[dict[str, str]]:
    """Return an iterator over hyperparameters to try, by the tuning job's Strategy.

    `values` holds the objective of each ended trial by its number, or None if it failed. Raises JobFailed for a
    strategy that does not run locally.
    """
    ranges, strategy, seed = config["ParameterRanges"], config["Strategy"], config.get("RandomSeed", 0)
    if strategy == "Grid":
        return _grid(ranges)
    if strategy == "Random":
        return _random(ranges, seed)
    if strategy == "Bayesian":
        return _bayesian(ranges, seed, maximize, values)
    raise JobFailed(f"strategy {strategy} does not run locally: choose Random, Grid or Bayesian")


def _grid(ranges: Json) -> Iterator[dict[str, str]]:
    if ranges.get("IntegerParameterRanges") or ranges.get("ContinuousParameterRanges"):
        raise JobFailed("Grid search takes CategoricalParameterRanges only, as on SageMaker")
    categories = ranges.get("CategoricalParameterRanges") or []
    for values in itertools.product(*[category["Values"] for category in categories]):
        yield {category["Name"]: value for category, value in zip(categories, values, strict=True)}


def _random(ranges: Json, seed: int) -> Iterator[dict[str, str]]:
    trial = RandomTrial(seed)
    while True:
        yield _suggested(trial, ranges)


def _bayesian(ranges: Json, seed: int, maximize: bool, values: dict[int, float | None]) -> Iterator[dict[str, str]]:
    try:
        import optuna
    except ImportError:
        raise JobFailed("Bayesian search needs Optuna: `uv add --dev optuna`, or choose Random") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", module="optuna")  # constant_liar is called experimental, at each start
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    trials: dict[int, Any] = {}
    for number in itertools.count(1):
        for ended in sorted(trials.keys() & values.keys()):
            has_failed = values[ended] is None
            study.tell(trials.pop(ended), values[ended], optuna.trial.TrialState.FAIL if has_failed else None)
        trials[number] = study.ask()
        yield _suggested(trials[number], ranges)


class RandomTrial:
    """Independent draws, by the methods of Optuna's Trial."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_categorical(self, _: str, values: list[str]) -> str:
        """Return one of `values`."""
        return self._random.choice(values)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """Return a number from `low` to `high`, on a logarithmic scale if `log` is True."""
        return min(high, max(low, round(self.suggest_float(name, low - 0.5, high + 0.5, log=log))))

    def suggest_float(self, _: str, low: float, high: float, *, log: bool) -> float:
        """Return a number from `low` to `high`, on a logarithmic scale if `log` is True."""
        if log:
            return math.exp(self._random.uniform(math.log(low), math.log(high)))
        return self._random.uniform(low, high)


def _suggested(trial: Any, ranges: Json) -> dict[str, str]:
    """Return the values of all hyperparameters that a trial suggests."""
    chosen = {}
    for item in ranges.get("CategoricalParameterRanges") or []:
        chosen[item["Name"]] = str(trial.suggest_categorical(item["Name"], item["Values"]))
    for item in ranges.get("IntegerParameterRanges") or []:
        low, high = int(item["MinValue"]), int(item["MaxValue"])
        chosen[item["Name"]] = str(trial.suggest_int(item["Name"], low, high, log=_is_logarithmic(item)))
    for item in ranges.get("ContinuousParameterRanges") or []:
        start, end = float(item["MinValue"]), float(item["MaxValue"])
        if item.get("ScalingType") == "ReverseLogarithmic":  # logarithmic in the distance to 1
            drawn = 1 - trial.suggest_float(item["Name"], 1 - end, 1 - start, log=True)
        else:
            drawn = trial.suggest_float(item["Name"], start, end, log=_is_logarithmic(item))
        chosen[item["Name"]] = repr(min(end, max(start, drawn)))
    return chosen


def _is_logarithmic(item: Json) -> bool:
    return bool(item.get("ScalingType") == "Logarithmic")
