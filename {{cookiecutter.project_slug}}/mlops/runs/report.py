"""What an ended execution comes to: its metrics, the gate's verdict, what failed and why, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops import evidence, show, summary
from mlops.aws import Door
from mlops.errors import FAILED, REJECTED
from mlops.evidence import Evaluation
from mlops.runs.executions import steps_of
from mlops.runs.logs import last_lines, links

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


def report(door: Door, arn: str, body: Json) -> int:
    """Print it, and put it into the job's summary; the exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    execution = door.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    steps = steps_of(door, arn)
    evaluation = evidence.evaluation_of_steps(door, body, steps)
    if evaluation:
        show.metrics(evaluation)
    facts: list[tuple[str, object]] = [("execution", arn.rpartition("/")[2])]
    if not door.environment.is_local:
        from mlops.runs import cost

        costs = cost.summary(door, steps)
        show.line(costs)
        addresses = links(door)
        facts += [("cost", costs), *addresses.items()]
        for console, address in addresses.items():
            show.line(f"{console}: {address}")
    ended = verdict(door, arn, execution, steps, evaluation)
    log: list[str] = []
    failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
    if ended.exit_code == FAILED and failed:
        log = last_lines(door, arn, failed, LOG_LINES)
        show.log(failed["StepName"], log)
    passed = ended.exit_code == 0
    show.verdict(passed, ended.line, ended.todo)
    lines = summary.run_summary(
        ended.title, passed, ended.line, None if passed else ended.todo, evaluation, steps, facts
    )
    if log and failed:
        lines += ["", *summary.folded(f"The end of the log of {failed['StepName']}", summary.fenced(log))]
    summary.append(lines)
    return ended.exit_code


def verdict(door: Door, arn: str, execution: Json, steps: list[Json], evaluation: Evaluation | None) -> Verdict:
    """How the execution ended. Pure."""
    where = door.environment.name
    rejected = evidence.rejection(steps)
    if rejected:
        return Verdict(REJECTED, f"{where}: the gate rejected the candidate", rejected, GATE_TODO)
    if execution["PipelineExecutionStatus"] != "Succeeded":
        failed = next((s for s in steps if s["StepStatus"] == "Failed"), None)
        todo = f"mlops explain {arn.rpartition('/')[2]}{door.option}" if door.option and failed else None
        return Verdict(FAILED, f"{where}: the execution failed", _reason(execution, failed), todo)
    package = evidence.registered(steps)
    if package is None:
        return Verdict(0, f"{where}: the execution succeeded", "succeeded", None)
    version = package.rpartition("/")[2]
    reason = evaluation.gate.get("reason", "") if evaluation else ""
    todo = f"mlops approve {version} --reason '...'{door.option}, then mlops serve{door.option}"
    title = f"{where}: model {version} passed the gate"
    return Verdict(0, title, f"model {version} registered: {reason}", todo)


def _reason(execution: Json, failed: Json | None) -> str:
    """Why an execution did not succeed; SageMaker's own reason says only that some step failed."""
    if failed and failed.get("FailureReason"):
        return f"Step {failed['StepName']} failed: {failed['FailureReason']}"
    return str(execution.get("FailureReason") or execution["PipelineExecutionStatus"])
