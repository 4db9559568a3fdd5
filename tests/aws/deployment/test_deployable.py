"""What may be deployed, and with which parameters: the pure part, case by case."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cfnlint.decode.cfn_yaml import loads as load_template  # type: ignore[import-untyped]
from conftest import Bake

from sagegate.config import convert, load_environment
from sagegate.deployment.checks import Facts, Target, parameters, refusal, stack, vcpus
from sagegate.deployment.deploy import keepers
from sagegate.names import Names
from sagegate.registry.deployments import Artifact, Package, Record, utc_now
from sagegate.session import Session

ACCOUNT, REGION, DIGEST = "111122223333", "eu-west-1", "a" * 64
URI = "s3://m-111122223333-eu-west-1/m/executions/x/model.tar.gz"
DEV = Names("m", "dev", ACCOUNT, REGION)
PINNED = Package(
    account_id=ACCOUNT,
    arn=f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/m/3",
    artifact=Artifact(sha256=DIGEST, uri=URI),
    group="m",
    region=REGION,
    version=3,
)


def package(status: str = "PendingManualApproval", uri: str = URI) -> dict[str, Any]:
    """DescribeModelPackage's response."""
    return {"ModelApprovalStatus": status, "InferenceSpecification": {"Containers": [{"ModelDataUrl": uri}]}}


def staged(result: str = "healthy") -> Record:
    """What staging's record says."""
    values = {"commit": "c", "deployed_by": "ada", "at": utc_now(), "reason": "it is too slow"}
    return convert(
        Record,
        {"environment": "staging", "version": 3, "model_package_arn": PINNED.arn, "artifact_sha256": DIGEST}
        | {"result": result}
        | values,
        "record",
    )


GOOD = Facts(PINNED, package(), DIGEST, None)


@pytest.mark.parametrize("status", ["PendingManualApproval", "Approved"])
def test_a_model_that_passed_may_go_to_staging_and_from_there_to_prod(status: str) -> None:
    facts = replace(GOOD, package=package(status))
    assert refusal("staging", facts, DEV) is None
    assert refusal("prod", replace(facts, staging=staged()), DEV) is None


@pytest.mark.parametrize(
    ("environment", "facts", "training", "words"),
    [
        ("staging", GOOD, replace(DEV, account_id="999988887777"), "is from account 111122223333 in eu-west-1"),
        ("staging", GOOD, replace(DEV, region="us-east-1"), "trained in 111122223333 in us-east-1"),
        ("staging", GOOD, replace(DEV, project="other"), "is of model package group m: this project's is other"),
        ("staging", replace(GOOD, package=None), DEV, "is not in the registry"),
        ("staging", replace(GOOD, package=package("Rejected")), DEV, "is rejected: no reason was given"),
        ("staging", replace(GOOD, package=package(uri="s3://b/other")), DEV, "its artifact is s3://b/other"),
        ("staging", replace(GOOD, digest=None), DEV, "does not exist"),
        ("staging", replace(GOOD, digest="b" * 64), DEV, "it was changed after it was registered"),
        ("prod", GOOD, DEV, "was never healthy in staging"),
        ("prod", replace(GOOD, staging=staged("failed")), DEV, "is not healthy in staging: it is too slow"),
    ],
    ids=["account", "region", "group", "gone", "rejected", "uri", "artifact", "digest", "unproven", "unhealthy"],
)
def test_anything_else_is_refused(environment: str, facts: Facts, training: Names, words: str) -> None:
    said = refusal(environment, facts, training)
    assert said is not None and words in said and said.startswith("model 3") and "\n" not in said


def test_the_parameters_are_those_of_the_template(baked: Bake) -> None:
    """None too many, and every one that has no default."""
    root = baked()
    template, problems = load_template((root / "infra" / "endpoint.yaml").read_text(encoding="utf-8")), []
    declared = template["Parameters"]
    for name in ("staging", "prod"):
        environment = load_environment(root, name)
        wanted = stack(root, environment, Names("m", name, ACCOUNT, REGION), Target(PINNED.arn, 3, DIGEST), {})
        assert wanted.parameters.keys() <= declared.keys()
        needed = {key for key, rule in declared.items() if "Default" not in rule}
        assert needed <= wanted.parameters.keys()
        for key, value in wanted.parameters.items():
            allowed = [str(one) for one in declared[key].get("AllowedValues", [value])]
            if value not in allowed:
                problems.append(f"{key} = {value}: not one of {allowed}")
    assert problems == []


def test_the_revision_follows_from_template_and_parameters(baked: Bake, tmp_path: Path) -> None:
    root, names, target = baked(), Names("m", "staging", ACCOUNT, REGION), Target(PINNED.arn, 3, DIGEST)
    environment = load_environment(root, "staging")
    (tmp_path / "infra").mkdir()
    copy = tmp_path / "infra" / "endpoint.yaml"
    copy.write_text((root / "infra" / "endpoint.yaml").read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    first = stack(root, environment, names, target, {})
    assert first == stack(root, environment, names, target, {})
    revisions = {
        first.parameters["Revision"],
        stack(tmp_path, environment, names, target, {}).parameters["Revision"],
        stack(root, environment, names, replace(target, digest="b" * 64), {}).parameters["Revision"],
    }
    assert len(revisions) == 3
    assert "Revision" not in parameters(environment, names, target)


@pytest.mark.parametrize(
    ("instance_type", "count"),
    [
        ("ml.t2.medium", 2),
        ("ml.m5.large", 2),
        ("ml.m5.xlarge", 4),
        ("ml.c6i.2xlarge", 8),
        ("ml.m7i-flex.4xlarge", 16),
        ("ml.m5.24xlarge", 96),
        ("ml.g5.48xlarge", 192),
    ],
)
def test_vcpus(instance_type: str, count: int) -> None:
    assert vcpus(instance_type) == count


def test_a_deployment_s_own_record_is_written_last() -> None:
    """A rerun takes a deployment for done by it, and would not bring dev's copy, which prod waits for."""

    def session(name: str, account_id: str) -> Session:
        return cast(Session, SimpleNamespace(names=Names("m", name, account_id, REGION)))

    staging, dev, shared = session("staging", "222233334444"), session("dev", ACCOUNT), session("staging", ACCOUNT)
    assert keepers(staging, dev) == [dev, staging]
    assert keepers(shared, dev) == [shared]
