"""`deployments/ENV.json`: the one model package that is deployed in ENV, with its evidence. Absent: nothing yet.

A promotion pull request writes the file, merging it deploys, reverting it rolls back. Keys are sorted and the form is
fixed, so a diff shows what changed and nothing else; what is not in that form was edited by hand and is refused.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlops.errors import MlopsError
from mlops.files import write_atomically
from mlops.registry.lineage import ARN, Lineage
from mlops.sections import AccountId, Region, Section, Sha256, Version, convert
from mlops.settings import ENVIRONMENTS

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
    """The file's content for a model package; raises MlopsError if its evidence is not complete."""
    evaluation = lineage.evaluation
    if evaluation is None:
        raise MlopsError(
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
    """The content of a file called `name`; raises MlopsError, naming file and key, for one that was edited by hand."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MlopsError(f"{name} is not JSON ({error}): restore it from git, or promote again") from None
    if not isinstance(found, dict):
        raise MlopsError(f"{name} is not a JSON object: restore it from git, or promote again")
    content = _validated(found, name)
    written = dump(content)
    if text != written:
        lines = zip(text.splitlines(), written.splitlines(), strict=False)
        line = next((number for number, (a, b) in enumerate(lines, 1) if a != b), len(written.splitlines()))
        raise MlopsError(f"{name}, line {line}: not as `mlops promote` writes it: restore it from git or promote again")
    return content


def path(environment: str) -> str:
    """The file's place below the project's root."""
    return f"{FOLDER}/{environment}.json"


def load(root: Path, environment: str) -> Pin | None:
    """What is pinned in an environment, or None if nothing is yet; raises MlopsError as `loads` does."""
    try:
        return loads((root / path(environment)).read_text(encoding="utf-8"), path(environment))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise MlopsError(f"{path(environment)} is not UTF-8: restore it from git, or promote again") from None


def write(root: Path, environment: str, content: Pin) -> None:
    """Write the file, whole or not at all."""
    write_atomically(root / path(environment), dump(content).encode())


def check(root: Path) -> int:
    """Load every file of the folder; their number. Raises MlopsError for the first that is not good."""
    files = sorted((root / FOLDER).glob("*.json"))
    for file in files:
        if file.stem not in DEPLOYED:
            raise MlopsError(f"{FOLDER}/{file.name}: there is no such environment: {', '.join(DEPLOYED)} have one")
        load(root, file.stem)
    return len(files)


def _validated(content: dict[str, Any], name: str) -> Pin:
    try:
        return convert(Pin, content, name)
    except ValueError as error:
        raise MlopsError(str(error)) from None
