"""What an ended execution comes to: its metrics, the gate's verdict, what failed and why, what to do next.
Follow an execution to its end: a live table on a terminal, a line per event elsewhere.
Follow an execution and report on it: the end of `sagegate run` and of `sagegate status --follow`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagegate import output
from sagegate.errors import FAILED, INTERRUPTED, REJECTED, SagegateError
from sagegate.evaluation import Evaluation
from sagegate.output import note, seconds
from sagegate.pipeline.definition import steps_of
from sagegate.registry import evaluation as evaluations
from sagegate.runs.executions import console_links, execution_definition, execution_steps, last_log_lines
from sagegate.session import Session, pages

if TYPE_CHECKING:
    from rich.console import Group


Json = dict[str, Any]
LOG_LINES = 25
GATE_TODO = "nothing was registered; improve the model, or change [gate] in mlops.toml"


@dataclass(frozen=True)
class Verdict:
    """How an execution ended: the command's exit code, a title and a line for people, what to do next."""

    exit_code: int
    title: str
    line: str
    todo: str | None


def report(session: Session, arn: str, body: Json) -> int:
    """Print it, and put it into the job's summary; the exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    execution = session.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    steps = execution_steps(session, arn)
    evaluation = evaluations.evaluation_of_steps(session, body, steps)
    if evaluation:
        output.metrics_table(evaluation)
    facts: list[tuple[str, object]] = [("execution", arn.rpartition("/")[2])]
    if not session.environment.is_local:
        from sagegate.runs import executions as cost

        costs = cost.summary(session, steps)
        output.line(costs)
        addresses = console_links(session)
        facts += [("cost", costs), *addresses.items()]
        for console, address in addresses.items():
            output.line(f"{console}: {address}")
    ended = verdict(session, arn, execution, steps, evaluation)
    log: list[str] = []
    failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
    if ended.exit_code == FAILED and failed:
        log = last_log_lines(session, arn, failed, LOG_LINES)
        output.log(failed["StepName"], log)
    passed = ended.exit_code == 0
    output.verdict(passed, ended.line, ended.todo)
    lines = output.run_summary(
        ended.title, passed, ended.line, None if passed else ended.todo, evaluation, steps, facts
    )
    if log and failed:
        lines += ["", *output.folded(f"The end of the log of {failed['StepName']}", output.fenced(log))]
    output.append_summary(lines)
    return ended.exit_code


def verdict(session: Session, arn: str, execution: Json, steps: list[Json], evaluation: Evaluation | None) -> Verdict:
    """How the execution ended. Pure."""
    where = session.environment.name
    rejected = evaluations.rejection_message(steps)
    if rejected:
        return Verdict(REJECTED, f"{where}: the gate rejected the candidate", rejected, GATE_TODO)
    if execution["PipelineExecutionStatus"] != "Succeeded":
        failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
        todo = f"sagegate explain {arn.rpartition('/')[2]}{session.option}" if session.option and failed else None
        return Verdict(FAILED, f"{where}: the execution failed", _reason(execution, failed), todo)
    package = evaluations.registered_model(steps)
    if package is None:
        return Verdict(0, f"{where}: the execution succeeded", "succeeded", None)
    version = package.rpartition("/")[2]
    reason = evaluation.gate.get("reason", "") if evaluation else ""
    todo = f"sagegate approve {version} --reason '...'{session.option}, then sagegate serve{session.option}"
    title = f"{where}: model {version} passed the gate"
    return Verdict(0, title, f"model {version} registered: {reason}", todo)


def _reason(execution: Json, failed: Json | None) -> str:
    """Why an execution did not succeed; SageMaker's own reason says only that some step failed."""
    if failed and failed.get("FailureReason"):
        return f"Step {failed['StepName']} failed: {failed['FailureReason']}"
    return str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])


LOCAL_POLL_SECONDS = 0.05
# On AWS a look costs two calls of an account-wide quota: often while steps may be cached, then rarely.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 10.0
PATIENCE_SECONDS = 600.0
MARKS = {
    "Succeeded": "[green]✔[/]",
    "Failed": "[red]✘[/]",
    "Stopped": "[yellow]■[/]",
    "Stopping": "[yellow]■[/]",
    "Executing": "[cyan]▸[/]",
    "Starting": "[cyan]▸[/]",
}
UNDER_WAY = ("Executing", "Starting", "Stopping")


