"""`sagegate promote` and `sagegate rollback`: change which model is pinned in deployments/ENV.json, with its evidence.

Staging's candidates are the models that passed the gate. Prod's only candidate is the model that staging pins, once
staging's latest deployment of it was healthy. Nothing is deployed here: merging the change does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sagegate import output
from sagegate.config import load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import started_by
from sagegate.promotion.pull_request import Change, Kind, Outcome, propose
from sagegate.registry import deployments, lineage, models
from sagegate.registry.deployments import Manifest, Package
from sagegate.repository.git import Repository
from sagegate.repository.github import open_github
from sagegate.session import Session, open_session

Read = Callable[[str], Manifest | None]  # environment -> what is pinned there


def promote(root: Path, environment: str, wanted: int | None, source: str | None, opens: bool) -> None:
    """Manifest the newest candidate, or version `wanted`: in the working tree, or (`opens`) by a pull request."""
    _check_environment(environment)
    with _session(root, source or "dev") as session:

        def decide(read: Read) -> Change | str:
            before = read(environment)
            found = (
                _for_staging(session, before, wanted) if environment == "staging" else _for_prod(session, read, wanted)
            )
            return found if isinstance(found, str) else _change(root, "promote", environment, before, found)

        _settle(root, f"promote/{environment}", decide, opens, insists=wanted is not None)


def rollback(root: Path, environment: str, to: int | None, opens: bool) -> None:
    """Manifest the version that was deployed before, or version `to`, as git's history of the file has it."""
    _check_environment(environment)
    repository = Repository(root)

    def decide_at(commit: str, read: Read) -> Change | str:
        before = read(environment)
        if before is None:
            raise SagegateError(
                f"{deployments.manifest_path(environment)} is not there: nothing was promoted to {environment} yet"
            )
        found = earlier(_history(repository, commit, environment), before, environment, to)
        return found if isinstance(found, str) else _change(root, "rollback", environment, before, found)

    if opens:
        _propose(root, f"rollback/{environment}", decide_at, insists=True)
    else:
        _write(root, decide_at("HEAD", lambda name: deployments.read_manifest(root, name)))


def former(root: Path, environment: str, to: int | None) -> Package:
    """The model that was pinned before (or version `to`), for a roll-back that cannot wait for a pull request."""
    _check_environment(environment)
    now = deployments.read_manifest(root, environment)
    if now is None:
        raise SagegateError(
            f"{deployments.manifest_path(environment)} is not there: nothing was promoted to {environment} yet"
        )
    found = earlier(_history(Repository(root), "HEAD", environment), now, environment, to)
    if isinstance(found, str):
        raise SagegateError(found)
    return found.model


def newest(session: Session, before: Manifest | None) -> int | str:
    """The newest version that may be deployed and is newer than what is pinned, or why there is none.

    Registered means that the gate was passed. After a rollback what was rolled back is not proposed again.
    """
    packages = models.packages_of(session)
    fit: list[int] = [p["ModelPackageVersion"] for p in packages if p["ModelApprovalStatus"] != "Rejected"]
    seen = max(before.model.version, before.replaces or 0) if before else 0
    newer = [version for version in fit if version > seen]
    if newer:
        return max(newer)
    if before is None:
        return "no model has passed the gate yet: `sagegate run --env dev` trains one"
    undone = f" (model {seen} was rolled back)" if seen > before.model.version else ""
    return f"model {before.model.version} is pinned{undone} and no newer one has passed the gate: nothing to promote"


def earlier(history: list[Manifest], now: Manifest, environment: str, to: int | None) -> Manifest | str:
    """The pin to go back to. `history` is all that was pinned, the oldest first.

    Going back twice goes back two versions: a pin that follows its successor again closes what was between.
    """
    if to == now.model.version:
        return f"model {to} is what {deployments.manifest_path(environment)} pins already: nothing to roll back"
    stack: list[Manifest] = []
    for pin in [*history, now]:
        again = next((i for i, old in enumerate(stack) if old.model == pin.model), len(stack))
        stack = [*stack[:again], pin]
    if to is None:
        if len(stack) < 2:
            raise SagegateError(f"model {now.model.version} is the first in {environment}: there is none to go back to")
        return stack[-2]
    found = [pin for pin in history if pin.model.version == to]
    if not found:
        known = sorted({pin.model.version for pin in history} - {now.model.version})
        were = f"; {', '.join(map(str, known))} were" if known else ""
        raise SagegateError(
            f"model {to} was never promoted to {environment}{were}: `sagegate promote` brings a new one"
        )
    return found[-1]


def _for_staging(session: Session, before: Manifest | None, wanted: int | None) -> Manifest | str:
    """The pin of a model that passed the gate."""
    version = newest(session, before) if wanted is None else wanted
    if isinstance(version, str):
        return version
    package = models.describe_model(session, version)
    if package["ModelApprovalStatus"] == "Rejected":
        why = package.get("ApprovalDescription", "no reason given")
        raise SagegateError(f"model {version} was rejected ({why}): approve it first, or promote another")
    found = lineage.read_lineage(session, package)
    pin = deployments.build_manifest(found, lineage.artifact_digest(session, found), "", datetime.now(UTC), None)
    if not pin.evidence.gate.passed:
        raise SagegateError(f"model {version} did not pass the gate ({pin.evidence.gate.reason}): it is not promoted")
    if before and before.model == pin.model:
        return f"staging pins model {version} already: nothing to promote"
    return pin


