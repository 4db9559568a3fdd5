"""What may not be deployed or served is refused in one line, and nothing is written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunIn
from places import ACCOUNT, use_account

from deployment.lab import BUCKET, GOOD, OTHER, Lab
from sagegate.files import Json


@pytest.fixture
def refusing(shop: Lab) -> Iterator[Lab]:
    """Whatever happens: not one call that changes something, no record, no champion, no endpoint."""
    yield shop
    assert shop.proxy.writes == []
    assert shop.results("staging") == shop.results("prod") == [] and shop.champion() is None
    assert shop.stack("staging") is None and shop.stack("prod") is None


def verdict(said: str) -> str:
    """The one line that was said."""
    (line,) = said.strip().splitlines()
    return line


def repin(shop: Lab, **changes: str | int) -> None:
    """Change fields of what staging pins, in its ARN as well."""
    pin: Json = json.loads(shop.snapshot.pins[GOOD])
    model = pin["model"] | changes
    arn = f"arn:aws:sagemaker:{model['region']}:{model['account_id']}:model-package/{model['group']}/{model['version']}"
    pin["model"] = model | {"arn": arn}
    file = shop.project / "deployments" / "staging.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(pin, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def test_what_is_not_to_be_deployed(refusing: Lab) -> None:
    shop = refusing
    assert "does not exist: `sagegate promote staging` writes it" in verdict(shop.sagegate("deploy", "staging"))
    assert "only staging and prod are deployed to" in verdict(shop.sagegate("deploy", "dev", code=2))
    shop.pin("prod", GOOD)
    assert "model 1 was never healthy in staging" in verdict(shop.sagegate("deploy", "prod", code=1))
    repin(shop, account_id="210987654321")
    assert "model 1 is from account 210987654321" in verdict(shop.sagegate("deploy", "staging", code=1))
    repin(shop, group="another-model")
    assert "is of model package group another-model" in verdict(shop.sagegate("deploy", "staging", code=1))
    repin(shop, region="eu-west-1")
    assert f"is from account {ACCOUNT} in eu-west-1" in verdict(shop.sagegate("deploy", "staging", code=1))
    repin(shop, version=99)
    assert "/99) is not in the registry" in verdict(shop.sagegate("deploy", "staging", code=1))
    (shop.project / "deployments" / "staging.json").write_text("{}\n", encoding="utf-8")
    assert "deployments/staging.json" in verdict(shop.sagegate("deploy", "staging", code=1))


def test_a_rejected_and_a_changed_model(refusing: Lab) -> None:
    shop = refusing
    shop.sagemaker.update_model_package(
        ModelPackageArn=shop.package(GOOD)["ModelPackageArn"],
        ModelApprovalStatus="Rejected",
        ApprovalDescription="it is unfair",
    )
    shop.pin("staging", GOOD)
    assert "model 1 is rejected: it is unfair" in verdict(shop.sagegate("deploy", "staging", code=1))
    uri = shop.package(OTHER)["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    shop.s3.put_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"), Body=b"another model")
    shop.pin("staging", OTHER)
    assert "it was changed after it was registered" in verdict(shop.sagegate("deploy", "staging", code=1))
    shop.s3.delete_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
    assert "does not exist" in verdict(shop.sagegate("deploy", "staging", code=1))
    use_account(shop.project, "210987654321")
    assert "your credentials are of account 123456789012" in verdict(shop.sagegate("deploy", "staging", code=1))


def test_this_machine_refuses_the_same(own_project: Path, run_in: RunIn) -> None:
    def sagegate(*args: str, code: int) -> str:
        done = run_in(own_project, "sagegate", *args, check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    sagegate("run", code=0)
    assert "no model is approved yet" in sagegate("deploy", "local", code=1)
    sagegate("approve", "1", "--reason", "good", code=0)
    assert "model 1: smoke test passed" in sagegate("deploy", "local", code=0)
    (artifact,) = (own_project / ".mlops" / "s3").rglob("executions/**/model.tar.gz")
    content = artifact.read_bytes()
    artifact.unlink()  # not written over: the store may share the file with its cache
    artifact.write_bytes(content + b"\0")
    for verb in (("deploy", "local"), ("serve", "1", "--port", "0")):
        assert "was changed after it was evaluated" in verdict(sagegate(*verb, code=1))
    artifact.write_bytes(content)
    sagegate("reject", "1", "--reason", "unfair", code=0)
    assert "model 1 is rejected" in verdict(sagegate("serve", "1", "--port", "0", code=1))
    assert "no model is approved yet" in verdict(sagegate("deploy", "local", code=1))
