"""The pull request that changes what is deployed: its title and its body, from the file that it changes. Pure.

The last line of the body is a comment that names verb, environment, version and digest, by which `sagegate promote` knows
its own pull requests again. Text that others wrote is shown as code (sagegate/repository/markdown.py).
One pull request per environment: opened, brought up to date, or left alone. Two processes at once end as one.

What is to be done follows from a look at the remote (commits and pull requests) and is a value; a push is made only if
the branch still is where it was seen, and whoever loses looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sagegate import output
from sagegate.config import Endpoint
from sagegate.errors import SagegateError
from sagegate.output import code, link, markdown_table
from sagegate.registry import deployments
from sagegate.registry.deployments import Manifest, Metric
from sagegate.repository.git import Moved, Repository
from sagegate.repository.github import GitHub, GitHubError

Kind = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Change:
    """A change of what is deployed: the file as it is (None: nothing is deployed) and as it shall be."""

    kind: Kind
    environment: str
    before: Manifest | None
    after: Manifest
    endpoint: Endpoint
    server_url: str = "https://github.com"

    @property
    def branch(self) -> str:
        """The branch of the one pull request of this kind and environment."""
        return f"{self.kind}/{self.environment}"

    @property
    def marker(self) -> str:
        """The body's last line."""
        return marker(self.kind, self.environment, self.after)


def marker(kind: Kind, environment: str, pin: Manifest) -> str:
    """What identifies a proposal."""
    replaces = pin.replaces or "nothing"
    digest = pin.model.artifact.sha256
    return f"<!-- sagegate {kind} {environment}: model {pin.model.version} for {replaces}, {digest} -->"


def proposes(body: str | None, wanted: str) -> bool:
    """Whether a pull request's body ends with that marker."""
    return (body or "").rstrip().rpartition("\n")[2].strip() == wanted


def pull_request_title(change: Change) -> str:
    """Such as `Promote model 7 to staging (auc 0.9912)`."""
    gate, version = change.after.evidence.gate, change.after.model.version
    if change.kind == "rollback":
        return f"Roll {change.environment} back to model {version}"
    return f"Promote model {version} to {change.environment} ({gate.metric} {gate.candidate:.4g})"


def pull_request_body(change: Change) -> str:
    """The evidence for a reviewer, as markdown."""
    parts = [_summary(change), _metrics(change), _gate(change), _lineage(change), _merging(change), _undoing(change)]
    return "\n\n".join(["\n".join(part) for part in parts] + [change.marker]) + "\n"


def _summary(change: Change) -> list[str]:
    now = f"model {change.before.model.version}" if change.before else "nothing"
    then = f"**model {change.after.model.version}**"
    verb = "Deploys" if change.kind == "promote" else "Rolls back: deploys"
    if change.kind == "promote" and change.before and change.after.model.version < change.before.model.version:
        now += ", a newer one,"
    return [
        f"{verb} {then} to **{change.environment}**, where {now} is deployed now."
        f" Asked for by {code(change.after.promoted_by)}."
    ]


def _metrics(change: Change) -> list[str]:
    """Candidate, champion and what is deployed, with the differences; the gate's metric first."""
    after, before = change.after.evidence, change.before.evidence if change.before else None
    version, deployed_version = after.gate.champion_version, change.before.model.version if change.before else None
    champions = any(metric.champion is not None for metric in after.metrics.values())
    if champions and version == deployed_version:
        before = None  # the champion is what is deployed: measured on the same rows, so the better comparison
    headings = ["metric", f"model {change.after.model.version}", "± std"]
    if champions:
        headings += [f"champion v{version}" + (", deployed" if version == deployed_version else ""), "difference"]
    if before:
        headings += [f"deployed v{deployed_version}", "difference"]
    rows = []
    for name in sorted(after.metrics, key=lambda name: (name != after.gate.metric, name)):
        metric = after.metrics[name]
        spread = "" if metric.standard_deviation is None else f"{metric.standard_deviation:.4f}"
        shown = code(name, in_table=True)
        cells = [f"**{shown}**" if name == after.gate.metric else shown, f"{metric.value:.4f}", spread]
        if champions:
            cells += _beside(metric, metric.champion)
        if before:
            deployed = before.metrics.get(name)
            cells += _beside(metric, deployed.value if deployed else None)
        rows.append(cells)
    lines = ["### Metrics", "", *markdown_table(headings, rows)]
    notes = ["Measured on the candidate's test rows" + ("; the champion on the same rows." if champions else ".")]
    notes += ["(~): less than one standard deviation."] if any("(~)" in cell for row in rows for cell in row) else []
    if before and before.data.version != after.data.version:
        notes.append("What is deployed was measured on other data (see Lineage), so compare with care.")
    return [*lines, "", " ".join(notes)]


