"""Manifests: the version to which a rollback goes, and what is not read."""

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from test_gate_record import FIRST

from sagegate.config import convert
from sagegate.errors import SagegateError
from sagegate.promotion.promote import NothingToPromote, previous
from sagegate.registry import deployments
from sagegate.registry.deployments import Manifest, Record
from sagegate.session import open_session

GROUP, SHA, OTHER = "arn:aws:sagemaker:eu-west-1:111111111111:model-package/my-model", "b" * 64, "c" * 64
EVIDENCE: dict[str, Any] = {
    "code": {"commit": "c", "repository": "r"},
    "data": {"rows": {}, "uri": "u", "version": "v"},
    "evaluation": {"sha256": SHA, "uri": "s3://bucket/evaluation.json"},
    "gate": FIRST,
    "metrics": {"auc": {"champion": None, "greater_is_better": True, "standard_deviation": None, "value": 0.9}},
} | {"execution_arn": "arn", "libraries": {}, "started_by": "ada"}


def manifest(version: int) -> Manifest:
    artifact = {"sha256": SHA, "uri": "s3://bucket/model.tar.gz"}
    model = {"account_id": "1" * 12, "arn": f"{GROUP}/{version}", "group": "my-model", "region": "eu-west-1"}
    model |= {"version": version, "artifact": artifact}  # type: ignore[dict-item]
    promoted = {"promoted_at": "2026-01-01T00:00:00Z", "promoted_by": "ada", "replaces": None}
    return convert(Manifest, {"evidence": EVIDENCE, "model": model} | promoted, "manifest")


FIRST_ONE, NEVER = "model 1 is the first in prod: there is none to go back to", "model 7 was never promoted to prod"
BACK: dict[tuple[int, ...], int | str] = {(1, 2, 3): 2, (1, 2, 3, 2): 1, (3, 1, 2): 1, (1, 2, 1, 4, 1): FIRST_ONE}
TO: list[Any] = [((1, 2, 3), 1, 1), ((300, 2, 1), 300, 300), ((1, 300), 300, "prod.json pins model 300 already")]
TO += [((9, 5, 300), 7, f"{NEVER}; 5, 9 were: "), ((5,), 7, f"{NEVER}: ")]


@pytest.mark.parametrize(("versions", "to", "expected"), [*((k, None, v) for k, v in BACK.items()), *TO])
def test_a_rollback_goes_to_the_version_before(versions: tuple[int, ...], to: int | None, expected: int | str) -> None:
    texts = [deployments.manifest_text(manifest(version)) for version in versions]
    history = [*texts[:1], "edited by hand", *texts[1:]]
    manifests: Any = SimpleNamespace(read=lambda _: manifest(versions[-1]), history=lambda _: history)
    if isinstance(expected, int):
        assert [m.model.version for m in previous(manifests, "prod", to)] == [versions[-1], expected]
        return
    with pytest.raises(SagegateError) as error:
        previous(manifests, "prod", to)
    assert expected in str(error.value) and isinstance(error.value, NothingToPromote) == ("already" in expected)


def record(at: int, version: int, sha256: str, result: str) -> Record:
    content = {"environment": "staging", "version": version, "model_package_arn": f"{GROUP}/{version}", "at": str(at)}
    content |= {"artifact_sha256": sha256, "result": result, "reason": "why", "commit": "c", "deployed_by": "ada"}
    return convert(Record, content, "record")


def test_the_last_healthy_deployment_is_what_is_served(own_project: Path) -> None:
    with closing(open_session(own_project, "local")) as session:
        kept = [record(1, 1, SHA, "healthy"), record(2, 2, OTHER, "healthy"), record(3, 2, SHA, "failed")]
        for each in kept:
            deployments.write_record(session, each)
        assert list(deployments.records(session, "staging")) == kept[::-1] and not list(deployments.records(session))
        healthy = [deployments.last_healthy(session, skipped, "staging") for skipped in ("", OTHER)]
        found = [deployments.last_record_of(session, f"{GROUP}/2", digest, "staging") for digest in (SHA, "d" * 64)]
        assert (healthy, found) == ([kept[1], kept[0]], [kept[2], None])
        deployments.write_manifest(own_project, "prod", manifest(2))
        (own_project / "deployments" / "staging.json").write_bytes(b"\xff")
        names = {"root": own_project, "names": session.names, "s3": session.s3}
        remote: Any = SimpleNamespace(environment=SimpleNamespace(is_local=False, name="dev"), **names)
        assert deployments.stages(session) == {f"{GROUP}/2": "prod (pinned)"}
        assert deployments.stages(remote) == {f"{GROUP}/2": "staging, prod (pinned)"}
        with pytest.raises(SagegateError, match=r"^deployments/staging.json is not UTF-8"):
            deployments.check_manifests(own_project)


EDITS = {
    ("\n}\n", "\n}\n\n"): "line 59: not as `sagegate promote` writes it",
    ('"version": 1', '"version":1'): "line 54: not as `sagegate promote` writes it",
    **{("/1", new): "account_id, region, group or version is not that of" for new in ("/0", "/2")},
    **{('"value": 0.9', f'"value": {new}'): "gate.candidate is not the value of metric auc" for new in ("0.8", "1.0")},
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_manifest_that_was_edited_is_an_error(edit: tuple[str, str]) -> None:
    text = deployments.manifest_text(manifest(1))
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n" and edit[0] in text
    same = deployments.parse_manifest(text, "m.json")
    assert same == manifest(1) and same.is_same_as(replace(same, promoted_by="bob", promoted_at="2026-01-02T00:00:00Z"))
    assert not any(same.is_same_as(other) for other in (None, manifest(2), replace(same, replaces=3)))
    with pytest.raises(SagegateError, match=r"^m\.json") as error:
        deployments.parse_manifest(text.replace(*edit), "m.json")
    assert EDITS[edit] in str(error.value) and len(str(error.value).splitlines()) == 1
