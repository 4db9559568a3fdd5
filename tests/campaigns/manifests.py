"""Random changes of deployments/ENV.json: only what `sagegate promote` would write is accepted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case, Chance, check_message
from campaigns.definitions import mutate
from sagegate.errors import SagegateError
from sagegate.registry.deployments import manifest_text, parse_manifest, read_manifest

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/my-model/7"
MANIFEST: dict[str, Any] = {
    "evidence": {
        "code": {"commit": "c" * 40, "repository": "me/my-model"},
        "data": {"rows": {"test": 113, "train": 370}, "uri": "s3://bucket/my-model/data/1", "version": "1" * 16},
        "evaluation": {"sha256": "e" * 64, "uri": "s3://bucket/my-model/executions/1/evaluation/evaluation.json"},
        "execution_arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/my-model/execution/abcdefghijkl",
        "gate": {
            "candidate": 0.99,
            "champion": None,
            "champion_verdict": "no champion",
            "champion_version": None,
            "confidence": 0.95,
            "greater_is_better": True,
            "improvement": None,
            "lowest_improvement": None,
            "metric": "auc",
            "min_improvement": 0.0,
            "passed": True,
            "reason": "auc 0.99 meets the threshold 0.95; no champion yet",
            "threshold": 0.95,
            "threshold_margin": 0.04,
        },
        "libraries": {"xgboost": "3.0.5"},
        "metrics": {"auc": {"champion": None, "greater_is_better": True, "standard_deviation": 0.004, "value": 0.99}},
        "overrides": "none",
        "started_by": "me",
    },
    "model": {
        "account_id": "123456789012",
        "arn": ARN,
        "artifact": {"sha256": "a" * 64, "uri": "s3://bucket/my-model/models/1/model.tar.gz"},
        "group": "my-model",
        "region": "us-east-1",
        "version": 7,
    },
    "promoted_at": "2026-11-28T10:00:00Z",
    "promoted_by": "me",
    "replaces": None,
}
VALUES: list[Any] = [
    *(None, 0, -1, 7, 8, 1.5, 10**400, float("nan"), float("inf"), True, False, "", "x", "\0", "\u2028", [], {}),
    *({"a": 1}, [None], "s3://b/../c", "s3://other/x", ARN.replace("/7", "/8"), ARN.replace("my-model", "other")),
]


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one changed manifest, as its file is read."""
    file = folder / "deployments" / "staging.json"
    file.parent.mkdir()
    text = json.dumps(MANIFEST, indent=2, sort_keys=True) + "\n"
    assert manifest_text(parse_manifest(text, "deployments/staging.json")) == text

    def case(chance: Chance) -> None:
        changed = text
        if chance.random() < 0.7:
            changed = json.dumps(mutate(MANIFEST, VALUES, chance), indent=2, sort_keys=True) + "\n"
        content = bytearray(changed.encode())
        for _ in range(chance.choice([0, 0, 1, 2])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.1:
            del content[chance.randrange(len(content)) :]
        file.write_bytes(content)
        try:
            found = read_manifest(folder, "staging")
        except SagegateError as error:
            check_message(error, "deployments/staging.json")
            return
        assert found is not None and manifest_text(found).encode() == bytes(content)
        assert found.model.arn.endswith(f":model-package/{found.model.group}/{found.model.version}")
        assert found.evidence.gate.passed, "a manifest that says itself that the gate was not passed"

    yield case


CAMPAIGN = Campaign("deployment files", "only what `sagegate promote` writes is read", 500, 100, prepare)
