"""`sagegate promote` and `sagegate rollback`: choose the model that deployments/ENV.json pins, with its evidence.

Staging takes models that passed the gate. Prod takes only the model that staging serves, once staging's last deployment
of it was healthy. Nothing is deployed here: merging the change deploys it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sagegate import markdown, output
from sagegate.config import GateSection, Settings, load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import started_by
from sagegate.promotion.propose import RemoteManifests, propose
from sagegate.promotion.pull_request import Change, Kind
from sagegate.registry import deployments, lineage, models
from sagegate.registry.deployments import Gate, Manifest, PinnedModel, Record
from sagegate.repository import git
from sagegate.repository.github import open_github
from sagegate.session import Session, open_session


class NothingToPromote(SagegateError):
    """The environment's manifest is already as it should be."""


@dataclass(frozen=True)
class LocalManifests:
    """The manifests in the working tree, with their history in the local clone."""

    root: Path

    def read(self, environment: str) -> Manifest | None:
        """Return an environment's manifest, or None if there is none. Raises SagegateError if it is invalid."""
        return deployments.read_manifest(self.root, environment)

    def settings(self) -> Settings:
        """Return the settings of mlops.toml."""
        return load_settings(self.root)

    def history(self, environment: str) -> list[str]:
        """Return the texts that the manifest has had, the oldest first."""
        path = deployments.manifest_path(environment)
        commits = reversed(git.commits_of_file(self.root, path))
        return [text for commit in commits if (text := git.read_file(self.root, commit, path)) is not None]


Manifests = LocalManifests | RemoteManifests


def promote(root: Path, environment: str, version: int | None, source: str, open_pr: bool) -> None:
    """Pin the newest candidate, or `version`, in the working tree or (`open_pr`) by a pull request.

    `source` is the environment whose registry and deployment records are read.
    """
    _check_environment(environment)
    session = open_session(root, source)

    def choose(manifests: Manifests) -> Change:
        before = manifests.read(environment)
        if environment == "staging":
            after, staging = staging_candidate(session, before, version, manifests.settings().gate), None
        else:
            after, staging = prod_candidate(session, manifests.read("staging"), before, version)
        return _change(root, "promote", environment, before, after, staging)

    try:
        _apply(root, f"promote/{environment}", choose, open_pr, force=version is not None)
    finally:
        session.close()


def rollback(root: Path, environment: str, to: int | None, open_pr: bool) -> None:
    """Pin the version that was pinned before, or version `to`, by its manifest in git's history."""
    _check_environment(environment)

    def choose(manifests: Manifests) -> Change:
        before, after = previous(manifests, environment, to)
        return _change(root, "rollback", environment, before, after)

    _apply(root, f"rollback/{environment}", choose, open_pr, force=True)


def previous_model(root: Path, environment: str, to: int | None) -> PinnedModel:
    """Return the model that was deployed before, or version `to`, for a rollback without a pull request."""
    _check_environment(environment)
    return previous(LocalManifests(root), environment, to)[1].model


def staging_candidate(
    session: Session, before: Manifest | None, version: int | None, expected: GateSection
) -> Manifest:
    """Return the manifest of `version`, by default the newest registered version that is newer than the deployed one.

    A model that was rolled back is not proposed again by default. Raises SagegateError if the version was rejected,
    did not pass the gate, or passed one with other settings than `expected`: whoever starts an execution chooses them.
    Raises NothingToPromote if there is no candidate.
    """
    if version is None:
        packages = models.packages_of(session)
        versions = [p["ModelPackageVersion"] for p in packages if p["ModelApprovalStatus"] != "Rejected"]
        known = max(before.model.version, before.replaces or 0) if before else 0
        version = max((number for number in versions if number > known), default=None)
        if version is None:
            if before is None:
                raise NothingToPromote("no model has passed the gate yet: `sagegate run --env dev` trains one")
            deployed = before.model.version
            undone = f" (model {known} was rolled back)" if known > deployed else ""
            raise NothingToPromote(
                f"model {deployed} is pinned{undone} and no newer one has passed the gate: nothing to promote"
            )
    package = models.describe_model(session, version)
    if package["ModelApprovalStatus"] == "Rejected":
        why = package.get("ApprovalDescription", "no reason given")
        raise SagegateError(f"model {version} was rejected ({why}): approve it first, or promote another")
    found = lineage.read_lineage(session, package)
    manifest = deployments.build_manifest(
        found, hashlib.sha256(lineage.read_artifact(session, found)).hexdigest(), "", datetime.now(UTC), None
    )
    gate = manifest.evidence.gate
    if not gate.passed:
        raise SagegateError(f"model {version} did not pass the gate ({gate.reason}): promote another")
    used, wanted = _gate_settings(gate), _gate_settings(expected)
    if used != wanted:
        raise SagegateError(
            f"model {version} was judged by {used}, but mlops.toml on the base branch says {wanted}: promote a model"
            " that was trained with these settings"
        )
    if before and before.model == manifest.model:
        raise NothingToPromote(f"staging pins model {version} already: nothing to promote")
    return manifest


def _gate_settings(gate: Gate | GateSection) -> str:
    least = f"min_improvement {gate.min_improvement!r}, confidence {gate.confidence!r}"
    return f"{gate.metric}, threshold {gate.threshold!r}, {least}"


