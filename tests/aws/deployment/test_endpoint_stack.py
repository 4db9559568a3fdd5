"""The parameters of the endpoint's stack, and where a deployment is recorded."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from cfnlint.decode.cfn_yaml import loads as load_template  # type: ignore[import-untyped]
from conftest import Bake

from sagegate.config import load_environment
from sagegate.deployment.deploy import Model, endpoint_parameters, endpoint_stack, record_sessions, vcpus
from sagegate.names import Names
from sagegate.session import Session

ACCOUNT, REGION = "111122223333", "eu-west-1"
MODEL = Model(f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/m/3", 3, "a" * 64)


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


def test_vcpus() -> None:
    sizes = ["ml.t2.medium", "ml.m5.large", "ml.m5.xlarge", "ml.m7i-flex.4xlarge", "ml.g5.48xlarge"]
    assert [vcpus(size) for size in sizes] == [2, 2, 4, 16, 192]


def test_the_environment_s_own_record_is_written_last() -> None:
    """A rerun takes it as proof that the deployment is done, and would not write dev's copy, which prod waits for."""

    def session(name: str, account_id: str) -> Session:
        return cast(Session, SimpleNamespace(names=Names("m", name, account_id, REGION)))

    staging, dev, shared = session("staging", "222233334444"), session("dev", ACCOUNT), session("staging", ACCOUNT)
    assert record_sessions(staging, dev) == [dev, staging]
    assert record_sessions(shared, dev) == [shared]
