"""Deployment manifests in git, and deployment records in S3.

The manifest `deployments/ENV.json` pins the one model package that ENV serves, with its evidence. No file means that
nothing is deployed yet. A promotion pull request writes the manifest, merging it deploys, reverting it rolls back. The
form is fixed and keys are sorted, so a diff shows only what changed; a file in another form was edited by hand and is
an error.

A record `s3://BUCKET/PROJECT/deployments/ENV/TIME-VERSION.json` is the result of one deployment. Records are only
added. Their keys sort by time, so the last one describes the environment.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from sagegate.config import ENVIRONMENTS, AccountId, Region, Section, Sha256, Version, convert
from sagegate.errors import SagegateError
from sagegate.files import split_uri, write_atomically
from sagegate.registry.lineage import ARN, Lineage
from sagegate.session import Session, paginate, read_object

FOLDER = "deployments"
DEPLOYABLE = tuple(name for name in ENVIRONMENTS if name not in ("local", "dev"))

Kind = TypeVar("Kind", bound=Section)
S3Uri = Annotated[str, Meta(pattern=r"^s3://[a-z0-9][a-z0-9.-]+/.+\Z")]


# --- the manifest ----------------------------------------------------------------------------------------------------
class Artifact(Section, frozen=True):
    """The model.tar.gz."""

    sha256: Sha256
    uri: S3Uri


class PinnedModel(Section, frozen=True):
    """The model package in the registry, and its artifact."""

    account_id: AccountId
    arn: str
    artifact: Artifact
    group: str
    region: Region
    version: Version

    def __post_init__(self) -> None:
        parsed = ARN.fullmatch(self.arn)
        if parsed is None:
            raise ValueError("arn is not the ARN of a model package")
        expected = (self.account_id, self.region, f"{self.group}/{self.version}")
        if (parsed["account"], parsed["region"], parsed["rest"]) != expected:
            raise ValueError(f"account_id, region, group or version is not that of {self.arn}")


class Metric(Section, frozen=True):
    """A metric on the test rows, its bootstrapped standard deviation, and the champion's value on the same rows."""

    champion: float | None
    greater_is_better: bool | None
    standard_deviation: float | None
    value: float


class Gate(Section, frozen=True):
    """The gate's decision, and the champion that it compared with, as model/evaluate.py writes them."""

    candidate: float
    champion: float | None
    champion_verdict: str
    champion_version: Version | None
    confidence: float
    greater_is_better: bool
    improvement: float | None
    lowest_improvement: float | None
    metric: str
    min_improvement: float
    passed: bool
    reason: str
    threshold: float
    threshold_margin: float

    def __post_init__(self) -> None:
        sign = 1.0 if self.greater_is_better else -1.0
        compared = (self.champion, self.champion_version, self.improvement, self.lowest_improvement)
        has_champion = self.champion_verdict in ("passed", "failed")
        if not has_champion and self.champion_verdict != "no champion":
            raise ValueError(f"champion_verdict {self.champion_verdict!r} is not one of passed, failed, no champion")
        if [value is None for value in compared] != 4 * [not has_champion]:
            raise ValueError(f"champion_verdict is {self.champion_verdict!r}, which the champion's numbers contradict")
        if not _is_difference(self.threshold_margin, sign * self.candidate, sign * self.threshold):
            raise ValueError(f"threshold_margin {self.threshold_margin} is not what candidate and threshold say")
        if self.champion is not None and self.improvement is not None and self.lowest_improvement is not None:
            if not _is_difference(self.improvement, sign * self.candidate, sign * self.champion):
                raise ValueError(f"improvement {self.improvement} is not what candidate and champion say")
            if (self.lowest_improvement >= self.min_improvement) != (self.champion_verdict == "passed"):
                raise ValueError(f"champion_verdict {self.champion_verdict!r} contradicts lowest_improvement")
        if self.passed != (self.threshold_margin >= 0 and self.champion_verdict != "failed"):
            raise ValueError(f"passed is {str(self.passed).lower()}, which the gate's own numbers contradict")


def _is_difference(value: float, a: float, b: float) -> bool:
    return math.isclose(value, a - b, rel_tol=1e-9, abs_tol=1e-12 * max(abs(a), abs(b)))


class Data(Section, frozen=True):
    """The raw data: its location, the digest of its files, and the number of rows by split."""

    rows: dict[str, int]
    uri: str
    version: str


class Code(Section, frozen=True):
    """The commit that was checked out when the execution started."""

    commit: str
    repository: str


class EvaluationFile(Section, frozen=True):
    """The evaluation.json from which metrics and gate were copied."""

    sha256: Sha256
    uri: S3Uri