def prod_candidate(
    session: Session, staging: Manifest | None, before: Manifest | None, version: int | None
) -> tuple[Manifest, Record]:
    """Return staging's manifest, and the record of staging's last deployment if that is healthy.

    `session` belongs to dev, whose bucket has a copy of staging's deployment records. Raises SagegateError if staging
    does not serve the model in good health, NothingToPromote if prod pins it already.
    """
    if staging is None:
        raise SagegateError("nothing was promoted to staging yet: `sagegate promote staging` comes before prod")
    model = staging.model
    if version not in (None, model.version):
        raise SagegateError(f"staging pins model {model.version}, not {version}: prod takes only what ran in staging")
    if before and before.model == model:
        raise NothingToPromote(f"prod pins model {model.version} already, as staging does: nothing to promote")
    record = deployments.latest_record(session, "staging")
    if record is None or (record.artifact_sha256, record.version) != (model.artifact.sha256, model.version):
        last = f"model {record.version} was deployed there last" if record else "nothing was deployed there"
        raise SagegateError(f"model {model.version} did not run in staging yet ({last}): deploy it there first")
    if record.result != "healthy":
        raise SagegateError(
            f"staging's deployment of model {model.version} failed ({record.reason}): promote a healthy one to staging"
        )
    if (session.names.account_id, session.names.region) == (model.account_id, model.region):
        package = models.describe_model(session, model.version)
        if package["ModelApprovalStatus"] == "Rejected":
            raise SagegateError(f"model {model.version} was rejected since it went to staging: promote another")
    return staging, record


def previous(manifests: Manifests, environment: str, to: int | None) -> tuple[Manifest, Manifest]:
    """Return an environment's manifest, and the one to roll back to.

    Rolling back twice goes back two versions: when a model reappears in the history, everything promoted in between is
    dropped. Raises SagegateError if there is nothing to roll back to, NothingToPromote if `to` is deployed already.
    """
    path, now = deployments.manifest_path(environment), manifests.read(environment)
    if now is None:
        raise SagegateError(f"nothing was promoted to {environment} yet: {path} does not exist")
    if to == now.model.version:
        raise NothingToPromote(f"{path} pins model {to} already: nothing to roll back")
    history = []
    for text in manifests.history(environment):
        try:
            history.append(deployments.parse_manifest(text, path))
        except SagegateError:
            continue  # edited by hand, or written by an older sagegate
    if to is not None:
        chosen = next((old for old in reversed(history) if old.model.version == to), None)
        if chosen is None:
            others = sorted({old.model.version for old in history} - {now.model.version})
            known = f"; {', '.join(map(str, others))} were" if others else ""
            raise SagegateError(
                f"model {to} was never promoted to {environment}{known}: `sagegate promote {environment}` promotes one"
            )
        return now, chosen
    stack: list[Manifest] = []
    for manifest in [*history, now]:
        same = next((i for i, old in enumerate(stack) if old.model == manifest.model), len(stack))
        stack = [*stack[:same], manifest]
    if len(stack) < 2:
        raise SagegateError(f"model {now.model.version} is the first in {environment}: there is none to go back to")
    return now, stack[-2]


def _change(
    root: Path, kind: Kind, environment: str, before: Manifest | None, after: Manifest, staging: Record | None = None
) -> Change:
    after = msgspec.structs.replace(
        after,
        promoted_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        promoted_by=started_by(),
        replaces=before.model.version if before else None,
    )
    server = (os.environ.get("GITHUB_SERVER_URL") or "https://github.com").rstrip("/")
    endpoint = load_environment(root, environment).endpoint
    trained, _, url = os.environ.get("SAGEGATE_REPORT", "").partition(" ")  # which execution, and where its page is
    report = url if trained and after.evidence.execution_arn.rpartition("/")[2] == trained else ""
    return Change(kind, environment, before, after, endpoint, server, staging, report)


def _apply(root: Path, branch: str, choose: Callable[[Manifests], Change], open_pr: bool, force: bool) -> None:
    """Write the manifest in the working tree, or propose it by a pull request; print the result and the next step."""
    try:
        if open_pr:
            github = open_github(load_settings(root).project.repository)
            outcome = propose(github, git.path_prefix(root), branch, choose, force)
            todo = "review and merge it: that deploys" if outcome.result in ("created", "updated") else None
            if outcome.result.startswith("declined"):
                todo = "--model VERSION proposes it again"
            output.verdict(True, f"pull request {outcome.number} {outcome.result}: {outcome.url}", todo)
            summary = markdown.pull_request_summary(branch, outcome.number, outcome.result, outcome.url, todo)
            markdown.append_summary(summary)
            return
        change = choose(LocalManifests(root))
        deployments.write_manifest(root, change.environment, change.after)
        file, version = deployments.manifest_path(change.environment), change.after.model.version
        before = f"model {change.before.model.version}" if change.before else "nothing"
        todo = f"commit {file} on a branch and open a pull request; merging deploys it (--pull-request does all that)"
        output.verdict(True, f"{file} pins model {version}; before, {before}", todo)
    except NothingToPromote as nothing:
        output.verdict(True, str(nothing), None)
        if open_pr:
            markdown.append_summary(markdown.verdict_summary(True, f"{branch}: no pull request", str(nothing)))


def _check_environment(environment: str) -> None:
    if environment not in deployments.DEPLOYABLE:
        raise SagegateError(f"{environment!r}: models are promoted to {' and '.join(deployments.DEPLOYABLE)}", USAGE)
