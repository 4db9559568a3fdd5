"""The title and body of the pull request that changes what an environment serves.

The body's last line is a comment that identifies the change, so that `sagegate promote` recognises its own pull
requests. Text that others wrote is shown as code (sagegate.markdown.code).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sagegate.config import PLACEHOLDER_ACCOUNT, Endpoint
from sagegate.markdown import code, link, table
from sagegate.registry.deployments import Evidence, Manifest, Metric, Record

Kind = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Change:
    """A change of an environment's manifest; `before` is None if nothing is deployed there yet.

    `staging` is the record of the model's deployment to staging, for a promotion to prod.
    """

    kind: Kind
    environment: str
    before: Manifest | None
    after: Manifest
    endpoint: Endpoint
    server_url: str = "https://github.com"
    staging: Record | None = None
    report: str = ""  # the URL of the model's report, where a workflow has just kept it

    @property
    def marker(self) -> str:
        """The body's last line."""
        replaces, model = self.after.replaces or "nothing", self.after.model
        change = f"model {model.version} for {replaces}, {model.artifact.sha256}"
        return f"<!-- sagegate {self.kind} {self.environment}: {change} -->"

    def is_in(self, body: str | None) -> bool:
        """Return True if a pull request's body ends with the marker of this change."""
        return (body or "").rstrip().rpartition("\n")[2].strip() == self.marker


def pull_request_title(change: Change) -> str:
    """Return the title, such as `Promote model 7 to staging (auc 0.9912)`."""
    gate, version = change.after.evidence.gate, change.after.model.version
    if change.kind == "rollback":
        return f"Roll {change.environment} back to model {version}"
    return f"Promote model {version} to {change.environment} ({gate.metric} {gate.candidate:.4g})"


def pull_request_body(change: Change) -> str:
    """Return the body, in Markdown: the evidence for a reviewer, and what merging does."""
    environment, version = change.environment, change.after.model.version
    gate = change.after.evidence.gate
    now = f"model {change.before.model.version}" if change.before else "nothing"
    if change.kind == "promote" and change.before and version < change.before.model.version:
        now += ", a newer one,"
    action = "Deploys" if change.kind == "promote" else "Rolls back: deploys"
    first = "" if change.before else "1. Creates the endpoint: this is the first deployment here."
    if change.kind == "rollback" and change.before:
        left = change.before.model.version
        undo, promote = "Afterwards", code(f"sagegate promote {environment} --model {left}")
        how_to_undo = (
            f"Model {left} is not proposed again automatically; {promote} proposes it, or revert this pull request."
            f" {code(f'sagegate reject {left}')} keeps it from serving anywhere."
        )
    else:
        undo = "Rolling back"
        how_to_undo = (
            f"Revert this pull request, or run {code(f'sagegate rollback {environment}')}, which opens one that does."
            " To decline, close it: the same model is proposed again only by its version."
        )
    return f"""\
{action} **model {version}** to **{environment}**, where {now} is deployed now. \
Requested by {code(change.after.promoted_by)}.

### Metrics

{_metrics(change)}

The report: {_report(change)}.

### Gate

{"✅ passed" if gate.passed else "❌ not passed"}: {code(gate.reason)}

{_staging(change.staging)}{_changes(change)}### Lineage

{_lineage(change)}

### What merging does

{first}
1. Sets the model package to Approved, with this pull request and whoever merges it as its approver.
1. Deploys it to {environment}, {_rollout(change.endpoint)}.
1. Sends the artifact's own sample request and compares the answer with the recorded one; \
a wrong or slow answer rolls the deployment back.

GitHub holds back the checks of a pull request that a workflow opened with its `GITHUB_TOKEN`, until somebody with \
write access approves the runs.

### {undo}

{how_to_undo}

{change.marker}
"""


def _metrics(change: Change) -> str:
    """Return the table of the candidate's metrics beside the champion's and the deployed model's.

    The gate's metric comes first. A `~` marks a difference below one standard deviation.
    """
    after = change.after.evidence
    deployed, deployed_version = (
        (change.before.evidence, change.before.model.version) if change.before else (None, None)
    )
    champion_version = after.gate.champion_version
    has_champion = any(metric.champion is not None for metric in after.metrics.values())
    if has_champion and champion_version == deployed_version:
        deployed = None  # the champion's values are of the same rows, so they are the better comparison
    headings = ["metric", f"model {change.after.model.version}", "± std"]
    if has_champion:
        is_deployed = ", deployed" if champion_version == deployed_version else ""
        headings += [f"champion v{champion_version}{is_deployed}", "difference"]
    if deployed:
        headings += [f"deployed v{deployed_version}", "difference"]
    rows = []
    for name, metric in sorted(after.metrics.items(), key=lambda item: (item[0] != after.gate.metric, item[0])):
        shown = code(name, in_table=True)
        spread = "" if metric.standard_deviation is None else f"{metric.standard_deviation:.4f}"
        cells = [f"**{shown}**" if name == after.gate.metric else shown, f"{metric.value:.4f}", spread]
        if has_champion:
            cells += _comparison(metric, metric.champion)
        if deployed:
            cells += _comparison(metric, deployed.metrics[name].value if name in deployed.metrics else None)
        rows.append(cells)
    notes = "Measured on the candidate's test rows" + ("; the champion on the same rows." if has_champion else ".")
    if any("(~)" in cell for row in rows for cell in row):
        notes += " (~): less than one standard deviation."
    if deployed and deployed.data.version != after.data.version:
        notes += " The deployed model was measured on other data (see Lineage), so compare with care."
    return "\n".join([*table(headings, rows), "", notes])


