"""Follow an execution to its end, and report on it: metrics, the gate's verdict, the log of a failed step."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagegate import markdown, output
from sagegate.errors import FAILED, REJECTED, SagegateError, interrupt_code
from sagegate.evaluation import Evaluation
from sagegate.files import Json
from sagegate.output import note, seconds
from sagegate.pipeline.definition import steps_of
from sagegate.registry import evaluation as evaluations
from sagegate.runs.executions import (
    billed,
    execution_definition,
    execution_steps,
    last_log_lines,
    tuning_result,
)
from sagegate.runs.tracking import track
from sagegate.session import Session

if TYPE_CHECKING:
    from rich.console import Group

LOG_LINES = 25
GATE_ADVICE = "nothing was registered; improve the model, or change [gate] in mlops.toml"
LOCAL_POLL_SECONDS = 0.05
# On AWS a poll costs two calls of an account-wide quota: poll often while steps may be cached, then rarely.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 10.0
RECONNECT_SECONDS = 600.0
IN_PROGRESS = ("Executing", "Starting", "Stopping")
MARKS = {
    "Succeeded": "[green]✔[/]",
    "Failed": "[red]✘[/]",
    "Stopped": "[yellow]■[/]",
    "Stopping": "[yellow]■[/]",
    "Executing": "[cyan]▸[/]",
    "Starting": "[cyan]▸[/]",
}


def follow_and_report(session: Session, arn: str, suffix: str) -> int:
    """Follow an execution to its end and report on it; return the exit code: 0 succeeded, 3 rejected, 1 failed.

    `suffix` ends the title, such as `pipeline updated`. Ctrl-C, SIGTERM and SIGHUP stop a local execution; one on AWS
    continues.
    """
    definition = execution_definition(session, arn)
    name = arn.rpartition("/")[2]
    try:
        follow(session, arn, list(steps_of(definition)), suffix)
    except KeyboardInterrupt as interrupt:
        code = interrupt_code(interrupt)
        if not session.environment.is_local:
            commands = f"`sagegate status {name} --follow{session.option}`, or `sagegate stop {name}{session.option}`"
            raise SagegateError(f"execution {name} goes on: {commands}", code) from None
        session.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
        session.wait(arn, 10)
        raise SagegateError(f"execution {name} stopped", code) from None
    return report(session, arn, definition)


def follow(session: Session, arn: str, names: list[str], suffix: str) -> None:
    """Show the execution's steps until it ends: a live table on a terminal, otherwise a line for each ended step."""
    title = f"{session.names.pipeline} · {session.environment.name} · execution {arn.rpartition('/')[2]} · {suffix}"
    if sys.stdout.isatty() and not os.environ.get("CI"):  # a CI runner may allocate a TTY, but its log shows no redraws
        from rich.live import Live

        with Live(_table(names, [], title), refresh_per_second=12) as live:
            for steps, ended in poll(session, arn):
                live.update(_table(names, steps, title), refresh=ended)
        return
    print(title, flush=True)
    shown: dict[str, str] = {}
    for steps, _ in poll(session, arn):
        for step in steps:
            name, status = step["StepName"], step["StepStatus"]
            if status not in IN_PROGRESS and shown.get(name) != status:
                print(f"  {status:<10} {name:<16} {seconds(step):>8}  {note(step)}".rstrip(), flush=True)
                shown[name] = status


def _table(names: list[str], steps: list[Json], title: str) -> Group:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    started = {step["StepName"]: step for step in steps}
    for name in names:
        if name in started:
            step = started[name]
            table.add_row(MARKS[step["StepStatus"]], name, seconds(step), note(step))
        else:
            table.add_row("[dim]·[/]", f"[dim]{name}[/]", "", "")
    return Group(title, table)


def poll(session: Session, arn: str) -> Iterator[tuple[list[Json], bool]]:
    """Yield (steps, True if the execution has ended) until it has; retry lost connections and throttling.

    SAGEGATE_POLL_SECONDS sets the pause between polls. boto3 has no waiter for pipeline executions.
    """
    given = os.environ.get("SAGEGATE_POLL_SECONDS")
    local = session.environment.is_local
    pause = float(given) if given else LOCAL_POLL_SECONDS if local else FIRST_POLL_SECONDS
    lost_since: float | None = None
    ended = False
    while not ended:
        try:
            ended = session.wait(arn, pause)
            steps = execution_steps(session, arn)
        except Exception as error:
            ended = False
            lost_since = lost_since or time.monotonic()
            _check_retryable(session, arn, error, time.monotonic() - lost_since)
        else:
            lost_since = None
            yield steps, ended
        if not given and not local:
            pause = min(pause * 1.2, LAST_POLL_SECONDS)


