"""Step caching: a step with the same resolved arguments, on inputs with the same content, is not run again.

The arguments that count are SageMaker's ("Default cache key attributes by pipeline step type"): outputs do not. Beyond
SageMaker, which compares S3 URIs only, the content behind each URI counts, and so do the installed libraries, which
stand for the container image.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sagegate.files import write_json
from sagegate.local.state import now, read_json
from sagegate.local.storage import Store

Json = dict[str, Any]
ATTRIBUTES = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": (
        "AlgorithmSpecification",
        "CheckpointConfig",
        "Environment",
        "HyperParameters",
        "InputDataConfig",
    ),
    "Tuning": ("HyperParameterTuningJobConfig", "TrainingJobDefinition"),
    "Transform": ("DataProcessing", "Environment", "ModelName", "TransformInput"),
}
DURATION = re.compile(
    r"P?(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:t(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?)?", re.IGNORECASE
)


class Cache:
    """`.mlops/cache/KEY.json`: what a step's last success with that key gave."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store

    def key(self, pipeline: str, step: str, kind: str, arguments: Json) -> str:
        """The digest of all that decides a step's result."""
        relevant = {name: arguments.get(name) for name in ATTRIBUTES[kind]}
        if kind == "Tuning":  # of the training jobs, only these count
            parts = ("AlgorithmSpecification", "InputDataConfig", "StaticHyperParameters")
            relevant["TrainingJobDefinition"] = {part: arguments["TrainingJobDefinition"].get(part) for part in parts}
        contents = {uri: self.store.digest(uri) for uri in _uris(relevant)}
        text = json.dumps(_without_uris([pipeline, step, relevant], contents), sort_keys=True)
        return hashlib.sha256(f"{text}\n{installed()}".encode()).hexdigest()

    def find(self, key: str, expire_after: str | None) -> Json | None:
        """The entry under `key`, if it is young enough and its outputs are still there."""
        file = self.folder / f"{key}.json"
        if not file.is_file():
            return None
        entry = read_json(file)
        if expire_after and now() - entry["CreationTime"] > parse_duration(expire_after):
            return None
        return entry if all(self.store.digest(uri) == digest for uri, digest in entry["Outputs"].items()) else None

    def put(self, key: str, arn: str, properties: Json, outputs: list[str]) -> None:
        """Remember a success: whose it was, its properties and what its outputs hold."""
        digests = {uri: self.store.digest(uri) for uri in outputs}
        entry = {"CreationTime": now(), "Arn": arn, "Properties": properties, "Outputs": digests}
        write_json(self.folder / f"{key}.json", entry)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration such as P30D, PT1H or 30dT5h; raises ValueError for anything else."""
    match = DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as P30D or PT1H")
    years, months, weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(days=365 * years + 30 * months + 7 * weeks + days, hours=hours, minutes=minutes, seconds=seconds)


def installed() -> str:
    """A digest of the Python and the distributions that are installed here."""
    library = Path(sysconfig.get_paths()["purelib"])
    names = sorted(entry.name for entry in library.glob("*.dist-info"))
    return hashlib.sha256("\n".join([sys.version, *names]).encode()).hexdigest()


def _uris(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _uris(item)
    elif isinstance(value, str) and value.startswith("s3://"):
        yield value


def _without_uris(value: Any, contents: dict[str, str]) -> Any:
    """`value` with each S3 URI that holds something replaced by the digest of what it holds."""
    if isinstance(value, dict):
        return {key: _without_uris(item, contents) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_uris(item, contents) for item in value]
    return contents.get(value) or value if isinstance(value, str) else value