class Evidence(Section, frozen=True):
    """Why this model may be deployed."""

    code: Code
    data: Data
    evaluation: EvaluationFile
    execution_arn: str
    gate: Gate
    libraries: dict[str, str]
    metrics: dict[str, Metric]
    started_by: str
    overrides: str = "none"  # parameters that the run overrode; files written before this field have none

    def __post_init__(self) -> None:
        metric = self.metrics.get(self.gate.metric)
        if metric is None or metric.value != self.gate.candidate:
            raise ValueError(f"gate.candidate is not the value of metric {self.gate.metric}")


class Manifest(Section, frozen=True):
    """The content of deployments/ENV.json; `replaces` is the version that was deployed before."""

    evidence: Evidence
    model: PinnedModel
    promoted_at: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]  # UTC
    promoted_by: str
    replaces: Version | None

    def is_same_as(self, other: Manifest | None) -> bool:
        """Return True if both are equal but for who promoted the model, and when."""
        if other is None:
            return False
        return self == msgspec.structs.replace(other, promoted_at=self.promoted_at, promoted_by=self.promoted_by)


def build_manifest(
    lineage: Lineage, sha256: str, promoted_by: str, promoted_at: datetime, replaces: int | None
) -> Manifest:
    """Return the manifest that pins a model; `sha256` is its artifact's digest, `replaces` the version pinned before.

    Raises SagegateError if the model has no evaluation, or a value is missing in it.
    """
    evaluation = lineage.evaluation
    if evaluation is None:
        raise SagegateError(f"model {lineage.version} has no evaluation.json that can be read: run the pipeline again")
    better = evaluation.body.get("greater_is_better", {})
    champions = evaluation.body.get("champion_values", {})
    content: dict[str, Any] = {
        "evidence": {
            "code": {"commit": lineage.commit, "repository": lineage.repository},
            "data": {"rows": lineage.rows, "uri": lineage.data_uri, "version": lineage.data_version},
            "evaluation": {"sha256": evaluation.digest, "uri": evaluation.uri},
            "execution_arn": lineage.execution_arn,
            "gate": _gate_fields(evaluation.gate),
            "libraries": lineage.libraries,
            "metrics": {
                name: {
                    "champion": champions.get(name),
                    "greater_is_better": better.get(name),
                    "standard_deviation": deviation,
                    "value": value,
                }
                for name, (value, deviation) in evaluation.metrics.items()
            },
            "started_by": lineage.started_by,
            "overrides": lineage.overrides or "none",
        },
        "model": {
            "account_id": lineage.account_id,
            "arn": lineage.arn,
            "artifact": {"sha256": sha256, "uri": lineage.artifact_uri},
            "group": lineage.group,
            "region": lineage.region,
            "version": lineage.version,
        },
        "promoted_at": f"{promoted_at:%Y-%m-%dT%H:%M:%SZ}",
        "promoted_by": promoted_by,
        "replaces": replaces,
    }
    return _validated(Manifest, content, f"model {lineage.version}")


def check_gate(lineage: Lineage) -> None:
    """Raise SagegateError if the gate in a model's evaluation is not whole, or its numbers contradict each other."""
    gate = lineage.evaluation.gate if lineage.evaluation else {}
    _validated(Gate, _gate_fields(gate), f"model {lineage.version}: the gate in its evaluation.json")


def _gate_fields(gate: dict[str, Any]) -> dict[str, Any]:
    return {name: gate[name] for name in Gate.__struct_fields__ if name in gate}


def manifest_path(environment: str) -> str:
    """Return the manifest's path below the project's root."""
    return f"{FOLDER}/{environment}.json"


def manifest_text(manifest: Manifest) -> str:
    """Return the file's text: JSON with sorted keys, a line per value, a newline at the end."""
    return json.dumps(msgspec.to_builtins(manifest), indent=2, sort_keys=True, allow_nan=False) + "\n"


def parse_manifest(text: str, name: str) -> Manifest:
    """Return the manifest in `text`. Raises SagegateError, with file `name` and key or line, if it was edited."""
    remedy = "restore it from git, or promote again"
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SagegateError(f"{name} is not JSON ({error}): {remedy}") from None
    if not isinstance(content, dict):
        raise SagegateError(f"{name} is not a JSON object: {remedy}")
    manifest = _validated(Manifest, content, name)
    expected = manifest_text(manifest)
    if text != expected:
        lines = zip(text.splitlines(), expected.splitlines(), strict=False)
        line = next((number for number, (a, b) in enumerate(lines, 1) if a != b), len(expected.splitlines()))
        raise SagegateError(f"{name}, line {line}: not as `sagegate promote` writes it: {remedy}")
    return manifest


