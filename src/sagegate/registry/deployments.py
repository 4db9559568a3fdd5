"""What became of each deployment: `s3://BUCKET/PROJECT/deployments/ENV/TIME-VERSION.json`, written by `sagegate deploy`.

Records are only added. Their names sort by time, so the last one says how the environment is.
`deployments/ENV.json`: the one model package that is deployed in ENV, with its evidence. Absent: nothing yet.

A promotion pull request writes the file, merging it deploys, reverting it rolls back. Keys are sorted and the form is
fixed, so a diff shows what changed and nothing else; what is not in that form was edited by hand and is refused.
Where a model is: pinned in deployments/ENV.json, and what became of its deployments, as far as they can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sagegate.config import ENVIRONMENTS, AccountId, Region, Section, Sha256, Version, convert, load_environment
from sagegate.errors import SagegateError
from sagegate.files import split_uri, write_atomically
from sagegate.names import Names
from sagegate.registry.lineage import ARN, Lineage
from sagegate.session import Session, pages

STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


class Record(Section, frozen=True):
    """One deployment: which model, from which commit and pull request, by whom, with what result.

    `details` is what else is worth keeping, such as the smoke test's numbers.
    """

    environment: str
    version: Version
    model_package_arn: str
    artifact_sha256: Sha256
    result: Literal["healthy", "failed"]
    reason: str
    commit: str
    deployed_by: str
    at: str  # UTC, as STAMP writes it
    pull_request: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


def now() -> str:
    """The time for a record."""
    return datetime.now(UTC).strftime(STAMP)


def write_record(session: Session, record: Record) -> str:
    """Store a record in the bucket of the session's environment; its URI."""
    uri = f"{_place(session, record.environment)}{record.at}-{record.version}.json"
    bucket, key = split_uri(uri)
    session.s3.put_object(
        Bucket=bucket, Key=key, Body=msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    )
    return uri


def latest(session: Session, environment: str | None = None) -> Record | None:
    """The last record of an environment (the session's own by default), or None; raises SagegateError for a broken one."""
    bucket, prefix = split_uri(_place(session, environment or session.environment.name))
    keys = [item["Key"] for item in pages(session.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)]
    if not keys:
        return None
    return _read(session, bucket, max(keys))


def records(session: Session, environment: str | None = None) -> Iterator[Record]:
    """The records of an environment (the session's own by default) in the session's bucket, the newest first."""
    bucket, prefix = split_uri(_place(session, environment or session.environment.name))
    keys = [item["Key"] for item in pages(session.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)]
    for key in sorted(keys, reverse=True):
        yield _read(session, bucket, key)


def last_healthy(session: Session, other_than: str = "", environment: str | None = None) -> Record | None:
    """The last healthy deployment in an environment (the session's own by default): what it serves.

    With `other_than`, a digest: the last one of another artifact.
    """
    found = (r for r in records(session, environment) if r.result == "healthy" and r.artifact_sha256 != other_than)
    return next(found, None)


def last_of(session: Session, arn: str, digest: str, environment: str | None = None) -> Record | None:
    """The last deployment in an environment (the session's own by default) of one model package with one artifact."""
    wanted = (arn, digest)
    return next((r for r in records(session, environment) if (r.model_package_arn, r.artifact_sha256) == wanted), None)


def _place(session: Session, environment: str) -> str:
    return f"{session.names.artifacts}/deployments/{environment}/"


def _read(session: Session, bucket: str, key: str) -> Record:
    content = session.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        return convert(Record, json.loads(content), "record")
    except ValueError as error:
        raise SagegateError(f"s3://{bucket}/{key} is not a deployment record ({error}): deploy again") from None


FOLDER = "deployments"
DEPLOYED = tuple(name for name in ENVIRONMENTS if name not in ("local", "dev"))

S3Uri = Annotated[str, Meta(pattern=r"^s3://[a-z0-9][a-z0-9.-]+/.+\Z")]


