"""The step cache: a step with the same arguments, on inputs with the same content, does not run again.

The arguments that count are SageMaker's ("Default cache key attributes by pipeline step type" in the developer guide).
SageMaker compares S3 URIs; the local cache compares the content behind each URI as well, and the installed libraries,
which take the place of the container image.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import sysconfig
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from sagegate.errors import SagegateError
from sagegate.files import Json, write_json
from sagegate.local.state import now, read_json
from sagegate.local.storage import Store

ATTRIBUTES = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": ("AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"),
    "Tuning": ("HyperParameterTuningJobConfig", "TrainingJobDefinition", "TrainingJobDefinitions"),
    "Transform": ("DataProcessing", "Environment", "ModelName", "TransformInput"),
}
TUNING_DEFINITION_ATTRIBUTES = (
    *("AlgorithmSpecification", "HyperParameterRanges", "InputDataConfig", "StaticHyperParameters", "TuningObjective"),
)
DURATION = re.compile(
    r"P?(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:t(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?)?", re.IGNORECASE
)


class Cache:
    """Results of successful steps, in `.mlops/cache/KEY.json`."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store

    def key(self, pipeline: str, step: str, kind: str, arguments: Json) -> str:
        """Return the digest of everything that decides a step's result."""
        parts = [pipeline, step, self._with_content(relevant(kind, arguments)), sys.version, self._libraries]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def find(self, key: str, expire_after: str | None) -> Json | None:
        """Return the entry under `key` if it is sound, has not expired and its outputs are unchanged, else None."""
        try:
            entry = read_json(self.folder / f"{key}.json")
        except (FileNotFoundError, SagegateError):
            return None
        if expire_after and now() - entry["CreationTime"] > parse_duration(expire_after):
            return None
        return entry if all(self.store.digest(uri) == digest for uri, digest in entry["Outputs"].items()) else None

    def put(self, key: str, execution_arn: str, properties: Json, outputs: list[str]) -> None:
        """Store a step's properties and the digests of its output URIs."""
        digests = {uri: self.store.digest(uri) for uri in outputs}
        entry = {"CreationTime": now(), "Arn": execution_arn, "Properties": properties, "Outputs": digests}
        file = self.folder / f"{key}.json"
        if file.is_dir():
            shutil.rmtree(file)
        write_json(file, entry)

    @cached_property
    def _libraries(self) -> list[str]:
        """The installed libraries: name, version and the digest of the list of their files, which has their digests."""
        folders = sorted(Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info"))
        records = {folder.name: folder / "RECORD" for folder in folders}
        contents = {name: file.read_bytes() if file.is_file() else b"" for name, file in records.items()}
        return [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in contents.items()]

    def _with_content(self, value: Any) -> Any:
        """Return `value` with each S3 URI of existing objects replaced by their digest."""
        if isinstance(value, dict):
            return {key: self._with_content(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_content(item) for item in value]
        is_uri = isinstance(value, str) and value.startswith("s3://")
        return (is_uri and self.store.digest(value)) or value


def relevant(kind: str, arguments: Json) -> Json:
    """Return the arguments of a step that SageMaker's cache compares."""
    found = {name: arguments.get(name) for name in ATTRIBUTES[kind]}
    definition = found.get("TrainingJobDefinition")
    if definition:
        found["TrainingJobDefinition"] = {name: definition.get(name) for name in TUNING_DEFINITION_ATTRIBUTES}
    return found


def parse_duration(text: str) -> timedelta:
    """Parse an ISO 8601 duration such as P30D, PT1H or 30dT5h. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as P30D or PT1H")
    years, months, weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(days=365 * years + 30 * months + 7 * weeks + days, hours=hours, minutes=minutes, seconds=seconds)
