"""`sagegate status`, `sagegate stop` and `sagegate models --compare`."""

from __future__ import annotations

from textwrap import wrap

from sagegate import output
from sagegate.errors import USAGE, SagegateError
from sagegate.output import note, seconds
from sagegate.registry import evaluation as evaluations
from sagegate.runs.executions import (
    billable_seconds,
    describe_execution,
    execution_definition,
    execution_parameters,
    execution_steps,
    last_log_lines,
    latest_executions,
)
from sagegate.session import Session

LOG_LINES = 40
CHANGED_COLUMNS = 48  # so that the table of `compare` fits into 100
# `compare` leaves them out: they differ in every execution, or are long.
NOT_COMPARED = ("StartedBy", "Overrides", "RoleArn", "ImageUri")


def list_executions(session: Session, count: int) -> None:
    """Print the latest executions, newest first."""
    summaries = latest_executions(session, count)
    if not summaries:
        output.line(f"nothing has run yet: start with `sagegate run{session.option}`")
        return
    rows = []
    for summary in summaries:
        arn, status = summary["PipelineExecutionArn"], summary["PipelineExecutionStatus"]
        reason = summary.get("PipelineExecutionFailureReason", "")
        if status == "Failed" and (rejection := evaluations.rejection_message(execution_steps(session, arn))):
            status, reason = "Rejected", rejection  # to SageMaker, an execution that the gate ends has failed
        rows.append([arn.rpartition("/")[2], status, f"{summary['StartTime']:%Y-%m-%d %H:%M:%S}", reason])
    output.table(["execution", "status", "started (UTC)", "reason"], rows)


def show_execution(session: Session, name: str) -> None:
    """Print an execution's steps, the seconds that AWS bills for them, and the log of the step that failed."""
    execution = describe_execution(session, name)
    arn = execution["PipelineExecutionArn"]
    steps = execution_steps(session, arn)
    headings = ["step", "status", "time", "note"]
    rows = [[s["StepName"], s["StepStatus"], seconds(s), s.get("FailureReason") or note(s)] for s in steps]
    if not session.environment.is_local:
        headings.insert(3, "billed s")
        for row, step in zip(rows, steps, strict=True):
            row.insert(3, billable_seconds(session, step))
    if "PipelineExecutionDescription" in execution:
        output.line(f"reason: {execution['PipelineExecutionDescription']}")
    output.table(headings, rows)
    reason, status = execution.get("FailureReason"), execution["PipelineExecutionStatus"]
    for step in steps:
        if step["StepStatus"] == "Failed" and "Fail" not in step.get("Metadata", {}):
            output.log(step["StepName"], last_log_lines(session, arn, step, LOG_LINES), reason or "")
    if not session.environment.is_local:
        output.line(f"logs: {output.job_logs(session.names.partition, session.names.region)}")
    if rejection := evaluations.rejection_message(steps):
        reason, status = rejection, "Rejected"
    output.verdict(status in ("Succeeded", "Executing"), f"{status}: {reason}" if reason else status, None)


def follow_execution(session: Session, name: str | None) -> int:
    """Follow an execution, the latest by default, to its end; return the exit code of `sagegate run`."""
    from sagegate.runs.follow import follow_and_report

    if name is None:
        latest = latest_executions(session, 1)
        if not latest:
            raise SagegateError(f"nothing has run yet: start with `sagegate run{session.option}`", USAGE)
        name = latest[0]["PipelineExecutionArn"].rpartition("/")[2]
    return follow_and_report(session, describe_execution(session, name)["PipelineExecutionArn"], "followed")


def stop_execution(session: Session, name: str) -> None:
    """Ask SageMaker to stop an execution; raise SagegateError if it has ended."""
    from sagegate.runs.start import request_token

    execution = describe_execution(session, name)
    status = execution["PipelineExecutionStatus"]
    if status not in ("Executing", "Stopping"):
        raise SagegateError(f"execution {name} has ended already: {status}")
    arn = execution["PipelineExecutionArn"]
    session.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=request_token())
    output.verdict(True, f"execution {name} is stopping", f"sagegate status {name}{session.option}")


def compare(session: Session, count: int) -> None:
    """Print the latest executions, the newest first: verdict, model, gate metric, what changed since the one before."""
    trials = []
    for summary in latest_executions(session, count + 1):
        arn = summary["PipelineExecutionArn"]
        definition, steps = execution_definition(session, arn), execution_steps(session, arn)
        evaluation = evaluations.evaluation_of_steps(session, definition, steps)
        gate = evaluation.gate if evaluation else {}
        candidate = gate.get("candidate")
        metric = f"{gate.get('metric')} {candidate:.5g}" if isinstance(candidate, int | float) else ""
        status = "Rejected" if evaluations.rejection_message(steps) else summary["PipelineExecutionStatus"]
        model = (evaluations.registered_model(steps) or "").rpartition("/")[2]
        defaults = {p["Name"]: str(p["DefaultValue"]) for p in definition["Parameters"] if "DefaultValue" in p}
        values = defaults | execution_parameters(session, arn)
        trials.append(([arn.rpartition("/")[2], "Passed" if model else status, model, metric], values))
    if not trials:
        output.line("nothing has run yet, so there is nothing to compare")
        return
    rows = []
    for (cells, values), (_, before) in zip(trials, [*trials[1:], ([], None)], strict=True):
        names = sorted(((before or {}).keys() | values.keys()) - set(NOT_COMPARED))
        changed = [f"{n}={_short(values.get(n, ''))}" for n in names if before and values.get(n) != before.get(n)]
        rows.append([*cells, "\n".join(wrap(" ".join(changed), CHANGED_COLUMNS))])
    output.table(["execution", "verdict", "model", "gate metric", "changed since the one before"], rows[:count])


def _short(value: str) -> str:
    """Shorten a parameter's value for a column; of a code package's URI, keep the start of the digest."""
    if value.startswith("s3://"):
        return next((part[:12] for part in value.split("/") if len(part) in (64, 16)), value.rpartition("/")[2])
    return value if len(value) <= 16 else f"{value[:12]}…"
