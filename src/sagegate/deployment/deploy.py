"""`sagegate deploy ENV`: what deployments/ENV.json pins goes live, behind a canary, a smoke test and a way back.

Refuse, approve, change the stack, test it, crown and record it. Each part can be repeated, so running it again after
any interruption converges; what is deployed and healthy already is left alone.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from sagegate import aws_errors as refusals
from sagegate import output
from sagegate.account import cloudformation as stacks
from sagegate.account.cloudformation import Wanted
from sagegate.config import load_environment, load_settings
from sagegate.deployment.checks import Facts, Target, refusal, stack
from sagegate.deployment.smoke_test import Sample, Smoke, endpoint_caller, sample_of, smoke
from sagegate.errors import FAILED, USAGE, SagegateError
from sagegate.files import Json
from sagegate.names import Names
from sagegate.registry import champion, deployments
from sagegate.registry.deployments import Package, Record
from sagegate.registry.evaluation import read_object
from sagegate.repository.git import Origin, origin
from sagegate.session import Session, is_missing, open_session

STAGES = {"staging": "Staging", "prod": "Production"}
ASYNCHRONOUS_REQUESTS = 3
LIFE_CYCLE_DESCRIPTION = 1024  # characters, by API: ModelLifeCycle


def deploy(root: Path, environment: str, pinned: Package | None = None) -> int:
    """Deploy what is pinned (or `pinned` itself); the exit code. A failure leaves the former model serving."""
    settings = load_settings(root)
    if environment == "local":
        from sagegate.deployment.serve import serve

        serve(root, open_session(root, settings, load_environment(root, "local")), None, 0, only_test=True)
        return 0
    if environment not in deployments.DEPLOYABLE:
        raise SagegateError(f"{environment}: only {' and '.join(deployments.DEPLOYABLE)} are deployed to", USAGE)
    if pinned is None:
        pin = deployments.read_manifest(root, environment)
        if pin is None:
            output.line(f"deployments/{environment}.json pins no model: `sagegate promote {environment}` does")
            return 0
        pinned = pin.model
    session = open_session(root, settings, load_environment(root, environment))
    dev = load_environment(root, "dev")
    training = Names(settings.project.name, dev.name, dev.account_id, dev.region)
    facts, artifact = gather(session, root, environment, pinned)
    reason, sample = refusal(environment, facts, training), None
    # A batch model has no endpoint to ask. One without a sample could not be tested: it must not go live first.
    if not reason and session.environment.endpoint.mode != "batch":
        try:
            sample = sample_of(artifact or b"")
        except SagegateError as error:
            reason = f"model {pinned.version}: {error}"
    if reason:
        output.verdict(False, f"{environment}: {reason}", None)
        output.append_summary(output.deployment_summary(environment, pinned.version, False, reason))
        return FAILED
    here = origin(root, environment)
    tags = {"project": settings.project.name, "repository": settings.project.repository, "environment": environment}
    target = Target(pinned.arn, pinned.version, pinned.artifact.sha256)
    job = Deployment(session, root, target, tags, here)
    if job.is_done():
        done = f"{environment}: model {pinned.version} is deployed and healthy already"
        output.verdict(True, done, None)
        output.append_summary(output.verdict_summary(True, done, "nothing was changed"))
        return 0
    registry = open_session(root, settings, dev)
    approve(registry, environment, pinned, here)
    before = job.version_until_now()
    ended = job.run(sample)
    if not ended.fault:
        assert facts.package is not None
        crown(registry, facts.package, pinned, before)
    code = job.end(ended)
    if ended.fault:
        set_stage(registry, environment, pinned, "Failed", ended.fault)
    return code


def gather(session: Session, root: Path, environment: str, pinned: Package) -> tuple[Facts, bytes | None]:
    """What is to be known before deploying, and the artifact. The registry may be another account's."""
    package: Json | None
    try:
        package = session.sagemaker.describe_model_package(ModelPackageName=pinned.arn)
    except Exception as error:
        if not is_missing(session, error):
            raise
        package = None
    artifact = read_object(session, pinned.artifact.uri)
    digest = hashlib.sha256(artifact).hexdigest() if artifact is not None else None
    staging = None
    if environment == "prod":
        # Not in staging's account: a job in the environment prod has no role there.
        dev = open_session(root, load_settings(root), load_environment(root, "dev"))
        staging = deployments.last_record_of(dev, pinned.arn, pinned.artifact.sha256, "staging")
    return Facts(pinned, package, digest, staging), artifact


