"""What a mistake in a settings file is answered with: file, key, what is expected there, what was found."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sagegate.config import Section, convert, load_environment, load_settings
from sagegate.errors import SagegateError

PROJECT = """
[project]
name = "churn"
repository = "acme/churn"
[data]
source = "data"
validation_fraction = 0.2
test_fraction = 0.2
split_seed = 7
[gate]
metric = "auc"
threshold = 0.9
min_improvement = 0
[hyperparameters]
max_depth = 4
eta = 0.1
objective = "binary:logistic"
[waivers]
"""
DEV = """
account_id = "111122223333"
region = "eu-west-1"
[processing]
instance_type = "ml.m5.large"
instance_count = 1
volume_size_in_gb = 30
[training]
instance_type = "ml.m5.large"
instance_count = 1
volume_size_in_gb = 30
[endpoint]
mode = "real-time"
instance_type = "ml.m5.large"
memory_size_in_mb = 2048
[network]
subnet_ids = ["subnet-1", "subnet-2"]
security_group_ids = ["sg-1"]
[limits]
max_runtime_in_seconds = 3600
"""
KNOWN = "metric, threshold, min_improvement"
SOURCES = "project, data, gate, hyperparameters, waivers"
MISTAKES = {
    (
        'name = "churn"',
        'name = "Churn"',
    ): "project.name: expected text such as tumour-classifier, got",
    ('name = "churn"', 'name = "churn\\n"'): "got 'churn\\n'",
    ('name = "churn"\n', ""): "project.name: is missing",
    ("split_seed = 7", "split_seed = 7.5"): "data.split_seed: expected `int`, got 7.5",
    ("split_seed = 7", "split_seed = true"): "data.split_seed: expected `int`, got True",
    ("test_fraction = 0.2", "test_fraction = 1"): "data.test_fraction: expected `float` < 1.0, got 1",
    ("test_fraction = 0.2", "test_fraction = 0.8"): "data: validation_fraction and test_fraction leave no rows",
    ("threshold = 0.9", "treshold = 0.9"): "gate.treshold: no such key: did you mean threshold?",
    ("threshold = 0.9", "threshold = 0.9\nzzz = 1"): f"gate.zzz: no such key: there are {KNOWN}",
    ("[waivers]", "[sources]"): f"sources: no such key: there are {SOURCES}",
    ("threshold = 0.9", "threshold = -inf"): "gate.threshold: expected a finite number, got -inf",
    ("eta = 0.1", "eta = nan"): "hyperparameters.eta: expected a finite number, got nan",
    ("eta = 0.1", "eta = [0.1]"): "hyperparameters.eta: expected `int | float | str`, got [0.1]",
    ("eta = 0.1", "eta = false"): "hyperparameters.eta: expected `int | float | str`, got False",
    ("eta = 0.1", "Eta = 0.1"): "hyperparameters.Eta: expected `str` matching regex '^[a-z][a-z0-9_]*$', got 'Eta'",
    ('source = "data"', 'source = "s3://"'): "data: 's3://' is not an S3 location",
    ("split_seed = 7", f"split_seed = {'7' * 5000}"): "mlops.toml is not valid TOML",
    ("split_seed = 7", '"a\\nb" = 7'): "data.a\\nb: no such key",
    ("[waivers]", "[waivers]\nseed = ' because '"): "waivers.seed: say why",
    ("[gate]", "[[gate]]"): "gate: expected `object`, got [{",
}
ENVIRONMENT_MISTAKES = {
    (
        '"real-time"',
        '"realtime"',
    ): "endpoint.mode: expected real-time, serverless, asynchronous or batch, got 'realtime'",
    ("mb = 2048", "mb = 2000"): "endpoint.memory_size_in_mb: expected 1024, 2048, 3072, 4096, 5120 or 6144, got 2000",
    ('"real-time"', '"real-time"\ntrafic = "canary"'): "endpoint.trafic: no such key: did you mean traffic?",
    ('"real-time"', '"real-time"\nmin_instance_count = 3'): "endpoint: max_instance_count is less than",
    ('"subnet-2"', '"sub-2"'): "network.subnet_ids.1: expected text such as subnet-0123456789abcdef0, got 'sub-2'",
    ('["sg-1"]', "[]"): "network.security_group_ids: expected `array` of length >= 1, got []",
    ('["sg-1"]', '"sg-1"'): "network.security_group_ids: expected `array`, got 'sg-1'",
    ('"real-time"', '"real-time"\nmax_cpu_percent = 101'): "endpoint.max_cpu_percent: expected `int` <= 100, got 101",
    (
        "[limits]",
        '[encryption]\nkms_key_arn = "mine"\n[limits]',
    ): "encryption.kms_key_arn: expected text such as arn:aws",
    ('"111122223333"', '"1111-2222"'): "account_id: expected text such as 123456789012, got '1111-2222'",
    ("account_id", 'name = "prod"\naccount_id'): "name: no such key",
    ("[network]", "[netwerk]"): "netwerk: no such key: did you mean network?",
    ('"111122223333"', "111122223333"): "account_id: expected `str`, got 111122223333",
}


def refusal(root: Path, text: str, name: str) -> str:
    (root / "environments").mkdir()
    (root / ("mlops.toml" if name == "sagegate" else f"environments/{name}.toml")).write_text(text)
    with pytest.raises(SagegateError) as caught:
        load_settings(root) if name == "sagegate" else load_environment(root, name)
    return str(caught.value)


@pytest.mark.parametrize(("change", "says"), MISTAKES.items(), ids=lambda value: str(value)[:40])
def test_a_mistake_in_mlops_toml(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in PROJECT
    said = refusal(tmp_path, PROJECT.replace(*change), "sagegate")
    assert said.startswith("mlops.toml") and says in said and "\n" not in said, said


@pytest.mark.parametrize(("change", "says"), ENVIRONMENT_MISTAKES.items(), ids=lambda value: str(value)[:40])
def test_a_mistake_in_an_environment(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in DEV
    said = refusal(tmp_path, DEV.replace(*change), "dev")
    assert said.startswith("environments/dev.toml: ") and says in said and "\n" not in said, said


def test_what_is_right_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "mlops.toml").write_text(PROJECT)
    key = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"  # of several regions
    (tmp_path / "environments" / "dev.toml").write_text(f'{DEV}[encryption]\nkms_key_arn = "{key}"\n')
    settings, dev = load_settings(tmp_path), load_environment(tmp_path, "dev")
    assert settings.parameter_types() == {"max_depth": "Integer", "eta": "Float", "objective": "String"}
    assert dev.network is not None and dev.network.subnet_ids == ["subnet-1", "subnet-2"]
    assert (dev.endpoint.traffic, dev.platform.create_kms_key) == ("canary", False)
    assert dev.encryption is not None and dev.encryption.kms_key_arn == key
    with pytest.raises(AttributeError):
        settings.gate.threshold = 0.0  # type: ignore[misc]


class Inner(Section, frozen=True):
    """A value of a mapping."""

    count: int


class Outer(Section, frozen=True):
    """A mapping of sections."""

    items: dict[str, Inner]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ({"a": {"count": 1}, "b": {"count": "2"}}, "file: items.b.count: expected `int`, got '2'"),
        ({"a": {"count": 1}, "b": {"cuont": 2}}, "file: items.b.cuont: no such key: did you mean count?"),
        ({"a": {"count": 1}, "b": {}}, "file: items.b.count: is missing"),
        ([], "file: items: expected `object`, got []"),
    ],
)
def test_a_mistake_inside_a_mapping_names_the_key(items: Any, says: str) -> None:
    values = json.loads(json.dumps({"items": items}))
    with pytest.raises(ValueError, match="items") as caught:
        convert(Outer, values, "file")
    assert str(caught.value) == says
    assert values == {"items": items}, "the search for the key changed what was given"


def test_a_file_that_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^file: file: expected `object`, got \[\]$"):
        convert(Outer, msgspec.json.decode("[]"), "file")
