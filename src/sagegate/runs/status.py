"""`sagegate status`, `sagegate stop` and `sagegate models --compare`."""

from __future__ import annotations

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
    for step in steps:
        if step["StepStatus"] == "Failed" and "Fail" not in step.get("Metadata", {}):
            output.log(step["StepName"], last_log_lines(session, arn, step, LOG_LINES))
    if not session.environment.is_local:
        output.line(f"logs: {output.job_logs(session.names.partition, session.names.region)}")
    reason, status = execution.get("FailureReason"), execution["PipelineExecutionStatus"]
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
    """Print the latest executions side by side: status, model, the parameters that differ, and the metrics."""
    trials = []
    for summary in latest_executions(session, count):
        arn = summary["PipelineExecutionArn"]
        definition, steps = execution_definition(session, arn), execution_steps(session, arn)
        evaluation = evaluations.evaluation_of_steps(session, definition, steps)
        metrics = {name: f"{value:.5g}" for name, (value, _) in evaluation.metrics.items()} if evaluation else {}
        defaults = {p["Name"]: str(p["DefaultValue"]) for p in definition["Parameters"] if "DefaultValue" in p}
        status = "Rejected" if evaluations.rejection_message(steps) else summary["PipelineExecutionStatus"]
        model = (evaluations.registered_model(steps) or "").rpartition("/")[2]
        trials.append(([arn.rpartition("/")[2], status, model], defaults | execution_parameters(session, arn), metrics))
    if not trials:
        output.line("nothing has run yet, so there is nothing to compare")
        return
    names = sorted({name for _, values, _ in trials for name in values} - set(NOT_COMPARED))
    differing = [name for name in names if len({values.get(name) for _, values, _ in trials}) > 1]
    metric_names = list(dict.fromkeys(name for *_, metrics in trials for name in metrics))
    rows = [
        [*start, *(_short(values.get(n, "")) for n in differing), *(metrics.get(n, "") for n in metric_names)]
        for start, values, metrics in trials
    ]
    output.table(["execution", "status", "model", *differing, *metric_names], rows)


def _short(value: str) -> str:
    """Shorten a parameter's value for a column; of a code package's URI, keep the start of the digest."""
    if value.startswith("s3://"):
        return next((part[:12] for part in value.split("/") if len(part) in (64, 16)), value.rpartition("/")[2])
    return value if len(value) <= 16 else f"{value[:12]}…"