class Artifact(Section, frozen=True):
    """The model.tar.gz."""

    sha256: Sha256
    uri: S3Uri


class Package(Section, frozen=True):
    """The model package: its place in the registry, and the digest of its artifact."""

    account_id: AccountId
    arn: str
    artifact: Artifact
    group: str
    region: Region
    version: Version

    def __post_init__(self) -> None:
        named = ARN.fullmatch(self.arn)
        if named is None:
            raise ValueError("arn is not the ARN of a model package")
        if (named["account"], named["region"], named["rest"]) != (
            self.account_id,
            self.region,
            f"{self.group}/{self.version}",
        ):
            raise ValueError(f"account_id, region, group or version is not that of {self.arn}")


class Metric(Section, frozen=True):
    """A metric on the test rows, with its bootstrapped standard deviation, and the champion's on the same rows."""

    champion: float | None
    greater_is_better: bool | None
    standard_deviation: float | None
    value: float


class Gate(Section, frozen=True):
    """The gate's decision, with the champion of that time."""

    candidate: float
    champion: float | None
    champion_verdict: str
    champion_version: Version | None
    greater_is_better: bool
    improvement: float | None
    metric: str
    min_improvement: float
    passed: bool
    reason: str
    threshold: float
    threshold_margin: float


class Data(Section, frozen=True):
    """The raw data: where it was, the digest of its files, and the rows by split."""

    rows: dict[str, int]
    uri: str
    version: str


class Code(Section, frozen=True):
    """The commit that was checked out when the execution started."""

    commit: str
    repository: str


class EvaluationFile(Section, frozen=True):
    """evaluation.json, from which metrics and gate were copied."""

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


class Pin(Section, frozen=True):
    """The file. `replaces` is the version that was deployed before; `promoted_at` is UTC, ISO 8601."""

    evidence: Evidence
    model: Package
    promoted_at: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
    promoted_by: str
    replaces: Version | None

    def is_same_as(self, other: Pin | None) -> bool:
        """Whether the two say the same, whoever promoted when."""
        if other is None:
            return False
        return self == msgspec.structs.replace(other, promoted_at=self.promoted_at, promoted_by=self.promoted_by)


