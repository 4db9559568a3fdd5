"""The checks before a deployment, and the parameters of the endpoint's stack."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cfnlint.decode.cfn_yaml import loads as load_template  # type: ignore[import-untyped]
from conftest import Bake

from sagegate.config import convert, load_environment
from sagegate.deployment.checks import DeploymentInputs, check_deployable
from sagegate.deployment.deploy import record_sessions
from sagegate.deployment.endpoint_stack import Model, endpoint_parameters, endpoint_stack, vcpus
from sagegate.errors import SagegateError
from sagegate.names import Names
from sagegate.registry.deployments import Artifact, Package, Record, utc_now
from sagegate.session import Session

ACCOUNT, REGION, ARTIFACT = "111122223333", "eu-west-1", b"the artifact"
DIGEST = hashlib.sha256(ARTIFACT).hexdigest()
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
    """Return a response of DescribeModelPackage."""
    return {"ModelApprovalStatus": status, "InferenceSpecification": {"Containers": [{"ModelDataUrl": uri}]}}


def staged(result: str = "healthy") -> Record:
    """Return a record of a deployment to staging."""
    values = {"commit": "c", "deployed_by": "ada", "at": utc_now(), "reason": "it is too slow"}
    return convert(
        Record,
        {"environment": "staging", "version": 3, "model_package_arn": PINNED.arn, "artifact_sha256": DIGEST}
        | {"result": result}
        | values,
        "record",
    )


GOOD = DeploymentInputs(PINNED, package(), ARTIFACT, None)
MODEL = Model(PINNED.arn, 3, DIGEST)


@pytest.mark.parametrize("status", ["PendingManualApproval", "Approved"])
def test_a_model_that_passed_may_go_to_staging_and_from_there_to_prod(status: str) -> None:
    inputs = replace(GOOD, package=package(status))
    check_deployable("staging", inputs, DEV)
    check_deployable("prod", replace(inputs, staging=staged()), DEV)


@pytest.mark.parametrize(
    ("environment", "inputs", "dev", "words"),
    [
        ("staging", GOOD, replace(DEV, account_id="999988887777"), "is from account 111122223333 in eu-west-1"),
        ("staging", GOOD, replace(DEV, region="us-east-1"), "trained in 111122223333 in us-east-1"),
        ("staging", GOOD, replace(DEV, project="other"), "is of model package group m: this project's is other"),
        ("staging", replace(GOOD, package=None), DEV, "is not in the registry"),
        ("staging", replace(GOOD, package=package("Rejected")), DEV, "is rejected: no reason was given"),
        ("staging", replace(GOOD, package=package(uri="s3://b/other")), DEV, "its artifact is s3://b/other"),
        ("staging", replace(GOOD, artifact=None), DEV, "does not exist"),
        ("staging", replace(GOOD, artifact=b"changed"), DEV, "it was changed after it was registered"),
        ("prod", GOOD, DEV, "was never healthy in staging"),
        ("prod", replace(GOOD, staging=staged("failed")), DEV, "is not healthy in staging: it is too slow"),
    ],
    ids=["account", "region", "group", "gone", "rejected", "uri", "artifact", "digest", "unproven", "unhealthy"],
)
def test_any_other_model_is_rejected(environment: str, inputs: DeploymentInputs, dev: Names, words: str) -> None:
    with pytest.raises(SagegateError) as caught:
        check_deployable(environment, inputs, dev)
    message = str(caught.value)
    assert words in message and message.startswith("model 3") and "\n" not in message


def test_the_parameters_are_those_of_the_template(baked: Bake) -> None:
    """The stack gets no unknown parameter, and each one that has no default."""
    root = baked()
    template, problems = load_template((root / "infra" / "endpoint.yaml").read_text(encoding="utf-8")), []
    declared = template["Parameters"]
    for name in ("staging", "prod"):
        environment = load_environment(root, name)
        spec = endpoint_stack(root, environment, Names("m", name, ACCOUNT, REGION), MODEL, {})
        assert spec.parameters.keys() <= declared.keys()
        needed = {key for key, rule in declared.items() if "Default" not in rule}
        assert needed <= spec.parameters.keys()
        for key, value in spec.parameters.items():
            allowed = [str(one) for one in declared[key].get("AllowedValues", [value])]
            if value not in allowed:
                problems.append(f"{key} = {value}: not one of {allowed}")
    assert problems == []


def test_the_revision_follows_from_template_and_parameters(baked: Bake, tmp_path: Path) -> None:
    root, names = baked(), Names("m", "staging", ACCOUNT, REGION)
    environment = load_environment(root, "staging")
    (tmp_path / "infra").mkdir()
    copy = tmp_path / "infra" / "endpoint.yaml"
    copy.write_text((root / "infra" / "endpoint.yaml").read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    first = endpoint_stack(root, environment, names, MODEL, {})
    assert first == endpoint_stack(root, environment, names, MODEL, {})
    revisions = {
        first.parameters["Revision"],
        endpoint_stack(tmp_path, environment, names, MODEL, {}).parameters["Revision"],
        endpoint_stack(root, environment, names, replace(MODEL, digest="b" * 64), {}).parameters["Revision"],
    }
    assert len(revisions) == 3
    assert "Revision" not in endpoint_parameters(environment, names, MODEL)


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


def test_the_environment_s_own_record_is_written_last() -> None:
    """A rerun takes it as proof that the deployment is done, and would not write dev's copy, which prod waits for."""

    def session(name: str, account_id: str) -> Session:
        return cast(Session, SimpleNamespace(names=Names("m", name, account_id, REGION)))

    staging, dev, shared = session("staging", "222233334444"), session("dev", ACCOUNT), session("staging", ACCOUNT)
    assert record_sessions(staging, dev) == [dev, staging]
    assert record_sessions(shared, dev) == [shared]