def _report(change: Change) -> str:
    """Return how to see the model's report: the command, and the page that the workflow kept."""
    model = change.after.model
    option = "" if model.account_id == PLACEHOLDER_ACCOUNT else " --env dev"
    command = code(f"sagegate report {model.version}{option}")
    return f"{command}, or {link('the page', change.report)} of the run" if change.report else command


def _comparison(metric: Metric, other: float | None) -> list[str]:
    """Return two cells: the other model's value, and the candidate's difference from it."""
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


def _staging(record: Record | None) -> str:
    """Return the section with staging's evidence; empty without a record."""
    if record is None:
        return ""
    request = f", {link('pull request', record.pull_request)}" if record.pull_request else ""
    return f"""\
### Staging

✅ healthy since {record.at[:16].replace("T", " ")} UTC: {code(record.reason)}. \
Deployed by {code(record.deployed_by)} from commit {code(record.commit[:12])}{request}.

"""


def _changes(change: Change) -> str:
    """Return the section with what differs from the deployed model; empty if nothing is deployed."""
    if change.before is None:
        return ""
    old, new = change.before.evidence, change.after.evidence
    versions = [f"model {manifest.model.version}" for manifest in (change.before, change.after)]
    rows = [
        ["commit", _commit(old, change.server_url), _commit(new, change.server_url)],
        ["data version", code(old.data.version, True), code(new.data.version, True)],
        *(
            [f"gate: {name.replace('_', ' ')}", *(code(getattr(each.gate, name), True) for each in (old, new))]
            for name in ("metric", "candidate", "threshold", "champion", "improvement")
        ),
    ]
    differing = [row for row in rows if row[1] != row[2]]
    shown = table(["", *versions], differing) if differing else ["Nothing but the training itself."]
    return "\n".join(["### What changed since the deployed model", "", *shown, "", ""])


def _lineage(change: Change) -> str:
    model, evidence = change.after.model, change.after.evidence
    rows = ", ".join(f"{count} {code(name, True)}" for name, count in sorted(evidence.data.rows.items()))
    libraries = sorted(evidence.libraries.items())
    lines = {
        "model package": code(model.arn, True),
        "artifact": f"{code(model.artifact.uri, True)}<br>SHA-256 {code(model.artifact.sha256)}",
        "data": f"{code(evidence.data.uri, True)}<br>version {code(evidence.data.version, True)}"
        + (f"<br>rows: {rows}" if rows else ""),
        "code": _commit(evidence, change.server_url),
        "execution": code(evidence.execution_arn, True),
        "started by": code(evidence.started_by, True),
        "overrides": code(evidence.overrides, True),
        "libraries": ", ".join(code(f"{name} {version}", True) for name, version in libraries),
        "evaluation": f"{code(evidence.evaluation.uri, True)}<br>SHA-256 {code(evidence.evaluation.sha256)}",
    }
    return "\n".join(table(["", ""], [[name, text] for name, text in lines.items() if text], numbers_from=2))


def _commit(evidence: Evidence, server_url: str) -> str:
    """Return a link to the commit, with a warning if the code cannot be found in git or had uncommitted changes."""
    commit = evidence.code.commit.removesuffix("-dirty")
    if len(commit) != 40:
        return f"{code(evidence.code.commit, True)} ⚠️ not a commit: the code cannot be looked up"
    shown = link(commit[:12], f"{server_url}/{evidence.code.repository}/commit/{commit}", in_table=True)
    return f"{shown} ⚠️ with uncommitted changes" if evidence.code.commit.endswith("-dirty") else shown


def _rollout(endpoint: Endpoint) -> str:
    """Return how CloudFormation replaces the serving model, and which alarms roll it back."""
    if endpoint.mode != "real-time":
        return f"as a {endpoint.mode} model"
    traffic = {
        "canary": f"{endpoint.traffic_percent} % of the traffic goes to it first, and all of it after"
        f" {endpoint.wait_in_seconds} s without an alarm",
        "linear": f"it gets {endpoint.traffic_percent} % more of the traffic every {endpoint.wait_in_seconds} s",
        "all-at-once": "it gets all traffic at once",
    }[endpoint.traffic]
    return (
        f"blue/green: {traffic}. An alarm (more than {endpoint.max_5xx_errors} server errors a minute, p99 latency"
        f" above {endpoint.max_latency_in_milliseconds} ms, CPU above {endpoint.max_cpu_percent} %)"
        " restores the previous model"
    )