def pin(lineage: Lineage, sha256: str, promoted_by: str, promoted_at: datetime, replaces: int | None) -> Pin:
    """The file's content for a model package; raises SagegateError if its evidence is not complete."""
    evaluation = lineage.evaluation
    if evaluation is None:
        raise SagegateError(
            f"model {lineage.version} has no evaluation.json that can be read: without metrics it is not promoted"
        )
    better = evaluation.body.get("greater_is_better", {})
    theirs = evaluation.body.get("champion_values", {})
    metrics = {
        name: {
            "champion": theirs.get(name),
            "greater_is_better": better.get(name),
            "standard_deviation": deviation,
            "value": value,
        }
        for name, (value, deviation) in evaluation.metrics.items()
    }
    content: dict[str, Any] = {
        "evidence": {
            "code": {"commit": lineage.commit, "repository": lineage.repository},
            "data": {"rows": lineage.rows, "uri": lineage.data_uri, "version": lineage.data_version},
            "evaluation": {"sha256": evaluation.digest, "uri": evaluation.uri},
            "execution_arn": lineage.execution_arn,
            "gate": {name: evaluation.gate[name] for name in Gate.__struct_fields__ if name in evaluation.gate},
            "libraries": lineage.libraries,
            "metrics": metrics,
            "started_by": lineage.started_by,
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
    return _validated(content, f"model {lineage.version}")


def dump(content: Pin) -> str:
    """The file's text: keys sorted, a line per value, a newline at the end."""
    return json.dumps(msgspec.to_builtins(content), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def loads(text: str, name: str) -> Pin:
    """The content of a file called `name`; raises SagegateError, naming file and key, for one that was edited by hand."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SagegateError(f"{name} is not JSON ({error}): restore it from git, or promote again") from None
    if not isinstance(found, dict):
        raise SagegateError(f"{name} is not a JSON object: restore it from git, or promote again")
    content = _validated(found, name)
    written = dump(content)
    if text != written:
        lines = zip(text.splitlines(), written.splitlines(), strict=False)
        line = next((number for number, (a, b) in enumerate(lines, 1) if a != b), len(written.splitlines()))
        raise SagegateError(
            f"{name}, line {line}: not as `sagegate promote` writes it: restore it from git or promote again"
        )
    return content


def path(environment: str) -> str:
    """The file's place below the project's root."""
    return f"{FOLDER}/{environment}.json"


def load(root: Path, environment: str) -> Pin | None:
    """What is pinned in an environment, or None if nothing is yet; raises SagegateError as `loads` does."""
    try:
        return loads((root / path(environment)).read_text(encoding="utf-8"), path(environment))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SagegateError(f"{path(environment)} is not UTF-8: restore it from git, or promote again") from None


def write_manifest(root: Path, environment: str, content: Pin) -> None:
    """Write the file, whole or not at all."""
    write_atomically(root / path(environment), dump(content).encode())


def check(root: Path) -> int:
    """Load every file of the folder; their number. Raises SagegateError for the first that is not good."""
    files = sorted((root / FOLDER).glob("*.json"))
    for file in files:
        if file.stem not in DEPLOYED:
            raise SagegateError(f"{FOLDER}/{file.name}: there is no such environment: {', '.join(DEPLOYED)} have one")
        load(root, file.stem)
    return len(files)


def _validated(content: dict[str, Any], name: str) -> Pin:
    try:
        return convert(Pin, content, name)
    except ValueError as error:
        raise SagegateError(str(error)) from None


def pinned(root: Path, session: Session) -> dict[str, str]:
    """The environments that pin a model of the session's registry, by that model's ARN: `staging`, `staging, prod`.

    A file that cannot be read pins nothing here: `sagegate check` says what is wrong with it.
    """
    found: dict[str, str] = {}
    for environment in DEPLOYED:
        try:
            pin = load(root, environment)
        except SagegateError:
            continue
        if pin is not None:
            arn = pin.model.arn
            found[arn] = ", ".join(filter(None, [found.get(arn), environment]))
    return found


def deployed(root: Path, session: Session) -> dict[str, str]:
    """Where the session's models are, by ARN: `staging, prod (pinned)`. Pinned only means that it is not live there.

    What was live last in health is live: a failed deployment puts it back. Dev's bucket has the records of all.
    """
    found: dict[str, list[str]] = {}
    pins = pinned(root, session)
    for environment in DEPLOYED:
        record = None if session.environment.is_local else last_healthy(session, environment=environment)
        live = record.model_package_arn if record else ""
        if live:
            found.setdefault(live, []).append(environment)
        for arn, where in pins.items():
            if environment in where.split(", ") and arn != live:
                found.setdefault(arn, []).append(f"{environment} (pinned)")
    return {arn: ", ".join(where) for arn, where in found.items()}


def journey(root: Path, session: Session, arn: str, digest: str | None) -> list[tuple[str, str]]:
    """One line for each environment that has had a model: endpoint, result, who, which pull request or commit.

    Records are in the account that was deployed to; of an account other than the session's only the pin is known.
    """
    lines = []
    for environment in DEPLOYED:
        there = load_environment(root, environment)
        here = (session.names.account_id, session.names.region)
        names = Names(session.names.project, environment, there.account_id, there.region)
        is_pinned = environment in pinned(root, session).get(arn, "").split(", ")
        said = f"pinned for endpoint {names.endpoint}" if is_pinned else ""
        if digest and not session.environment.is_local and (there.account_id, there.region) == here:
            record = last_of(session, arn, digest, environment)
            if record:
                by = f"{record.at[:16]} UTC by {record.deployed_by}"
                source = record.pull_request or f"commit {record.commit[:12]}"
                said = f"{record.result} on endpoint {names.endpoint}, {by}, {source}"
        if said:
            lines.append((environment, said))
    return lines
