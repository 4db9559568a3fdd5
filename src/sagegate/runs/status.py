"""`sagegate status` and `sagegate stop`: the latest executions, or one with its steps.
`sagegate models --compare`: executions and their models side by side, parameters against metrics.

Parameters that are the same in all of them are left out: a column is there because it may explain a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sagegate import output
from sagegate.errors import USAGE, SagegateError
from sagegate.output import note, seconds
from sagegate.registry import evaluation as evaluations
from sagegate.runs.executions import (
    console_links,
    describe_execution,
    execution_definition,
    execution_steps,
    last_log_lines,
    latest_executions,
)
from sagegate.session import Session, pages

Json = dict[str, Any]
LOG_LINES = 40


def list_executions(session: Session, count: int) -> None:
    """The latest executions, the newest first, and how each ended."""
    found = latest_executions(session, count)
    if not found:
        output.line(f"nothing has run yet: `sagegate run{session.option}` does")
        return
    rows = []
    for summary in found:
        reason = summary.get("PipelineExecutionFailureReason", "")
        started = f"{summary['StartTime']:%Y-%m-%d %H:%M:%S}"
        name = summary["PipelineExecutionArn"].rpartition("/")[2]
        rows.append([name, summary["PipelineExecutionStatus"], started, reason])
    output.table(["execution", "status", "started (UTC)", "reason"], rows)


def show_execution(session: Session, name: str) -> None:
    """One execution's steps, what they are billed for, and the log of the step that failed."""
    execution = describe_execution(session, name)
    arn = execution["PipelineExecutionArn"]
    steps = execution_steps(session, arn)
    headings = ["step", "status", "time", "note"]
    rows = [[s["StepName"], s["StepStatus"], seconds(s), s.get("FailureReason") or note(s)] for s in steps]
    if not session.environment.is_local:
        from sagegate.runs.executions import billable_seconds

        headings.insert(3, "billable s")
        for row, step in zip(rows, steps, strict=True):
            row.insert(3, billable_seconds(session, step))
    if "PipelineExecutionDescription" in execution:
        output.line(f"reason: {execution['PipelineExecutionDescription']}")
    output.table(headings, rows)
    for step in steps:
        if step["StepStatus"] == "Failed" and "Fail" not in step.get("Metadata", {}):
            output.log(step["StepName"], last_log_lines(session, arn, step, LOG_LINES))
    if not session.environment.is_local:
        for console, address in console_links(session).items():
            output.line(f"{console}: {address}")
    reason = execution.get("FailureReason")
    status = execution["PipelineExecutionStatus"]
    output.verdict(status in ("Succeeded", "Executing"), f"{status}: {reason}" if reason else status, None)


def follow_execution(session: Session, name: str | None) -> int:
    """Follow an execution (the latest by default) to its end; the exit code, as of `sagegate run`."""
    from sagegate.runs.follow import follow_and_report

    if name is None:
        latest = latest_executions(session, 1)
        if not latest:
            raise SagegateError(f"nothing has run yet: `sagegate run{session.option}` does", USAGE)
        name = latest[0]["PipelineExecutionArn"].rpartition("/")[2]
    return follow_and_report(session, describe_execution(session, name)["PipelineExecutionArn"], "followed")


def stop_execution(session: Session, name: str) -> None:
    """Ask an execution to stop; one that has ended is left as it is, and said so."""
    execution = describe_execution(session, name)
    status = execution["PipelineExecutionStatus"]
    if status not in ("Executing", "Stopping"):
        raise SagegateError(f"execution {name} has ended already: {status}")
    from sagegate.runs.start import request_token

    arn = execution["PipelineExecutionArn"]
    session.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=request_token())
    output.verdict(True, f"execution {name} is stopping", f"sagegate status {name}{session.option}")


# They differ in every execution or are long; `sagegate status` and `sagegate models VERSION` show them.
LEFT_OUT = ("StartedBy", "RoleArn", "ImageUri")


@dataclass(frozen=True)
class Trial:
    """One execution: its name, status, model version if it registered one, parameters and metrics."""

    name: str
    status: str
    version: str | None
    parameters: dict[str, str]
    metrics: dict[str, float]


def compare(session: Session, count: int) -> None:
    """Print the latest executions as a table, the newest first."""
    trials = [_trial(session, summary) for summary in latest_executions(session, count)]
    if not trials:
        output.line("nothing has run yet, so there is nothing to compare")
        return
    headings, rows = table(trials)
    output.table(headings, rows)


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


def _trial(session: Session, summary: Json) -> Trial:
    arn = summary["PipelineExecutionArn"]
    call = session.sagemaker.list_pipeline_parameters_for_execution
    given = {p["Name"]: str(p["Value"]) for p in pages(call, "PipelineParameters", PipelineExecutionArn=arn)}
    body = execution_definition(session, arn)
    defaults = {p["Name"]: str(p["DefaultValue"]) for p in body.get("Parameters", []) if "DefaultValue" in p}
    steps = execution_steps(session, arn)
    evaluation = evaluations.evaluation_of_steps(session, body, steps)
    package = evaluations.registered_model(steps)
    return Trial(
        name=arn.rpartition("/")[2],
        status="Rejected" if evaluations.rejection_message(steps) else summary["PipelineExecutionStatus"],
        version=package.rpartition("/")[2] if package else None,
        parameters=defaults | given,
        metrics={name: value for name, (value, _) in evaluation.metrics.items()} if evaluation else {},
    )


def _short(value: str) -> str:
    """A parameter's value for a column: of a code package's URI the digest's beginning."""
    if value.startswith("s3://"):
        return next((part[:12] for part in value.split("/") if len(part) in (64, 16)), value.rpartition("/")[2])
    return value if len(value) <= 16 else f"{value[:12]}…"