def _beside(metric: Metric, other: float | None) -> list[str]:
    """The other's value, and how much better or worse the candidate is; a `~` marks less than a standard deviation."""
    if other is None:
        return ["", ""]
    difference = metric.value - other
    if difference == 0:
        return [f"{other:.4f}", "same"]
    verdict = ""
    if metric.greater_is_better is not None:
        verdict = " ✅ better" if (difference > 0) == metric.greater_is_better else " ❌ worse"
    noise = " (~)" if metric.standard_deviation is not None and abs(difference) < metric.standard_deviation else ""
    return [f"{other:.4f}", f"{difference:+.4f}{verdict}{noise}"]


def _gate(change: Change) -> list[str]:
    gate = change.after.evidence.gate
    mark = "✅ passed" if gate.passed else "❌ not passed"
    return ["### Gate", "", f"{mark}: {code(gate.reason)}"]


def _lineage(change: Change) -> list[str]:
    pin, evidence = change.after, change.after.evidence
    rows = [["model package", code(pin.model.arn, in_table=True)]]
    rows += [["artifact", f"{code(pin.model.artifact.uri, True)}<br>SHA-256 {code(pin.model.artifact.sha256)}"]]
    data = f"{code(evidence.data.uri, True)}<br>version {code(evidence.data.version, True)}"
    counts = ", ".join(f"{count} {code(name, True)}" for name, count in sorted(evidence.data.rows.items()))
    rows += [["data", data + (f"<br>rows: {counts}" if counts else "")]]
    rows += [["code", _commit_link(change)], ["execution", _execution_link(pin)]]
    rows += [["started by", code(evidence.started_by, True)]]
    libraries = ", ".join(code(f"{name} {version}", True) for name, version in sorted(evidence.libraries.items()))
    rows += [["libraries", libraries]]
    rows += [["evaluation", f"{code(evidence.evaluation.uri, True)}<br>SHA-256 {code(evidence.evaluation.sha256)}"]]
    return ["### Lineage", "", *markdown_table(["", ""], [row for row in rows if row[1]], numbers_from=2)]


def _commit_link(change: Change) -> str:
    commit, repository = change.after.evidence.code.commit, change.after.evidence.code.repository
    known = commit.removesuffix("-dirty")
    shown = link(known[:12], f"{change.server_url}/{repository}/commit/{known}", in_table=True)
    if len(known) != 40:
        return f"{code(commit, True)} ⚠️ not a commit: the code cannot be looked up"
    return f"{shown} ⚠️ with uncommitted changes" if commit.endswith("-dirty") else shown


def _execution_link(pin: Manifest) -> str:
    """Where to look at the execution: Studio shows it under Pipelines."""
    arn, region = pin.evidence.execution_arn, pin.model.region
    name = arn.rpartition("/")[2]
    partition = arn.split(":")[1] if arn.startswith("arn:") else "aws"
    shown = link(name, output.studio(partition, region), in_table=True)
    return f"{shown} (in Studio: Pipelines, {code(pin.model.group, True)})" if arn else ""


def _merging(change: Change) -> list[str]:
    endpoint = change.endpoint
    if endpoint.mode == "real-time":
        shifts = {
            "canary": f"{endpoint.traffic_percent} % of the traffic goes to it first, all of it after"
            f" {endpoint.wait_in_seconds} s without an alarm",
            "linear": f"it gets {endpoint.traffic_percent} % more of the traffic every {endpoint.wait_in_seconds} s",
            "all-at-once": "it gets all traffic at once",
        }
        how = f"blue/green: {shifts[endpoint.traffic]}. An alarm (more than {endpoint.max_5xx_errors} server errors a"
        how += f" minute, p99 latency above {endpoint.max_latency_in_milliseconds} ms, CPU above"
        how += f" {endpoint.max_cpu_percent} %) brings the former model back"
    else:
        how = f"as a {endpoint.mode} model"
    first = [] if change.before else ["1. Makes the endpoint: this is the first deployment here."]
    return [
        "### What merging does",
        "",
        *first,
        "1. Sets the model package to Approved, with this pull request and whoever merges it as its approver.",
        f"1. Deploys it to {change.environment}, {how}.",
        "1. Sends the artifact's own sample request and holds the answer to the recorded one; a wrong or slow answer"
        " rolls the deployment back.",
    ]