def approve(registry: Session, environment: str, pinned: Package, here: Origin) -> None:
    """Approve the package in the registry of dev, and note the stage it reaches: an endpoint takes no other."""
    decision = {"ModelApprovalStatus": "Approved", "ApprovalDescription": f"deployed to {environment}: {here.sentence}"}
    set_stage(registry, environment, pinned, "Approved", here.sentence, **decision)


def set_stage(registry: Session, environment: str, pinned: Package, status: str, why: str, **decision: str) -> None:
    """Note in the registry how a package fares in an environment, which Studio shows, and what was decided of it."""
    why = " ".join(why.split())[:LIFE_CYCLE_DESCRIPTION]
    stage = {"Stage": STAGES[environment], "StageStatus": status, "StageDescription": why}
    registry.sagemaker.update_model_package(ModelPackageArn=pinned.arn, ModelLifeCycle=stage, **decision)


def crown(registry: Session, package: Json, pinned: Package, before: int) -> None:
    """Make what is healthy now the champion, unless that would only lower what candidates have to reach.

    `before` is the version that this environment had until now, or 0. A newer champion gives way only where
    the environment goes back from it: not when prod follows staging late, or deploys the same model in another shape.
    """
    best = champion.current_champion(registry)
    if not best or (best["digest"] != pinned.artifact.sha256 and best["version"] <= max(pinned.version, before)):
        champion.set_champion(registry, package)


def keepers(own: Session, dev: Session) -> list[Session]:
    """Whose buckets keep a deployment's record, in the order of writing. Promotion and deployment to prod read dev's.

    The environment's own comes last, because a rerun that finds the record there takes the deployment for done.
    """
    return [own] if own.names.artifacts == dev.names.artifacts else [dev, own]


@dataclass(frozen=True)
class Ended:
    """How a deployment ended: what was wrong, or None; and the smoke test, if it came to that."""

    fault: str | None
    smoke: Smoke | None