def follow(session: Session, arn: str, body: Json, state: str) -> None:
    """Show the execution's steps until it ends. Lost connections and throttling are waited out for ten minutes."""
    title = f"{session.names.pipeline} · {session.environment.name} · execution {arn.rpartition('/')[2]} · {state}"
    if sys.stdout.isatty() and not os.environ.get("CI"):  # a runner may have a terminal, its log has not
        _follow_live(session, arn, list(steps_of(body)), title)
    else:
        _follow_lines(session, arn, title)


def looks(session: Session, arn: str) -> Iterator[tuple[list[Json], bool]]:
    """The steps so far, and whether the execution has ended; the last look comes after its end."""
    pauses = _pauses(session)
    lost_since: float | None = None
    while True:
        try:
            ended = session.wait(arn, next(pauses))
            call = session.sagemaker.list_pipeline_execution_steps
            steps = list(pages(call, "PipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending"))
        except Exception as error:
            lost_since = lost_since or time.monotonic()
            _survive(session, arn, error, time.monotonic() - lost_since)
            continue
        lost_since = None
        yield steps, ended
        if ended:
            return


def _pauses(session: Session) -> Iterator[float]:
    """Seconds to wait before each look; SAGEGATE_POLL_SECONDS sets them all."""
    given = os.environ.get("SAGEGATE_POLL_SECONDS")
    pause = float(given) if given else LOCAL_POLL_SECONDS if session.environment.is_local else FIRST_POLL_SECONDS
    grows = not given and not session.environment.is_local
    while True:
        yield pause
        pause = min(pause * 1.2, LAST_POLL_SECONDS) if grows else pause


def _survive(session: Session, arn: str, error: Exception, lost: float) -> None:
    """Return if looking again may help; else raise what the reader needs to know: the execution itself goes on."""
    if session.environment.is_local:
        raise error
    from sagegate.aws_errors import expired, explain_aws_error, passes

    again = f"`sagegate status {arn.rpartition('/')[2]} --follow --env {session.environment.name}` follows it"
    if expired(error):
        raise SagegateError(f"the AWS credentials expired; the execution goes on: log in again, then {again}") from None
    if not passes(error):
        raise error
    if lost > PATIENCE_SECONDS:
        raise SagegateError(f"{explain_aws_error(error)}; the execution goes on: {again}") from None


def _follow_live(session: Session, arn: str, names: list[str], title: str) -> None:
    from rich.live import Live

    with Live(_table(names, [], title), refresh_per_second=12) as live:
        for steps, ended in looks(session, arn):
            live.update(_table(names, steps, title), refresh=ended)


def _table(names: list[str], steps: list[Json], title: str) -> Group:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    known = {step["StepName"]: step for step in steps}
    for name in names:
        if name in known:
            step = known[name]
            table.add_row(MARKS[step["StepStatus"]], name, seconds(step), note(step))
        else:
            table.add_row("[dim]·[/]", f"[dim]{name}[/]", "", "")
    return Group(title, table)


def _follow_lines(session: Session, arn: str, title: str) -> None:
    print(title, flush=True)
    shown: dict[str, str] = {}
    for steps, _ in looks(session, arn):
        for step in steps:
            status = step["StepStatus"]
            if shown.get(step["StepName"]) == status or status in UNDER_WAY:
                continue
            print(f"  {status:<10} {step['StepName']:<16} {seconds(step):>8}  {note(step)}".rstrip(), flush=True)
            shown[step["StepName"]] = status


def follow_and_report(session: Session, arn: str, state: str) -> int:
    """Follow an execution to its end and report on it; the exit code. Ctrl-C stops a local execution, and leaves one
    on AWS running."""
    body = execution_definition(session, arn)
    name = arn.rpartition("/")[2]
    try:
        follow(session, arn, body, state)
    except KeyboardInterrupt:
        if not session.environment.is_local:
            where = f"--env {session.environment.name}"
            said = f"execution {name} goes on: `sagegate status {name} --follow {where}`, or `sagegate stop {name} {where}`"
            raise SagegateError(said, INTERRUPTED) from None
        session.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
        session.wait(arn, 10)
        raise SagegateError(f"execution {name} stopped", INTERRUPTED) from None
    return report(session, arn, body)
