"""`mlops models --compare`: executions and their models side by side, parameters against metrics.

Parameters that are the same in all of them are left out: a column is there because it may explain a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops import evidence, show
from mlops.aws import Door, pages
from mlops.runs.executions import execution_definition, executions, steps_of

Json = dict[str, Any]
# They differ in every execution or are long; `mlops status` and `mlops models VERSION` show them.
LEFT_OUT = ("StartedBy", "RoleArn", "ImageUri")


@dataclass(frozen=True)
class Trial:
    """One execution: its name, status, model version if it registered one, parameters and metrics."""

    name: str
    status: str
    version: str | None
    parameters: dict[str, str]
    metrics: dict[str, float]


def compare(door: Door, count: int) -> None:
    """Print the latest executions as a table, the newest first."""
    trials = [_trial(door, summary) for summary in executions(door, count)]
    if not trials:
        show.line("nothing has run yet, so there is nothing to compare")
        return
    headings, rows = table(trials)
    show.table(headings, rows)


def table(trials: list[Trial]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: execution, status, model, the parameters that differ, the metrics."""
    names = sorted({name for trial in trials for name in trial.parameters} - set(LEFT_OUT))
    differing = [name for name in names if len({trial.parameters.get(name) for trial in trials}) > 1]
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    rows = [
        [
            trial.name,
            trial.status,
            trial.version or "",
            *(_short(trial.parameters.get(name, "")) for name in differing),
            *(f"{trial.metrics[name]:.5g}" if name in trial.metrics else "" for name in metrics),
        ]
        for trial in trials
    ]
    return ["execution", "status", "model", *differing, *metrics], rows


def _trial(door: Door, summary: Json) -> Trial:
    arn = summary["PipelineExecutionArn"]
    call = door.sagemaker.list_pipeline_parameters_for_execution
    given = {p["Name"]: str(p["Value"]) for p in pages(call, "PipelineParameters", PipelineExecutionArn=arn)}
    body = execution_definition(door, arn)
    defaults = {p["Name"]: str(p["DefaultValue"]) for p in body.get("Parameters", []) if "DefaultValue" in p}
    steps = steps_of(door, arn)
    evaluation = evidence.evaluation_of_steps(door, body, steps)
    package = evidence.registered(steps)
    return Trial(
        name=arn.rpartition("/")[2],
        status="Rejected" if evidence.rejection(steps) else summary["PipelineExecutionStatus"],
        version=package.rpartition("/")[2] if package else None,
        parameters=defaults | given,
        metrics={name: value for name, (value, _) in evaluation.metrics.items()} if evaluation else {},
    )


def _short(value: str) -> str:
    """A parameter's value for a column: of a code package's URI the digest's beginning."""
    if value.startswith("s3://"):
        return next((part[:12] for part in value.split("/") if len(part) in (64, 16)), value.rpartition("/")[2])
    return value if len(value) <= 16 else f"{value[:12]}…"
