"""A mistake in a settings file is an error that names the file and the key, and what is expected there."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sagegate.config import Section, Tracking, convert, load_environment, load_settings, parse_settings
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
confidence = 0.9
[hyperparameters]
max_depth = 4
eta = 0.1
objective = "binary:logistic"
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
MISTAKES = {
    ('name = "churn"', 'name = "Churn"'): "project.name: expected text like `tumour-classifier`",
    ('name = "churn"', 'name = "churn\\n"'): "project.name: expected text like `tumour-classifier`",
    ('name = "churn"\n', ""): "project.name: is missing",
    ("split_seed = 7", "split_seed = 7.5"): "data.split_seed: Expected `int`, got `float`",
    ("split_seed = 7", "split_seed = true"): "data.split_seed: Expected `int`, got `bool`",
    ("test_fraction = 0.2", "test_fraction = 1"): "data.test_fraction: Expected `float` < 1.0",
    ("test_fraction = 0.2", "test_fraction = 0.8"): "data: validation_fraction and test_fraction leave no rows",
    ("threshold = 0.9", "treshold = 0.9"): "gate.treshold: no such key",
    ("threshold = 0.9", "threshold = 0.9\nzzz = 1"): "gate.zzz: no such key",
    ("[gate]", "[waivers]\n[gate]"): "waivers: no such key",
    ("threshold = 0.9", "threshold = -inf"): "gate.threshold: expected a finite number, got -inf",
    ("eta = 0.1", "eta = nan"): "hyperparameters.eta: expected a finite number, got nan",
    ("eta = 0.1", "eta = [0.1]"): "hyperparameters.eta: expected a number or text, got [0.1]",
    ("eta = 0.1", "eta = false"): "hyperparameters.eta: expected a number or text, got False",
    ("eta = 0.1", '"e\\nta" = 0.1'): "hyperparameters.e\\nta: expected a name like `max_depth`",
    ("eta = 0.1", "Eta = 0.1"): "hyperparameters.Eta: expected a name like `max_depth`",
    ("eta = 0.1", "e = 0.1"): "hyperparameters.e: the container would pass it as -e, not --e: choose a longer name",
    ("eta = 0.1", "sagemaker_eta = 1"): "hyperparameters.sagemaker_eta: the container keeps this name to itself",
    ("eta = 0.1", "default_user_module_name = 1"): "the container keeps this name to itself, so train.py would not get",
    (
        "eta = 0.1",
        "model_dir = 1",
    ): "hyperparameters.model_dir: model/train.py has another argument --model-dir: choose",
    ("eta = 0.1", "help = 1"): "hyperparameters.help: model/train.py has another argument --help: choose another name",
    ('source = "data"', 'source = "s3://"'): "data: 's3://' is not an S3 location",
    ("split_seed = 7", f"split_seed = {'7' * 5000}"): "mlops.toml is not valid TOML",
    ("split_seed = 7", '"a\\nb" = 7'): "data.a\\nb: no such key",
    ("[project]", "template = 2\n[project]"): "this project has shape 2, this sagegate knows 1",
    ("[gate]", "[[gate]]"): "gate: Expected `object`, got `array`",
}
TUNING = """
[tuning]
metric = "validation-log_loss"
goal = "Minimize"
jobs = 12
parallel_jobs = 3
strategy = "Bayesian"
[tuning.ranges]
max_depth = { min = 2, max = 8 }
eta = { min = 0.01, max = 0.5, scale = "Logarithmic" }
objective = { values = ["binary:logistic", "binary:hinge"] }
"""
LIMITS, SCALE, VALUES = "{ min = 2, max = 8 }", "min = 0.01, max = 0.5", '"binary:logistic", "binary:hinge"'
TUNING_MISTAKES = {
    ("validation-log_loss", "loss(.*)"): "tuning.metric: expected text like `validation-log_loss`",
    ('"Minimize"', '"min"'): "tuning.goal: Invalid enum value 'min'",
    ("jobs = 12", "jobs = 0"): "tuning.jobs: Expected `int` >= 1",
    ("parallel_jobs = 3", "parallel_jobs = 13"): "tuning: parallel_jobs is 13: there are only 12 jobs",
    ('"Bayesian"', '"Hyperband"'): "tuning.strategy: Invalid enum value 'Hyperband'",
    ("max_depth =", "depth ="): "tuning.ranges.depth: [hyperparameters] has no such name, it has max_depth",
    ("max_depth =", '"a\\nb" ='): "tuning.ranges.a\\nb: [hyperparameters] has no such name",
    (LIMITS, "[2, 8]"): "ranges.max_depth: expected { min = 2, max = 8 } or { values = [2, 4, 8] }, got [2, 8]",
    (LIMITS, "{ min = 2 }"): "tuning.ranges.max_depth: expected { min = 2, max = 8 } or",
    (LIMITS, "{}"): "tuning.ranges.max_depth: expected { min = 2, max = 8 } or",
    (LIMITS, "{ min = 2, max = 8, values = [2] }"): "tuning.ranges.max_depth: expected { min = 2, max = 8 } or",
    (LIMITS, '{ values = [2], scale = "Linear" }'): "tuning.ranges.max_depth: expected { min = 2, max = 8 } or",
    (LIMITS, "{ min = 2, max = 8, step = 2 }"): "tuning.ranges.max_depth: step: no such key",
    (LIMITS, '{ min = 2, max = "8" }'): "tuning.ranges.max_depth: max: Expected `int | float | null`, got `str`",
    (LIMITS, "{ min = 2, max = 8.5 }"): "tuning.ranges.max_depth: expected whole numbers, as in [hyperparameters], got",
    (SCALE, f"min = 1, max = {10**400}"): "tuning.ranges.eta: expected numbers, as in [hyperparameters], got",
    (LIMITS, "{ min = 8, max = 8 }"): "tuning.ranges.max_depth: min is 8, which is not below max, 8",
    (LIMITS, '{ values = [2, "four"] }'): "tuning.ranges.max_depth: expected whole numbers, as in [hyperparameters]",
    (LIMITS, "{ values = [2, 4, 2] }"): "tuning.ranges.max_depth: a value is there twice",
    (LIMITS, "{ values = [] }"): "tuning.ranges.max_depth: expected 1 to 30 values, got 0",
    (LIMITS, f"{{ values = {list(range(31))} }}"): "tuning.ranges.max_depth: expected 1 to 30 values, got 31",
    (SCALE, "min = 0.0, max = 0.5"): "tuning.ranges.eta: min is 0.0: a Logarithmic scale needs numbers above 0",
    (SCALE, "min = 0.1, max = inf"): "tuning.ranges.eta: max: expected a finite number, got inf",
    ('"Logarithmic"', '"Log"'): "tuning.ranges.eta: scale: Invalid enum value 'Log'",
    (
        'max = 0.5, scale = "Logarithmic"',
        'max = 1.0, scale = "ReverseLogarithmic"',
    ): "tuning.ranges.eta: a ReverseLogarithmic scale needs fractions, at least 0 and below 1",
    (
        f"values = [{VALUES}]",
        "min = 1, max = 2",
    ): "tuning.ranges.objective: expected texts, as in [hyperparameters], got [1, 2]",
    (VALUES, "1, 2"): "tuning.ranges.objective: expected texts, as in [hyperparameters], got [1, 2]",
    ('"Bayesian"', '"Grid"'): "tuning.ranges.max_depth: expected { values = [...] }, because Grid tries those only",
}
GRID = {('"Bayesian"', '"Grid"'), (LIMITS, "{ values = [2, 4, 8] }"), ("eta = {", "#")}
ENVIRONMENT_MISTAKES = {
    ('"real-time"', '"realtime"'): "endpoint.mode: Invalid enum value 'realtime'",
    ("mb = 2048", "mb = 2000"): "endpoint.memory_size_in_mb: Invalid enum value 2000",
    ('"real-time"', '"real-time"\ntrafic = "canary"'): "endpoint.trafic: no such key",
    ('"real-time"', '"real-time"\nmin_instance_count = 3'): "endpoint: max_instance_count is less than",
    ('"subnet-2"', '"sub-2"'): "network.subnet_ids[1]: expected text like `subnet-0123456789abcdef0`",
    ('["sg-1"]', "[]"): "network.security_group_ids: Expected `array` of length >= 1",
    ('["sg-1"]', '"sg-1"'): "network.security_group_ids: Expected `array`, got `str`",
    ('"real-time"', '"real-time"\nmax_cpu_percent = 101'): "endpoint.max_cpu_percent: Expected `int` <= 100",
    (
        "[limits]",
        '[encryption]\nkms_key_arn = "mine"\n[limits]',
    ): "encryption.kms_key_arn: expected text like `arn:aws:kms:us-east-1:123456789012:key/...`",
    **{
        (
            "[limits]",
            f'[tracking]\nmlflow = "{uri}"\n[limits]',
        ): "tracking.mlflow: expected text like `sqlite:///mlflow.db`"
        for uri in (
            *("mlruns", "file:///mlruns", "sqlite:///", "databricks", "https://me:secret@mlflow.example.org"),
            *("arn:aws:s3:::mlflow-app/team", "arn:aws:sagemaker:us-east-1:111122223333:mlflow-app"),
        )
    },
    ('"111122223333"', '"1111-2222"'): "account_id: expected text like `123456789012`",
    ("account_id", 'name = "prod"\naccount_id'): "name: no such key",
    ("[network]", "[netwerk]"): "netwerk: no such key",
    ('"111122223333"', "111122223333"): "account_id: Expected `str`, got `int`",
}


def error_of(root: Path, text: str, name: str) -> str:
    (root / "environments").mkdir()
    (root / ("mlops.toml" if name == "sagegate" else f"environments/{name}.toml")).write_text(text)
    with pytest.raises(SagegateError) as caught:
        load_settings(root) if name == "sagegate" else load_environment(root, name)
    return str(caught.value)


@pytest.mark.parametrize(("change", "words"), MISTAKES.items(), ids=lambda value: str(value)[:40])
def test_a_mistake_in_mlops_toml(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in PROJECT
    message = error_of(tmp_path, PROJECT.replace(*change), "sagegate")
    assert message.startswith("mlops.toml") and words in message and "\n" not in message, message


@pytest.mark.parametrize(("change", "words"), TUNING_MISTAKES.items(), ids=lambda value: str(value)[:40])
def test_a_mistake_in_a_search(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in TUNING
    message = error_of(tmp_path, PROJECT + TUNING.replace(*change), "sagegate")
    assert message.startswith("mlops.toml: ") and words in message and "\n" not in message, message


def test_a_grid_says_how_many_models_it_trains(tmp_path: Path) -> None:
    text = PROJECT + TUNING
    for change in GRID:
        text = text.replace(*change)
    assert error_of(tmp_path, text, "sagegate") == (
        "mlops.toml: tuning.jobs: Grid tries all 6 combinations of the values, so write jobs = 6, not 12"
    )
    settings = parse_settings(text.replace("jobs = 12", "jobs = 6"))
    assert settings.search()["ranges"]["max_depth"] == {"values": [2, 4, 8]}


def test_a_search_takes_its_hyperparameters_from_the_parameters() -> None:
    settings = parse_settings(PROJECT + TUNING.replace("min = 0.01, max = 0.5, scale", "min = 1, max = 2, scale"))
    assert settings.parameter_types() == {}
    ranges = settings.search()["ranges"]
    assert ranges["max_depth"] == {"min": 2, "max": 8, "scale": "Auto"}
    assert ranges["eta"] == {"min": 1.0, "max": 2.0, "scale": "Logarithmic"} and type(ranges["eta"]["min"]) is float


@pytest.mark.parametrize(("change", "words"), ENVIRONMENT_MISTAKES.items(), ids=lambda value: str(value)[:40])
def test_a_mistake_in_an_environment(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in DEV
    message = error_of(tmp_path, DEV.replace(*change), "dev")
    assert message.startswith("environments/dev.toml: ") and words in message and "\n" not in message, message


def test_valid_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "mlops.toml").write_text(PROJECT)
    key = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"  # of several regions
    (tmp_path / "environments" / "dev.toml").write_text(f'{DEV}[encryption]\nkms_key_arn = "{key}"\n')
    settings, dev = load_settings(tmp_path), load_environment(tmp_path, "dev")
    assert settings.parameter_types() == {"max_depth": "Integer", "eta": "Float", "objective": "String"}
    assert dev.network is not None and dev.network.subnet_ids == ["subnet-1", "subnet-2"]
    assert (dev.endpoint.traffic, dev.platform.create_kms_key) == ("canary", False)
    assert dev.encryption is not None and dev.encryption.kms_key_arn == key and dev.tracking is None
    arn = "arn:aws:sagemaker:eu-west-1:111122223333:mlflow-"
    for uri in ("sqlite:////srv/runs.db", "http://127.0.0.1:5000", f"{arn}app/app-A1", f"{arn}tracking-server/team"):
        (tmp_path / "environments" / "dev.toml").write_text(f'{DEV}[tracking]\nmlflow = "{uri}"\n')
        assert load_environment(tmp_path, "dev").tracking == Tracking(uri)
    with pytest.raises(AttributeError):
        settings.gate.threshold = 0.0  # type: ignore[misc]


class Inner(Section, frozen=True):
    """A value of a mapping."""

    count: int


class Outer(Section, frozen=True):
    """A mapping of sections."""

    items: dict[str, Inner]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({"a": {"count": 1}, "b": {"count": "2"}}, "file: items[...].count: Expected `int`, got `str`"),
        ({"a": {"count": 1}, "b": {"cuont": 2}}, "file: items[...].cuont: no such key"),
        ({"a": {"count": 1}, "b": {}}, "file: items[...].count: is missing"),
        ([], "file: items: Expected `object`, got `array`"),
    ],
)
def test_a_mistake_inside_a_mapping_names_the_mapping(items: Any, words: str) -> None:
    with pytest.raises(ValueError, match="items") as caught:
        convert(Outer, {"items": items}, "file")
    assert str(caught.value) == words


def test_a_file_that_is_not_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^file: Expected `object`, got `array`$"):
        convert(Outer, msgspec.json.decode("[]"), "file")
