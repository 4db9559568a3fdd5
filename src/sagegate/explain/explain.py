"""`sagegate explain`: why an execution failed, with the step, its log, the likely cause and the fix."""

from __future__ import annotations

from sagegate import output
from sagegate.explain.causes import Case, diagnose
from sagegate.files import Json
from sagegate.pipeline.definition import Step, steps_of
from sagegate.registry.evaluation import evaluation_of_steps
from sagegate.runs.executions import (
    LOG_GROUPS,
    describe_execution,
    execution_definition,
    execution_steps,
    failed_training_job,
    job_of,
    last_log_lines,
    latest_executions,
)
from sagegate.session import Session

READ_LINES = 300  # of a log; a traceback through libraries is long
SHOWN_LINES = 25
LOOK_BACK = 100  # executions to search for the latest that failed


def explain(session: Session, name: str | None) -> None:
    """Explain an execution, by default the latest that failed."""
    if name is None:
        latest = latest_executions(session, LOOK_BACK)
        failures = (e["PipelineExecutionArn"] for e in latest if e["PipelineExecutionStatus"] == "Failed")
        name = next(failures, "").rpartition("/")[2]
    if not name:
        output.verdict(True, f"no execution has failed: `sagegate status{session.option}` lists them", None)
        return
    execution = describe_execution(session, name)
    arn, status = execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
    name = arn.rpartition("/")[2]
    started = f"{execution['CreationTime']:%Y-%m-%d %H:%M:%S %Z}"
    output.line(f"execution {name} · {session.names.pipeline} · {session.environment.name} · started {started}")
    steps = execution_steps(session, arn)
    failed = [step for step in steps if step["StepStatus"] == "Failed"]
    if status == "Succeeded":
        output.verdict(True, "it succeeded: there is nothing to explain", None)
    elif not failed and status in ("Executing", "Stopping"):
        output.verdict(True, "it has not failed so far", f"sagegate status {name} --follow{session.option}")
    elif not failed:
        _explain_execution(session, execution, steps)
    else:
        definition = execution_definition(session, arn)
        bodies = steps_of(definition)
        for step in failed:
            _explain_step(session, arn, step, steps, definition, bodies)
        waiting = [other for other in bodies if other not in {step["StepName"] for step in steps}]
        if waiting:
            output.line(f"not started: {', '.join(waiting)}")


def _explain_step(
    session: Session, arn: str, step: Json, steps: list[Json], definition: Json, bodies: dict[str, Step]
) -> None:
    name, execution = step["StepName"], arn.rpartition("/")[2]
    log = last_log_lines(session, arn, step, READ_LINES)
    reason = "\n".join([step.get("FailureReason") or "no reason given", *_job_reasons(session, step)])
    body = bodies[name].body if name in bodies else {}
    case = Case(step, body, reason, log, session.environment, session.names, execution)
    diagnosis = diagnose(case)
    output.line("")
    if diagnosis.kind == "gate":
        evaluation = evaluation_of_steps(session, definition, steps)
        if evaluation:
            output.metrics_table(evaluation)
        output.verdict(False, "the gate rejected the candidate", None)
    else:
        duration = output.seconds(step)
        after = f" after {duration}" if duration else ""
        attempts = f", attempt {step['AttemptCount']}" if step.get("AttemptCount", 1) > 1 else ""
        output.verdict(False, f"step {name} failed{after}{attempts}", None)
        if log:
            output.log(name, log[-SHOWN_LINES:], reason)
        _print_item("reason", reason)
    _print_item("cause", diagnosis.cause)
    _print_item("fix", diagnosis.fix)
    if diagnosis.kind == "gate":
        return
    if session.environment.is_local:
        if log:
            _print_item("more", f".mlops/executions/{execution}/logs/{name}.log")
        return
    job = job_of(step)
    created = [str(entry["Arn"]) for entry in step.get("Metadata", {}).values() if "Arn" in entry]
    streams = f"{job[1]}{'-' if job[0] == 'TuningJob' else '/'}*" if job else ""
    where = [f"log group {LOG_GROUPS[job[0]]}, streams {streams}"] if job else created
    where = where or ["no job was created, so there is no log"]
    logs = output.job_logs(session.names.partition, session.names.region)
    _print_item("more", "\n".join([*where, f"logs: {logs}"]))


def _explain_execution(session: Session, execution: Json, steps: list[Json]) -> None:
    """Explain an execution that ended without a failed step: it was stopped, or it failed before its first step."""
    reason = str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])
    step = {}
    if execution["PipelineExecutionStatus"] == "Stopped":
        user = execution.get("LastModifiedBy") or {}
        arn = (user.get("IamIdentity") or {}).get("Arn") or ""
        who = user.get("UserProfileName") or arn.rpartition("/")[2]
        done = ", ".join(step["StepName"] for step in steps if step["StepStatus"] == "Succeeded")
        output.verdict(False, f"stopped{f' by {who}' if who else ''} when {done or 'no step'} had succeeded", None)
        step = {"StepStatus": "Stopped"}
    else:
        output.verdict(False, "the execution failed, but none of its steps did", None)
        _print_item("reason", reason)
    name = execution["PipelineExecutionArn"].rpartition("/")[2]
    diagnosis = diagnose(Case(step, {}, reason, [], session.environment, session.names, name))
    _print_item("cause", diagnosis.cause)
    _print_item("fix", diagnosis.fix)


def _job_reasons(session: Session, step: Json) -> list[str]:
    """Return what the step's job on AWS reports beyond the step's own reason: its exit message and how it ended."""
    job = job_of(step)
    if session.environment.is_local or job is None:
        return []
    kind, name = job
    if kind == "TuningJob":
        failed = failed_training_job(session, name) or {}
        return [str(failed["FailureReason"])] if "FailureReason" in failed else []
    call = {
        "ProcessingJob": session.sagemaker.describe_processing_job,
        "TrainingJob": session.sagemaker.describe_training_job,
        "TransformJob": session.sagemaker.describe_transform_job,
    }[kind]
    description: Json = call(**{f"{kind}Name": name})
    reasons = [description.get("FailureReason"), description.get("ExitMessage")]
    status = description.get("SecondaryStatus")
    if status in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted"):
        transitions = description.get("SecondaryStatusTransitions", [])
        reasons += [status, *(change.get("StatusMessage") for change in transitions[-1:])]
    known = step.get("FailureReason", "")
    return [str(text) for text in dict.fromkeys(reasons) if text and text not in known]


def _print_item(name: str, text: str) -> None:
    """Print a named text. Its second and later lines are indented."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines or [""]):
        output.line(f"  {'' if index else name:<7} {line}")
