"""An environment's VPC, KMS key and spot training in the definition."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sagegate.config import Environment, load_environment
from sagegate.errors import SagegateError
from sagegate.pipeline.parameters import apply_environment, set_caching
from sagegate.pipeline.shapes import argument_errors

PROJECT = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}"
DEFINITION: dict[str, Any] = json.loads((PROJECT / "pipeline" / "definition.json").read_text(encoding="utf-8"))
KEY = "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012"
VPC = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
MORE = {
    "network": '\n[network]\nsubnet_ids = ["subnet-1", "subnet-2"]\nsecurity_group_ids = ["sg-1"]\n',
    "encryption": f'\n[encryption]\nkms_key_arn = "{KEY}"\n',
}


def environment(tmp_path: Path, *more: str, spot: bool = False) -> Environment:
    """Load the template's dev environment, with an account and with the given tables."""
    text = (PROJECT / "environments" / "dev.toml").read_text(encoding="utf-8")
    text = text.replace("{{ cookiecutter.dev_account_id }}", "111122223333")
    text = text.replace("{{ cookiecutter.aws_region }}", "eu-west-1")
    if spot:
        text = text.replace("spot = false", "spot = true\nmax_wait_in_seconds = 7200")
    (tmp_path / "environments").mkdir(exist_ok=True)
    (tmp_path / "environments" / "dev.toml").write_text(text + "".join(MORE[m] for m in more), encoding="utf-8")
    return load_environment(tmp_path, "dev")


def arguments(definition: dict[str, Any], step: str) -> Any:
    return next(s for s in definition["Steps"] if s["Name"] == step)["Arguments"]


def test_an_environment_without_settings_changes_nothing(tmp_path: Path) -> None:
    assert apply_environment(DEFINITION, environment(tmp_path)) == DEFINITION


def test_every_job_gets_the_vpc(tmp_path: Path) -> None:
    changed = apply_environment(DEFINITION, environment(tmp_path, "network"))
    assert arguments(changed, "Train")["VpcConfig"] == VPC
    assert arguments(changed, "Preprocess")["NetworkConfig"]["VpcConfig"] == VPC
    assert arguments(changed, "Evaluate")["NetworkConfig"]["VpcConfig"] == VPC
    assert list(argument_errors(changed)) == []


def test_volumes_and_outputs_get_the_key(tmp_path: Path) -> None:
    changed = apply_environment(DEFINITION, environment(tmp_path, "encryption"))
    train, preprocess = arguments(changed, "Train"), arguments(changed, "Preprocess")
    assert train["ResourceConfig"]["VolumeKmsKeyId"] == train["OutputDataConfig"]["KmsKeyId"] == KEY
    assert preprocess["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == KEY
    assert preprocess["ProcessingOutputConfig"]["KmsKeyId"] == KEY
    assert list(argument_errors(changed)) == []


def test_spot_training_sets_the_longest_wait(tmp_path: Path) -> None:
    changed = arguments(apply_environment(DEFINITION, environment(tmp_path, spot=True)), "Train")
    assert changed["EnableManagedSpotTraining"] is True
    assert changed["StoppingCondition"]["MaxWaitTimeInSeconds"] == 7200


def test_spot_training_without_a_longest_wait_is_an_error(tmp_path: Path) -> None:
    environment(tmp_path, spot=True)
    file = tmp_path / "environments" / "dev.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("max_wait_in_seconds = 7200\n", ""), encoding="utf-8")
    with pytest.raises(SagegateError, match=r"dev\.toml: training\.max_wait_in_seconds.*3600"):
        load_environment(tmp_path, "dev")


def test_a_setting_of_pipeline_py_is_kept(tmp_path: Path) -> None:
    own = copy.deepcopy(DEFINITION)
    arguments(own, "Train")["VpcConfig"] = {"SecurityGroupIds": ["sg-own"], "Subnets": ["subnet-own"]}
    changed = apply_environment(own, environment(tmp_path, "network"))
    assert arguments(changed, "Train")["VpcConfig"]["Subnets"] == ["subnet-own"]


def test_steps_inside_conditions_are_changed_too(tmp_path: Path) -> None:
    nested = {"Name": "Again", "Type": "Training", "Arguments": arguments(DEFINITION, "Train")}
    gate = {"Name": "G", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": [nested], "ElseSteps": []}}
    changed = apply_environment({"Steps": [gate]}, environment(tmp_path, "network"))
    assert changed["Steps"][0]["Arguments"]["IfSteps"][0]["Arguments"]["VpcConfig"] == VPC
    cached = set_caching({"Steps": [gate]}, False)
    assert cached["Steps"][0]["Arguments"]["IfSteps"][0]["CacheConfig"] == {"Enabled": False}


def test_the_given_definition_is_not_modified(tmp_path: Path) -> None:
    before = copy.deepcopy(DEFINITION)
    apply_environment(DEFINITION, environment(tmp_path, "network", "encryption", spot=True))
    assert before == DEFINITION
