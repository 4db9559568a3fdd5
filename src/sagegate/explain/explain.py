"""`sagegate explain`: why an execution failed. The step, its reason, the end of its log, the likely cause and the fix."""

from __future__ import annotations

from typing import Any

from sagegate import output
from sagegate.explain.causes import Case, Diagnosis, diagnose
from sagegate.output import seconds
from sagegate.pipeline.definition import Step
from sagegate.pipeline.definition import steps_of as definition_steps
from sagegate.registry import evaluation as evaluations
from sagegate.runs.executions import (
    LOG_GROUPS,
    console_links,
    describe_execution,
    execution_definition,
    execution_steps,
    job_of,
    last_log_lines,
    latest_executions,
)
from sagegate.session import Session

Json = dict[str, Any]
READ_LINES = 300  # of a log; a traceback through libraries is long
SHOWN_LINES = 25
LOOK_BACK = 100  # executions, for the latest that failed


def explain(session: Session, name: str | None) -> None:
    """Explain an execution, the latest that failed by default."""
    where = "" if session.environment.is_local else f" --env {session.environment.name}"
    name = name or _latest_failed(session)
    if name is None:
        output.verdict(True, f"no execution has failed: `sagegate status{where}` lists them", None)
        return
    execution = describe_execution(session, name)
    arn, status = execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
    name = arn.rpartition("/")[2]
    started = f"{execution['CreationTime']:%Y-%m-%d %H:%M:%S %Z}"
    output.line(f"execution {name} · {session.names.pipeline} · {session.environment.name} · started {started}")
    steps = execution_steps(session, arn)
    failed = [step for step in steps if step["StepStatus"] == "Failed"]
    bodies = _bodies(session, arn)
    if status == "Succeeded":
        output.verdict(True, "it succeeded: there is nothing to explain", None)
    elif not failed and status in ("Executing", "Stopping"):
        output.verdict(True, "it has not failed so far", f"sagegate status {name} --follow{where}")
    elif not failed:
        _explain_execution(session, execution, steps, bodies)
    for step in failed:
        _explain_step(session, arn, step, bodies)
    if failed:
        waiting = [other for other in bodies if other not in {step["StepName"] for step in steps}]
        if waiting:
            output.line(f"not started: {', '.join(waiting)}")


def _latest_failed(session: Session) -> str | None:
    """The latest execution that failed or was rejected."""
    for summary in latest_executions(session, LOOK_BACK):
        if summary["PipelineExecutionStatus"] == "Failed":
            return str(summary["PipelineExecutionArn"]).rpartition("/")[2]
    return None


def _bodies(session: Session, arn: str) -> dict[str, Step]:
    return definition_steps(execution_definition(session, arn))


def _explain_step(session: Session, arn: str, step: Json, bodies: dict[str, Step]) -> None:
    name = step["StepName"]
    log = last_log_lines(session, arn, step, READ_LINES)
    reason = "\n".join([step.get("FailureReason") or "no reason given", *_job_says(session, step)])
    body = bodies[name].body if name in bodies else {}
    found = diagnose(Case(step, body, reason, log, session.environment, session.names, arn.rpartition("/")[2]))
    rejected = found.kind == "gate"
    attempts = f", attempt {step['AttemptCount']}" if step.get("AttemptCount", 1) > 1 else ""
    output.line("")
    if rejected:
        _show_numbers(session, arn)
        output.verdict(False, "the gate rejected the candidate", None)
    else:
        after = seconds(step)
        output.verdict(False, f"step {name} failed{f' after {after}' if after else ''}{attempts}", None)
        if log:
            output.log(name, log[-SHOWN_LINES:])
        _item("reason", reason)
    _show(found)
    places = _places(session, arn, step, log)
    if places and not rejected:
        _item("more", places)


def _show_numbers(session: Session, arn: str) -> None:
    evaluation = evaluations.evaluation_of_steps(
        session, execution_definition(session, arn), execution_steps(session, arn)
    )
    if evaluation:
        output.metrics_table(evaluation)


def _explain_execution(session: Session, execution: Json, steps: list[Json], bodies: dict[str, Step]) -> None:
    """An execution that ended without a failed step: stopped, or refused before its first."""
    name = execution["PipelineExecutionArn"].rpartition("/")[2]
    reason = str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])
    if execution["PipelineExecutionStatus"] == "Stopped":
        by = _who(execution.get("LastModifiedBy") or {})
        done = [step["StepName"] for step in steps if step["StepStatus"] == "Succeeded"]
        output.verdict(False, f"stopped{by} when {', '.join(done) or 'no step'} had succeeded", None)
        case = Case({"StepStatus": "Stopped"}, {}, reason, [], session.environment, session.names, name)
    else:
        output.verdict(False, "the execution failed, though no step did", None)
        _item("reason", reason)
        case = Case({}, {}, reason, [], session.environment, session.names, name)
    _show(diagnose(case))


def _who(user: Json) -> str:
    """Who changed an execution last, as AWS tells it."""
    arn = (user.get("IamIdentity") or {}).get("Arn")
    who = user.get("UserProfileName") or (str(arn).rpartition("/")[2] if arn else "")
    return f" by {who}" if who else ""


def _show(found: Diagnosis) -> None:
    _item("cause", found.cause)
    _item("fix", found.fix)


def _item(name: str, text: str) -> None:
    """A named text; what has several lines stays below its name."""
    first, *more = [line.rstrip() for line in text.splitlines() if line.strip()] or [""]
    output.line(f"  {name:<7} {first}")
    for line in more:
        output.line(f"  {'':<7} {line}")


def _job_says(session: Session, step: Json) -> list[str]:
    """What the step's job on AWS says beyond the step's own reason: its exit message and how it was ended."""
    job = job_of(step)
    if session.environment.is_local or job is None:
        return []
    kind, name = job
    call = {
        "ProcessingJob": session.sagemaker.describe_processing_job,
        "TrainingJob": session.sagemaker.describe_training_job,
        "TransformJob": session.sagemaker.describe_transform_job,
    }[kind]
    described: Json = call(**{f"{kind}Name": name})
    said = [described.get("FailureReason"), described.get("ExitMessage")]
    ended = described.get("SecondaryStatus")
    if ended in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted"):
        changes = [change.get("StatusMessage") for change in described.get("SecondaryStatusTransitions", [])[-1:]]
        said += [ended, *changes]
    own = step.get("FailureReason", "")
    return [str(text) for text in dict.fromkeys(said) if text and text not in own]


def _places(session: Session, arn: str, step: Json, log: list[str]) -> str:
    """Where else to look."""
    if session.environment.is_local:
        if not log:
            return ""
        return f".mlops/executions/{arn.rpartition('/')[2]}/logs/{step['StepName']}.log"
    job = job_of(step)
    made = [str(entry["Arn"]) for entry in step.get("Metadata", {}).values() if "Arn" in entry]
    lines = [f"log group {LOG_GROUPS[job[0]]}, streams {job[1]}/*"] if job else made
    lines = lines or ["no job was created, so there is no log"]
    return "\n".join([*lines, f"Studio: {console_links(session)['Studio']}"])