def read_manifest(root: Path, environment: str) -> Manifest | None:
    """Return an environment's manifest in the working tree, or None if there is none yet.

    Raises SagegateError as `parse_manifest` does.
    """
    path = manifest_path(environment)
    try:
        return parse_manifest((root / path).read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SagegateError(f"{path} is not UTF-8: restore it from git, or promote again") from None


def write_manifest(root: Path, environment: str, manifest: Manifest) -> None:
    """Write an environment's manifest atomically."""
    write_atomically(root / manifest_path(environment), manifest_text(manifest).encode())


def check_manifests(root: Path) -> int:
    """Read every manifest and return their number. Raises SagegateError for the first that is invalid."""
    files = sorted((root / FOLDER).glob("*.json"))
    for file in files:
        if file.stem not in DEPLOYABLE:
            raise SagegateError(f"{FOLDER}/{file.name}: there is no such environment: use {' or '.join(DEPLOYABLE)}")
        read_manifest(root, file.stem)
    return len(files)


def _validated(kind: type[Kind], content: dict[str, Any], name: str) -> Kind:
    try:
        return convert(kind, content, name)
    except ValueError as error:
        raise SagegateError(str(error)) from None


# --- records ---------------------------------------------------------------------------------------------------------
class Record(Section, frozen=True):
    """One deployment: the model, its commit and pull request, who deployed it, and the result.

    `details` holds what else is worth keeping, such as the smoke test's numbers.
    """

    environment: str
    version: Version
    model_package_arn: str
    artifact_sha256: Sha256
    result: Literal["healthy", "failed"]
    reason: str
    commit: str
    deployed_by: str
    at: str  # as utc_now() returns it
    pull_request: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


def utc_now() -> str:
    """Return the time for a record, with microseconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def write_record(session: Session, record: Record) -> str:
    """Store a record in the session's bucket and return its URI."""
    uri = f"{session.names.artifacts}/deployments/{record.environment}/{record.at}-{record.version}.json"
    bucket, key = split_uri(uri)
    body = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    session.s3.put_object(Bucket=bucket, Key=key, Body=body)
    return uri


def records(session: Session, environment: str | None = None) -> Iterator[Record]:
    """Yield an environment's records in the session's bucket, the newest first; by default the session's environment.

    Raises SagegateError for an object that is not a record.
    """
    name = environment or session.environment.name
    bucket, prefix = split_uri(f"{session.names.artifacts}/deployments/{name}/")
    objects = paginate(session.s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    for key in sorted((item["Key"] for item in objects), reverse=True):
        try:
            yield convert(Record, json.loads(read_object(session, f"s3://{bucket}/{key}") or b""), "record")
        except ValueError as error:
            raise SagegateError(f"s3://{bucket}/{key} is not a deployment record ({error}): deploy again") from None


def latest_record(session: Session, environment: str | None = None) -> Record | None:
    """Return the newest record, or None if there is none."""
    return next(records(session, environment), None)


def last_healthy(session: Session, other_than: str = "", environment: str | None = None) -> Record | None:
    """Return the last healthy deployment: what the environment serves, because a failed deployment rolls back.

    `other_than` is the SHA-256 of an artifact to skip.
    """
    healthy = (r for r in records(session, environment) if r.result == "healthy" and r.artifact_sha256 != other_than)
    return next(healthy, None)


def last_record_of(session: Session, arn: str, sha256: str, environment: str | None = None) -> Record | None:
    """Return the newest record of one model package with one artifact, or None."""
    model = (arn, sha256)
    return next((r for r in records(session, environment) if (r.model_package_arn, r.artifact_sha256) == model), None)


def stages(session: Session) -> dict[str, str]:
    """Return the environments of each model by its ARN, such as `staging, prod (pinned)`.

    `(pinned)` means that the manifest names the model but the environment does not serve it. The session belongs to
    dev, whose bucket has the records of every environment.
    """
    found: dict[str, list[str]] = {}
    for environment in DEPLOYABLE:
        record = None if session.environment.is_local else last_healthy(session, environment=environment)
        serving = record.model_package_arn if record else ""
        if serving:
            found.setdefault(serving, []).append(environment)
        try:
            manifest = read_manifest(session.root, environment)
        except SagegateError:
            continue  # `sagegate check` reports an invalid manifest
        if manifest and manifest.model.arn != serving:
            found.setdefault(manifest.model.arn, []).append(f"{environment} (pinned)")
    return {arn: ", ".join(names) for arn, names in found.items()}