def _check_retryable(session: Session, arn: str, error: Exception, lost_seconds: float) -> None:
    """Return if polling again may help; otherwise raise the error, with a hint that the execution goes on."""
    if session.environment.is_local:
        raise error
    from sagegate.aws_errors import explain_aws_error, is_expired, is_temporary

    again = f"`sagegate status {arn.rpartition('/')[2]} --follow{session.option}` follows it"
    if is_expired(error):
        raise SagegateError(f"the AWS credentials expired; the execution goes on: log in again, then {again}") from None
    if not is_temporary(error):
        raise error
    if lost_seconds > RECONNECT_SECONDS:
        raise SagegateError(f"{explain_aws_error(error)}; the execution goes on: {again}") from None


@dataclass(frozen=True)
class Verdict:
    """The result of an ended execution: exit code, title, a line for the user, and what to do next."""

    exit_code: int
    title: str
    line: str
    todo: str | None


def report(session: Session, arn: str, definition: Json) -> int:
    """Print an ended execution's result and append it to the job summary; return the exit code."""
    execution = session.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    steps = execution_steps(session, arn)
    evaluation = evaluations.evaluation_of_steps(session, definition, steps)
    if evaluation:
        output.metrics_table(evaluation)
    name = arn.rpartition("/")[2]
    facts: list[tuple[str, object]] = [("execution", name), ("report", f"sagegate report {name}{session.option}")]
    if tuned := tuning_result(session, steps):
        facts.append(("tuning", tuned))
    if not session.environment.is_local:
        logs = output.job_logs(session.names.partition, session.names.region)
        facts += [("billed", billed(session, steps)), ("logs", logs)]
    for fact, text in facts[1:]:
        output.line(f"{fact}: {text}")
    verdict = judge(session, arn, execution, steps, evaluation)
    log: list[str] = []
    failed = _failed_step(steps)
    if verdict.exit_code == FAILED and failed:
        log = last_log_lines(session, arn, failed, LOG_LINES)
        output.log(failed["StepName"], log, verdict.line)
    passed = verdict.exit_code == 0
    output.verdict(passed, verdict.line, verdict.todo)
    lines = markdown.run_summary(
        verdict.title, passed, verdict.line, None if passed else verdict.todo, evaluation, steps, facts
    )
    if log and failed:
        lines += ["", *markdown.folded(f"The end of the log of {failed['StepName']}", markdown.fenced(log))]
    markdown.append_summary(lines)
    markdown.set_output("execution", name)
    track(session, execution, definition, steps, evaluation, verdict.line)
    return verdict.exit_code


def judge(session: Session, arn: str, execution: Json, steps: list[Json], evaluation: Evaluation | None) -> Verdict:
    """Return the verdict on an ended execution."""
    where = session.environment.name
    rejected = evaluations.rejection_message(steps)
    if rejected:
        return Verdict(REJECTED, f"{where}: the gate rejected the candidate", rejected, GATE_ADVICE)
    if execution["PipelineExecutionStatus"] != "Succeeded":
        failed = _failed_step(steps)
        todo = f"sagegate explain {arn.rpartition('/')[2]}{session.option}" if session.option and failed else None
        if failed and failed.get("FailureReason"):  # SageMaker's own reason says only that a step failed
            reason = f"Step {failed['StepName']} failed: {failed['FailureReason']}"
        else:
            reason = str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])
        return Verdict(FAILED, f"{where}: the execution failed", reason, todo)
    package = evaluations.registered_model(steps)
    if package is None:
        return Verdict(0, f"{where}: the execution succeeded", "succeeded", None)
    version = package.rpartition("/")[2]
    reason = evaluation.gate.get("reason", "") if evaluation else ""
    todo = f"sagegate approve {version} --reason '...', then sagegate serve"
    if not session.environment.is_local:  # there a deployment approves the model, after a review
        todo = "sagegate promote staging --pull-request"
    return Verdict(0, f"{where}: model {version} passed the gate", f"model {version} registered: {reason}", todo)


def _failed_step(steps: list[Json]) -> Json | None:
    return next((step for step in steps if step["StepStatus"] == "Failed"), None)