def _undoing(change: Change) -> list[str]:
    if change.kind == "rollback" and change.before:
        left = change.before.model.version
        again = code(f"sagegate promote {change.environment} --model {left}")
        say = f"Model {left} is not proposed again by itself; {again} does, or reverting this pull request."
        say += f" {code(f'sagegate reject {left}')} keeps it from serving anywhere."
        return ["### Afterwards", "", say]
    undo = code(f"sagegate rollback {change.environment}")
    say = f"Revert this pull request, or run {undo}, which opens one that does. To decline, close it: the same model is"
    return ["### Rolling back", "", f"{say} not proposed again unless asked for by version."]


Json = Any
ATTEMPTS = 5
FASTER = ("already exists", "No commits between")  # what GitHub says when another process, or a merge, was faster


@dataclass(frozen=True)
class Seen:
    """The remote as it was: its default branch, the proposing branch, and that branch's pull requests."""

    base: str
    base_commit: str
    branch_commit: str | None
    proposed: Manifest | None
    pulls: list[Json]  # the newest first, open and closed

    @property
    def open(self) -> Json | None:
        """The open pull request."""
        return next((pull for pull in self.pulls if pull["state"] == "open"), None)


@dataclass(frozen=True)
class Outcome:
    """What became of it: `created`, `updated`, `unchanged`, or `declined` before; the pull request's number and URL."""

    what: str
    number: int
    url: str


Decide = Callable[[str], Change | str]  # base commit -> the change, or why there is none


def propose(repository: Repository, github: GitHub, branch: str, decide: Decide, insists: bool) -> Outcome | str:
    """Make the branch and its pull request what `decide` says; a text of `decide`'s is passed on.

    With `insists`, a change that was proposed before and closed, or merged and undone since, is proposed again.
    """
    for _ in range(ATTEMPTS):
        try:
            seen = look(repository, github, branch)
            change = decide(seen.base_commit)
            if isinstance(change, str):
                return change
            before = None if insists else already_closed(seen, change)
            if before:
                what = "merged, and undone since" if before.get("merged_at") else "closed without merging"
                return Outcome(f"declined: it was {what}", before["number"], before["html_url"])
            outcome = perform(repository, github, seen, change)
            if repository.remote_heads(branch)[2] == outcome[1]:
                return outcome[0]
        except Moved:
            continue
        except GitHubError as error:
            if error.status != 422 or not any(words in str(error) for words in FASTER):
                raise
    raise SagegateError(f"branch {branch} keeps changing: another promotion is running, repeat when it is done")


def look(repository: Repository, github: GitHub, branch: str) -> Seen:
    """The remote now."""
    base, base_commit, branch_commit = repository.remote_heads(branch)
    proposed = None
    if branch_commit:
        file = deployments.manifest_path(branch.partition("/")[2])
        text = repository.read(branch_commit, file)
        try:
            proposed = deployments.parse_manifest(text, file) if text is not None else None
        except SagegateError:
            proposed = None  # somebody edited the branch: it is written anew
    return Seen(base, base_commit, branch_commit, proposed, github.pulls(branch, base, "all"))


def already_closed(seen: Seen, change: Change) -> Json | None:
    """The latest closed pull request that proposed this very change, unless one is open now."""
    if seen.open:
        return None
    return next((pull for pull in seen.pulls if proposes(pull.get("body"), change.marker)), None)


def perform(repository: Repository, github: GitHub, seen: Seen, change: Change) -> tuple[Outcome, str]:
    """Push and write what differs from `seen`; the outcome, and the commit that the branch has now."""
    title, body = pull_request_title(change), pull_request_body(change)
    commit, pull, pushed = seen.branch_commit, seen.open, False
    if commit is None or pull is None or not change.after.is_same_as(seen.proposed):
        file, text = deployments.manifest_path(change.environment), deployments.manifest_text(change.after)
        commit = repository.commit_file(seen.base_commit, file, text, f"{title}\n")
        repository.push(commit, change.branch, seen.branch_commit)
        pushed = True
    if pull is None:
        made = github.create_pull(title, body, change.branch, seen.base)
        return Outcome("created", made["number"], made["html_url"]), commit
    if not pushed and proposes(pull.get("body"), change.marker):
        return Outcome("unchanged", pull["number"], pull["html_url"]), commit
    github.update_pull(pull["number"], title=title, body=body)
    return Outcome("updated", pull["number"], pull["html_url"]), commit