class Deployment:
    """One model on its way to one environment's endpoint."""

    def __init__(self, session: Session, root: Path, target: Target, tags: dict[str, str], here: Origin) -> None:
        self.session = session
        self.name = session.environment.name
        self.target = target
        self.here = here
        self.cloudformation = session.client("cloudformation")
        self._root, self._tags = root, tags
        self.wanted = self._stack(target)

    def _stack(self, target: Target) -> Wanted:
        return stack(self._root, self.session.environment, self.session.names, target, self._tags)

    def is_done(self) -> bool:
        """Whether the stack stands as wanted and the last deployment of it was healthy. Reads only."""
        latest = deployments.latest_record(self.session)
        is_healthy = latest and latest.result == "healthy" and latest.artifact_sha256 == self.target.digest
        return bool(is_healthy) and stacks.is_as_wanted(self.cloudformation, self.wanted)

    def version_until_now(self) -> int:
        """The version that was healthy here last, or a newer one that an interrupted deployment left; 0 for none."""
        healthy = deployments.last_healthy(self.session)
        now = stacks.present(self.cloudformation, self.wanted.name, output.line)
        return max(healthy.version if healthy else 0, int(now.parameters.get("ModelVersion", 0)) if now else 0)

    def run(self, sample: Sample | None) -> Ended:
        """Change the stack and test the endpoint; where that fails the former model serves again."""
        former = self.former()
        output.line(f"{self.name}: model {self.target.version}: stack {self.wanted.name}")
        outcome = stacks.bring(self.cloudformation, self.wanted, output.line)
        if outcome is not None and not outcome.succeeded:
            why = "; ".join([outcome.reason or "no reason was given", *self._ringing()])
            return Ended(f"the stack went back to what it was ({outcome.status}): {why}", None)
        result = self._test(sample)
        return Ended(f"{result.line}; {self._put_back(former)}" if result.fault else None, result)

    def former(self) -> Wanted | None:
        """The stack to go back to, None for none: as it is now if that is healthy, else the last that was healthy."""
        now = stacks.present(self.cloudformation, self.wanted.name, output.line)
        if now is None:
            return None
        healthy, digest = deployments.last_healthy(self.session), now.parameters.get("ArtifactDigest")
        if now.parameters != self.wanted.parameters and healthy and healthy.artifact_sha256 == digest:
            return now
        record = deployments.last_healthy(self.session, other_than=self.target.digest)
        if record is None:
            return None if digest == self.target.digest else now
        return self._stack(Target(record.model_package_arn, record.version, record.artifact_sha256))

    def _ringing(self) -> list[str]:
        """The endpoint's alarms that ring now, as words for the reason: CloudFormation may not name them."""
        alarms = self.session.client("cloudwatch").describe_alarms(
            AlarmNames=[f"{self.session.names.endpoint}-{what}" for what in ("5xx", "latency", "cpu")],
            StateValue="ALARM",
        )
        names = [str(alarm["AlarmName"]) for alarm in alarms["MetricAlarms"]]
        return [f"in ALARM: {', '.join(names)}"] if names else []

    def _test(self, sample: Sample | None) -> Smoke:
        """Ask the endpoint. That it cannot be asked is a fault as well: the former model has to come back."""
        shape = self.session.environment.endpoint
        if sample is None:
            return Smoke(None)
        ask = endpoint_caller(self.session)
        try:
            if shape.mode == "asynchronous":  # answers come by way of S3, when there is time for them
                return smoke(ask, sample, math.inf, ASYNCHRONOUS_REQUESTS)
            return smoke(ask, sample, float(shape.max_latency_in_milliseconds))
        except Exception as error:
            if refusals.is_expired(error):  # nothing could be put back with these: running it again goes on from here
                raise
            return Smoke(" ".join(str(refusals.explain_aws_error(error) or error).split()))

    def _put_back(self, former: Wanted | None) -> str:
        """After a failed smoke test: the stack as it was, or none if there was none; what became of that."""
        if not stacks.is_as_wanted(self.cloudformation, self.wanted):
            return "another deployment has changed the stack since, so it is left as it is"
        if former is None:
            output.line(f"removing {self.wanted.name}: no healthy model was there before")
            outcome = stacks.delete(self.cloudformation, self.wanted.name, output.line)
            return f"the endpoint was removed ({outcome.status})"
        model = f"model {former.parameters['ModelVersion']}"
        output.line(f"putting {model} back")
        ended = stacks.bring(self.cloudformation, former, output.line)
        if ended is None or ended.succeeded:
            return f"{model} serves again"
        return f"putting {model} back ended in {ended.status}: {ended.reason}"

    def end(self, ended: Ended) -> int:
        """Record and say how it went; the exit code."""
        fault, result = ended.fault, ended.smoke
        reason = fault or (result.line if result else "")
        record = Record(
            environment=self.name,
            version=self.target.version,
            model_package_arn=self.target.arn,
            artifact_sha256=self.target.digest,
            result="failed" if fault else "healthy",
            reason=reason,
            commit=self.here.commit,
            deployed_by=self.here.by,
            pull_request=self.here.pull_request,
            at=deployments.utc_now(),
            details={"job": self.here.job, "smoke": vars(result) if result else None},
        )
        dev = open_session(self._root, load_settings(self._root), load_environment(self._root, "dev"))
        for session in keepers(self.session, dev):
            deployments.write_record(session, record)
        facts = {
            "model package": record.model_package_arn,
            "artifact": f"SHA-256 {record.artifact_sha256}",
            "endpoint": self.session.names.endpoint,
            "account": f"{self.session.names.account_id}, {self.session.names.region}",
            "commit": record.commit,
            "deployed by": record.deployed_by,
            "pull request": record.pull_request,
        }
        output.append_summary(
            output.deployment_summary(self.name, record.version, not fault, reason, list(facts.items()))
        )
        what = f"{self.name}: model {self.target.version}"
        output.verdict(not fault, f"{what} was not deployed: {reason}" if fault else f"{what} is live: {reason}", None)
        return FAILED if fault else 0
