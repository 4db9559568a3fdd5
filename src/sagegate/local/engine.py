"""Which steps of an execution run and which are taken from an earlier one. Pure.

Source: "Selective execution of pipeline steps" in the SageMaker developer guide.
Runs a definition's DAG: order, parallel steps, branches, retries, failure, stopping, and what is taken from before.

A step starts when all it depends on has succeeded and its branch was taken. A failed step keeps what depends on it from
starting while the rest finishes; a Fail step stops the execution. Sources: "Pipelines steps", "Retry policy for
pipeline steps" and "Selective execution of pipeline steps" in the SageMaker developer guide.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sagegate.errors import USAGE, SagegateError
from sagegate.local.jobs import JobFailed, JobStopped
from sagegate.local.references import InvalidReference, Scope, parse_json, resolve
from sagegate.local.state import Execution, now
from sagegate.local.steps import Rejected, Result, StepRunner, property_file
from sagegate.pipeline.definition import Step

Json = dict[str, Any]


def check_names(steps: dict[str, Step], names: list[str]) -> None:
    """Raises SagegateError for a step that the pipeline does not have."""
    for name in names:
        if name not in steps:
            raise SagegateError(f"the pipeline has no step {name!r}: it has {', '.join(steps)}", USAGE)


def downstream(steps: dict[str, Step], name: str) -> frozenset[str]:
    """A step and all that depend on it, directly or not."""
    check_names(steps, [name])
    found = {name}
    while True:
        more = {other.name for other in steps.values() if other.depends_on & found} - found
        if not more:
            return frozenset(found)
        found |= more


def needed(steps: dict[str, Step], selected: frozenset[str]) -> frozenset[str]:
    """The steps that selected ones depend on, directly or not, and that are not selected."""
    found: set[str] = set()
    todo = list(selected)
    while todo:
        for other in steps[todo.pop()].depends_on - found - selected:
            found.add(other)
            todo.append(other)
    return frozenset(found)


def taken(steps: dict[str, Step], selected: frozenset[str], known: dict[str, Json], source: str) -> dict[str, Json]:
    """The properties to take from `source`, whose steps' properties are `known`.

    Raises SagegateError if a step that is needed did not succeed there.
    """
    wanted = needed(steps, selected)
    missing = [name for name in steps if name in wanted and name not in known]
    if missing:
        raise SagegateError(
            f"step {missing[0]} is needed and did not succeed in execution {source.rpartition('/')[2]}: run it as well",
            USAGE,
        )
    return {name: known[name] for name in steps if name in wanted}


PARALLEL = 8


class Engine:
    """One execution, from its first step to its final status.

    `known` holds the properties of steps that are not run again (of a retried execution, or of the one that a selective
    execution takes from); `selected` the steps to run, all that are not known by default.
    """

    def __init__(
        self,
        steps: dict[str, Step],
        execution: Execution,
        scope: Scope,
        runner: StepRunner,
        known: dict[str, Json] | None = None,
        selected: frozenset[str] | None = None,
    ) -> None:
        self.steps = steps
        self.execution = execution
        self.scope = replace(scope, steps=dict(known or {}), property_file=self._property_file, s3_json=self._s3_json)
        self.runner = runner
        self.selected = selected if selected is not None else frozenset(steps) - set(self.scope.steps)
        self.stopping = threading.Event()
        # Not the thread's join: in Python 3.11 an interrupted join takes a running thread for an ended one.
        self.ended = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        """Run every step that can run, then note the execution's final status."""
        try:
            self._run_steps()
            if self.failures:
                self.execution.finish("Failed", self.failures[0])
            else:
                self.execution.finish("Stopped" if self.stopping.is_set() else "Succeeded")
            self.runner.context.store.save_digests()
        except BaseException as error:
            self.execution.finish("Failed", f"the engine itself failed: {type(error).__name__}: {error}")
            raise
        finally:
            self.ended.set()

    def _run_steps(self) -> None:
        waiting = {name: step for name, step in self.steps.items() if name in self.selected}
        unmet = {name: set(step.depends_on) - set(self.scope.steps) for name, step in waiting.items()}
        followers: dict[str, list[str]] = {}
        for name, needed in unmet.items():
            for other in needed:
                followers.setdefault(other, []).append(name)
        ready = [name for name, needed in unmet.items() if not needed]
        running: dict[Future[bool], str] = {}
        with ThreadPoolExecutor(PARALLEL) as pool:
            while ready or running:
                for name in ready:
                    if not self.stopping.is_set() and self._is_in_taken_branch(waiting[name]):
                        running[pool.submit(self._run_step, waiting[name])] = name
                ready = []
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    for follower in followers.get(name, []) if future.result() else []:
                        unmet[follower].discard(name)
                        if not unmet[follower]:
                            ready.append(follower)

    def _is_in_taken_branch(self, step: Step) -> bool:
        return step.branch is None or self.scope.steps[step.branch[0]]["Outcome"] == str(step.branch[1])

    def _run_step(self, step: Step) -> bool:
        """Run a step and note how it went; whether it succeeded."""
        record: Json = {"StepName": step.name, "StepStatus": "Executing", "StartTime": now(), "Metadata": {}}
        record["AttemptCount"] = 1
        self.execution.save_step(record)
        try:
            result = self._attempts(step, record)
        except (JobFailed, InvalidReference, Rejected, ValueError, OSError) as error:
            record |= {"StepStatus": "Failed", "FailureReason": str(error)[:1024]}
            if isinstance(error, Rejected):
                record["Metadata"] = {"Fail": {"ErrorMessage": str(error)}}
                self.failures.insert(0, str(error))
                self.stopping.set()
            else:
                self.failures.append(f"Step {step.name} failed: {error}")
        except JobStopped:
            record["StepStatus"] = "Stopped"
        else:
            record |= {"StepStatus": "Succeeded", "Metadata": result.metadata, **result.record}
            self.execution.save_properties(step.name, result.properties)
            self.scope.steps[step.name] = result.properties
        self.execution.save_step(record | {"EndTime": now()})
        return bool(record["StepStatus"] == "Succeeded")

    def _attempts(self, step: Step, record: Json) -> Result:
        """Run a step, again while one of its retry policies says so."""
        arguments = resolve(step.arguments, self.scope) if step.type != "Condition" else {}
        while True:
            try:
                return self.runner.run(step, arguments, self.scope, self.stopping.is_set)
            except JobFailed as error:
                policy = _policy(step, error.kind)
                if policy is None or record["AttemptCount"] > int(policy.get("MaxAttempts", 5)):
                    raise
                expires = policy.get("ExpireAfterMin")
                if expires is not None and now() - record["StartTime"] > timedelta(minutes=float(expires)):
                    raise
                rate = float(policy.get("BackoffRate", 2.0)) ** (record["AttemptCount"] - 1)
                if self.stopping.wait(float(policy.get("IntervalSeconds", 1)) * rate):
                    raise JobStopped("stopped while waiting to retry") from None
                record["AttemptCount"] += 1
                self.execution.save_step(record)

    def _property_file(self, step: str, name: str) -> Any:
        return self._s3_json(*property_file(self.steps, self.scope.steps, step, name))

    def _s3_json(self, uri: str, shown: str = "") -> Any:
        store = self.runner.context.store
        try:
            content = store.read(uri)
        except store.exceptions.NoSuchKey:
            raise InvalidReference(f"{shown or uri} does not exist: the step that should write it did not") from None
        return parse_json(content, shown or uri)


def _policy(step: Step, kind: str) -> Json | None:
    """The first retry policy of a step that covers a kind of failure."""
    policies = step.body.get("RetryPolicies") or []
    return next((policy for policy in policies if kind in policy["ExceptionType"]), None)
