"""Run the steps of an execution in the order of their dependencies, in parallel where they have none.

A step starts when every step that it depends on has succeeded and its branch was chosen. After a failed step the rest
of the execution finishes without the steps that depend on it; a Fail step stops the execution. Sources: "Pipelines
steps", "Retry policy for pipeline steps" and "Selective execution of pipeline steps" in the SageMaker developer guide.
"""

from __future__ import annotations

import threading
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from graphlib import TopologicalSorter

from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.local.jobs import JobFailed, JobStopped
from sagegate.local.references import InvalidReference, Scope, resolve
from sagegate.local.state import Execution, now
from sagegate.local.steps import FailStepReached, Result, StepRunner
from sagegate.pipeline.definition import Step

MAX_PARALLEL_STEPS = 8
EXPECTED = (JobFailed, InvalidReference, SagegateError, ValueError, OSError)  # their messages are for the reader


def reused_properties(
    steps: dict[str, Step], selected: frozenset[str], previous: dict[str, Json], source: str
) -> dict[str, Json]:
    """Return the properties that a selective execution takes from the execution `source`.

    `previous` holds the properties of the steps that succeeded there. Raises SagegateError if one that is needed
    is missing.
    """
    needed = {name for step in selected for name in steps[step].depends_on} - selected
    for name in sorted(needed - previous.keys()):
        execution = source.rpartition("/")[2]
        raise SagegateError(
            f"step {name} is needed and did not succeed in execution {execution}: run it as well", USAGE
        )
    return {name: previous[name] for name in steps if name in needed}


class Engine:
    """One execution, from its first step to its final status.

    `scope` has the properties of steps that do not run again; `selected` names the steps to run.
    """

    def __init__(self, execution: Execution, scope: Scope, runner: StepRunner, selected: frozenset[str]) -> None:
        self.execution = execution
        self.scope = scope
        self.runner = runner
        self.selected = selected
        self.stopping = runner.context.stopping
        # An event, because in Python 3.11 an interrupted Thread.join() can report a running thread as finished.
        self.ended = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        """Run every step that can run, then write the execution's final status."""
        try:
            self._run_steps()
            if self.failures:
                self.execution.finish("Failed", self.failures[0])
            else:
                self.execution.finish("Stopped" if self.stopping.is_set() else "Succeeded")
            self.scope.store.save_digests()
        except Exception as error:
            self.execution.finish("Failed", f"the engine itself failed: {type(error).__name__}: {error}")
        finally:
            self.ended.set()

    def _run_steps(self) -> None:
        steps, done_before = self.scope.steps, set(self.scope.properties)
        selected = [step for step in steps.values() if step.name in self.selected]
        sorter = TopologicalSorter({step.name: step.depends_on - done_before for step in selected})
        sorter.prepare()
        running: dict[Future[bool], str] = {}
        with ThreadPoolExecutor(MAX_PARALLEL_STEPS) as pool:
            while True:
                for name in sorter.get_ready():
                    step = steps[name]
                    if not self.stopping.is_set() and self._is_in_chosen_branch(step):
                        running[pool.submit(self._run_step, step)] = name
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    if future.result():
                        sorter.done(name)

    def _is_in_chosen_branch(self, step: Step) -> bool:
        return step.branch is None or self.scope.properties[step.branch[0]]["Outcome"] == str(step.branch[1])

    def _run_step(self, step: Step) -> bool:
        """Run a step and write its record. Return True if it succeeded."""
        record: Json = {
            "StepName": step.name,
            "StepStatus": "Executing",
            "StartTime": now(),
            "AttemptCount": 1,
            "Metadata": {},
        }
        self.execution.save_step(record)
        try:
            result = self._run_with_retries(step, record)
        except FailStepReached as error:
            record |= {"StepStatus": "Failed", "FailureReason": str(error)[:1024]}
            record["Metadata"] = {"Fail": {"ErrorMessage": str(error)}}
            self.failures.insert(0, str(error))
            self.stopping.set()
        except JobStopped:
            record["StepStatus"] = "Stopped"
        except Exception as error:
            reason = str(error)
            if not isinstance(error, EXPECTED):
                reason = f"the engine cannot run this request: {type(error).__name__}: {error}"
                with self.execution.log(step.name).open("a", encoding="utf-8") as log:
                    traceback.print_exc(file=log)
            record |= {"StepStatus": "Failed", "FailureReason": reason[:1024]}
            self.failures.append(f"Step {step.name} failed: {reason}")
        else:
            record |= {"StepStatus": "Succeeded", "Metadata": result.metadata, **result.fields}
            self.scope.properties[step.name] = result.properties
        properties = self.scope.properties.get(step.name)
        self.execution.save_step(record | {"EndTime": now()}, properties)
        return properties is not None

    def _run_with_retries(self, step: Step, record: Json) -> Result:
        """Run a step, and again as long as one of its retry policies covers the failure."""
        arguments = resolve(step.arguments, self.scope) if step.type != "Condition" else {}
        while True:
            try:
                return self.runner.run(step, arguments, self.scope)
            except JobFailed as error:
                policies = step.body.get("RetryPolicies") or []
                policy = next((p for p in policies if error.kind in p["ExceptionType"]), None)
                if policy is None or record["AttemptCount"] > int(policy.get("MaxAttempts", 5)):
                    raise
                expires = policy.get("ExpireAfterMin")
                if expires is not None and now() - record["StartTime"] > timedelta(minutes=float(expires)):
                    raise
                factor = float(policy.get("BackoffRate", 2.0)) ** (record["AttemptCount"] - 1)
                if self.stopping.wait(float(policy.get("IntervalSeconds", 1)) * factor):
                    raise JobStopped("stopped while waiting to retry") from None
                record["AttemptCount"] += 1
                self.execution.save_step(record)
