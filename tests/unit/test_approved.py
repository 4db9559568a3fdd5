"""Approvals keep the artifact where jobs cannot change it, and the champion."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sagegate.errors import SagegateError
from sagegate.local.storage import Store
from sagegate.registry import champion
from sagegate.registry.approval import artifact_uri, keep_artifact

DIGEST = hashlib.sha256(b"model").hexdigest()
URI, COPY = "s3://bucket/executions/model.tar.gz", f"s3://bucket/p/models/{DIGEST}/model.tar.gz"
CONTAINER = {"Image": "image", "ModelDataUrl": URI, "ModelDataETag": "etag", "Environment": {"A": "b"}, "Other": "x"}
KEPT = {"Image": "image", "ModelDataUrl": COPY, "Environment": {"A": "b"}, "Other": "x"}
CHANGES = [("Image", "a"), ("Image", "z"), ("ModelDataUrl", "s3://a"), ("ModelDataUrl", "s3://z"), ("Environment", {})]
ADDED = "AdditionalInferenceSpecifications"


def open_package(folder: Path, faster: Any = None) -> tuple[Any, Any]:  # `faster`: what another process approves
    specification = {"Containers": [CONTAINER], "SupportedContentTypes": ["text/csv"]}
    package = {"ModelPackageVersion": 7, "ModelPackageArn": "arn", "InferenceSpecification": specification}
    package = json.loads(json.dumps(package))

    def update(**request: Any) -> None:
        assert ADDED not in package, "SageMaker changes none"
        package[ADDED] = request[f"{ADDED}ToAdd"] if faster is None else faster
        if faster is not None:
            raise RuntimeError("it has one already")

    client = SimpleNamespace(update_model_package=update, describe_model_package=lambda ModelPackageName: package)
    client.exceptions = SimpleNamespace(ClientError=RuntimeError)
    return SimpleNamespace(
        s3=Store(folder), sagemaker=client, names=SimpleNamespace(artifacts="s3://bucket/p")
    ), package


def approved(*containers: Any) -> Any:
    found = [{"Name": name, "Containers": containers if name == "approved" else ()} for name in ("a", "z", "approved")]
    return json.loads(json.dumps(found))


def test_an_approved_package_names_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, package = open_package(tmp_path)
    assert artifact_uri(package) == artifact_uri({"InferenceSpecification": {"Containers": [CONTAINER, KEPT]}}) == URI
    file = tmp_path / COPY.removeprefix("s3://")
    found = keep_artifact(session, dict(package), b"model")
    assert (file.read_bytes(), artifact_uri(found), found) == (b"model", COPY, package)
    assert found[ADDED] == [{"Containers": [KEPT], "SupportedContentTypes": ["text/csv"], "Name": "approved"}]
    file.write_bytes(b"another")
    keep_artifact(session, found, b"model")
    assert file.read_bytes() == b"model"
    monkeypatch.setattr(session.s3, "put_object", lambda **_: pytest.fail("a copy that is right is left"))
    keep_artifact(session, found, b"model")
    monkeypatch.setattr(session.s3, "put_object", lambda **_: None)
    for left in (b"a", b"z"):
        file.write_bytes(left)
        with pytest.raises(SagegateError, match="is not what was written there"):
            keep_artifact(session, found, b"model")


def test_only_the_same_artifact_may_be_approved_already(tmp_path: Path) -> None:
    session, package = open_package(tmp_path, approved(KEPT | {"ModelDataETag": "new", "ImageDigest": "sha256:1"}))
    assert artifact_uri(keep_artifact(session, package, b"model")) == COPY
    session, package = open_package(tmp_path, [])
    with pytest.raises(RuntimeError):
        keep_artifact(session, package, b"model")
    for found in ([], [KEPT, KEPT], *([KEPT | {name: value}] for name, value in CHANGES)):
        with pytest.raises(SagegateError, match="model 7: its inference specification `approved` is not that of s3://"):
            keep_artifact(session, package | {ADDED: approved(*found)}, b"model")


def test_the_champion_is_the_approved_artifact_with_its_record(tmp_path: Path) -> None:
    session, package = open_package(tmp_path)
    folder = tmp_path / "bucket" / "p" / "champion"
    with pytest.raises(SagegateError, match=r"model 7: its artifact s3://.* does not exist"):
        champion.set_champion(session, package)
    champion.ensure_marker(session)
    assert (champion.current_champion(session), [f.name for f in folder.iterdir()]) == (None, ["no-champion.json"])
    session.s3.put_object(Bucket="bucket", Key="executions/model.tar.gz", Body=b"model")
    champion.set_champion(session, package)
    champion.ensure_marker(session)
    assert sorted(file.name for file in folder.iterdir()) == ["champion.json", "model.tar.gz"]
    expected: dict[str, Any] = {"version": 7, "model_package_arn": "arn", "digest": DIGEST}
    assert (champion.current_champion(session), (folder / "model.tar.gz").read_bytes()) == (expected, b"model")
    for damage in ("{", "[]", "{}", "[" * 100_000, *(json.dumps(expected | {k: 1.5}) for k in ("version", "digest"))):
        (folder / "champion.json").write_text(damage)
        with pytest.raises(SagegateError, match=r"champion\.json is damaged: `sagegate approve VERSION"):
            champion.current_champion(session)
    champion.clear_champion(session)
    assert [file.name for file in folder.iterdir()] == ["no-champion.json"]