def _for_prod(session: Session, read: Read, wanted: int | None) -> Manifest | str:
    """Staging's pin, if staging runs it in health; `session` leads to a copy of staging's deployment records."""
    staged, live = read("staging"), read("prod")
    if staged is None:
        raise SagegateError("nothing was promoted to staging yet: `sagegate promote staging` comes before prod")
    version = staged.model.version
    if wanted not in (None, version):
        raise SagegateError(f"staging pins model {version}, not {wanted}: prod takes only what ran in staging")
    if live and live.model == staged.model:
        return f"prod pins model {version} already, as staging does: nothing to promote"
    record = deployments.latest_record(session, "staging")
    if record is None or record.artifact_sha256 != staged.model.artifact.sha256 or record.version != version:
        ran = f"model {record.version} was deployed there last" if record else "nothing was deployed there"
        raise SagegateError(f"model {version} did not run in staging yet ({ran}): deploy it there first")
    if record.result != "healthy":
        raise SagegateError(f"staging's deployment of model {version} failed ({record.reason}): it stays out of prod")
    if session.names.account_id == staged.model.account_id and session.names.region == staged.model.region:
        package = models.describe_model(session, version)
        if package["ModelApprovalStatus"] == "Rejected":
            raise SagegateError(f"model {version} was rejected since it went to staging: promote another")
    return staged


def _change(root: Path, kind: Kind, environment: str, before: Manifest | None, found: Manifest) -> Change:
    after = msgspec.structs.replace(
        found,
        promoted_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        promoted_by=started_by(),
        replaces=before.model.version if before else None,
    )
    endpoint = load_environment(root, environment).endpoint
    server = os.environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return Change(kind, environment, before, after, endpoint, server.rstrip("/"))


def _settle(root: Path, branch: str, decide: Callable[[Read], Change | str], opens: bool, insists: bool) -> None:
    if opens:
        _propose(root, branch, lambda commit, read: decide(read), insists)
    else:
        _write(root, decide(lambda name: deployments.read_manifest(root, name)))


def _write(root: Path, change: Change | str) -> None:
    """Write the file in the working tree, and say what to do next."""
    if isinstance(change, str):
        output.verdict(True, change, None)
        return
    file, version = deployments.manifest_path(change.environment), change.after.model.version
    deployments.write_manifest(root, change.environment, change.after)
    before = f"model {change.before.model.version}" if change.before else "nothing"
    todo = f"commit {file} on a branch and open a pull request; merging deploys it (--pull-request does all that)"
    output.verdict(True, f"{file} pins model {version}; before, {before}", todo)


def _propose(root: Path, branch: str, decide: Callable[[str, Read], Change | str], insists: bool) -> None:
    """Bring the pull request about, from what the remote's default branch has; the working tree is not looked at."""
    repository = Repository(root)
    repository.check()
    github = open_github(load_settings(root).project.repository)

    def decide_at(commit: str) -> Change | str:
        def read(environment: str) -> Manifest | None:
            file = deployments.manifest_path(environment)
            text = repository.read(commit, file)
            return None if text is None else deployments.parse_manifest(text, file)

        return decide(commit, read)

    outcome = propose(repository, github, branch, decide_at, insists)
    if isinstance(outcome, Outcome):
        changed = outcome.what in ("created", "updated")
        todo = "review and merge it: that deploys" if changed else None
        if outcome.what.startswith("declined"):
            todo = "--model VERSION proposes it again"
        output.verdict(True, f"pull request {outcome.number} {outcome.what}: {outcome.url}", todo)
        output.append_summary(output.pull_request_summary(branch, outcome.number, outcome.what, outcome.url, todo))
    else:
        output.verdict(True, outcome, None)
        output.append_summary(output.verdict_summary(True, f"{branch}: no pull request", outcome))


def _history(repository: Repository, commit: str, environment: str) -> list[Manifest]:
    """What the file has pinned, the oldest first; contents that cannot be read are left out."""
    file = deployments.manifest_path(environment)
    pins = []
    for changed in repository.history(commit, file):
        try:
            text = repository.read(changed, file)
            pins += [deployments.parse_manifest(text, file)] if text is not None else []
        except SagegateError:
            continue  # written by hand or by an older sagegate: not something to go back to
    return pins


@contextmanager
def _session(root: Path, name: str) -> Iterator[Session]:
    session = open_session(root, load_settings(root), load_environment(root, name))
    try:
        yield session
    finally:
        session.close()


def _check_environment(environment: str) -> None:
    if environment not in deployments.DEPLOYABLE:
        raise SagegateError(f"{environment!r}: models are promoted to {' and '.join(deployments.DEPLOYABLE)}", USAGE)
