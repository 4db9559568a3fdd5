"""SageMaker's step cache: it compares arguments, S3 URIs among them, and never looks at what is behind a URI.

Source: "Caching pipeline steps" in the SageMaker developer guide.
"""

from __future__ import annotations

import hashlib
import json

from sagegate.files import Json
from sagegate.local.cache import ATTRIBUTES, Cache, parse_duration
from sagegate.local.state import now, read_json


class UriCache(Cache):
    """The cache of the pipelines of an account and region."""

    def key(self, pipeline: str, step: str, kind: str, arguments: Json) -> str:
        """The digest of the arguments that count."""
        relevant = {name: arguments.get(name) for name in ATTRIBUTES[kind]}
        return hashlib.sha256(json.dumps([pipeline, step, relevant], sort_keys=True).encode()).hexdigest()

    def find(self, key: str, expire_after: str | None) -> Json | None:
        """The entry under `key`, if it is young enough; that its outputs are gone does not matter to SageMaker."""
        file = self.folder / f"{key}.json"
        if not file.is_file():
            return None
        entry = read_json(file)
        return None if expire_after and now() - entry["CreationTime"] > parse_duration(expire_after) else entry
