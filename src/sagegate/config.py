"""Settings: `mlops.toml` (the project) and `environments/ENV.toml` (accounts and instances), validated.

Unknown keys are errors, so a misspelt key cannot be ignored silently. Every error names the file and the key.
msgspec checks the types: every command reads settings, and msgspec imports in a quarter of pydantic's time.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from sagegate.errors import USAGE, SagegateError
from sagegate.files import split_uri


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder, from `start` upwards, that holds `mlops.toml`. Raises SagegateError without one."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "mlops.toml").is_file():
            return folder
    raise SagegateError(f"no mlops.toml in {here} or above it: run sagegate inside a generated project", USAGE)


Model = TypeVar("Model", bound=msgspec.Struct)

AccountId = Annotated[str, Meta(pattern=r"^[0-9]{12}\Z", examples=["123456789012"])]
Region = Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]\Z", examples=["us-east-1"])]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Version = Annotated[int, Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An immutable table of a settings file."""


def convert(model: type[Model], values: dict[str, Any], file: str) -> Model:
    """Return `values` as a `model`. Raises ValueError with the file, the key and what is expected there."""
    for path, value in _leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{file}: {'.'.join(path)}: expected a finite number, got {value}")
    try:
        return msgspec.convert(values, model)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `")
        where = re.sub(r"^(key` in `)?\$?\.?", "", at).rstrip("`")
        field = re.fullmatch(r"Object (missing required|contains unknown) field `(.+)`", message, re.DOTALL)
        if field:
            where = f"{where}.{field[2]}".lstrip(".")
            message = "is missing" if field[1] == "missing required" else "no such key"
        leaves = dict(_leaves(msgspec.json.schema(model)))
        for path, pattern in leaves.items():
            example = leaves.get((*path[:-1], "examples", "0"))
            if path[-1] == "pattern" and example and repr(pattern) in message:
                message = f"expected text like `{example}`"
        explained = ": ".join(part for part in (file, where, message) if part)
        raise ValueError(explained.replace("\n", "\\n")) from None  # an unknown key may hold a line end


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, values


ENVIRONMENTS = ("local", "dev", "staging", "prod")
PLACEHOLDER_ACCOUNT = "000000000000"
SHAPE = 1  # the shape of project that this package works with
TYPES = {int: "Integer", float: "Float", str: "String"}
# Names that the container keeps to itself (`_params.py` of sagemaker_containers), as all that begin with `sagemaker_`.
KEPT_BY_CONTAINER = ("default_user_module_name", "_tuning_objective_metric")
NOT_HYPERPARAMETERS = ("train", "validation", "model_dir", "help")  # other arguments of model/train.py

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*\Z", examples=["tumour-classifier"], max_length=32)]
InstanceType = Annotated[str, Meta(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+\Z", examples=["ml.m5.large"])]
Fraction = Annotated[float, Meta(gt=0.0, lt=1.0)]


class ProjectSection(Section, frozen=True):
    """The project: `name` is a prefix of every AWS resource, `repository` is GitHub's `owner/name`."""

    name: Name
    repository: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+\Z", examples=["my-org/tumour-classifier"])]


class DataSection(Section, frozen=True):
    """The source of the rows and their split; fractions are of all rows."""

    source: Annotated[str, Meta(min_length=1)]
    validation_fraction: Fraction
    test_fraction: Fraction
    split_seed: int

    def __post_init__(self) -> None:
        if self.source.startswith("s3://"):
            split_uri(self.source)
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise ValueError("validation_fraction and test_fraction leave no rows to train on")


class GateSection(Section, frozen=True):
    """The gate: `metric` must meet `threshold` and improve on the champion by at least `min_improvement`.

    `confidence` is that of the improvement's lower bound.
    """

    metric: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z", examples=["auc"])]
    threshold: float
    min_improvement: float
    confidence: Annotated[float, Meta(ge=0.5, lt=1.0)]


class Range(Section, frozen=True):
    """The values that a search tries for a hyperparameter: all from `min` to `max`, or those of the list `values`."""

    min: int | float | None = None
    max: int | float | None = None
    scale: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"
    values: list[int | float | str] | None = None


class TuningSection(Section, frozen=True):
    """A search for the best hyperparameters: each run trains `jobs` models in place of one, and the best one goes on.

    `metric` is one that model/train.py prints. Grid tries all combinations of `values`; the other strategies draw.
    A range is `{ min = 2, max = 8 }`, with `scale` one of Auto, Linear, Logarithmic and ReverseLogarithmic, or
    `{ values = [2, 4, 8] }`.
    """

    metric: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_:-]{0,254}\Z", examples=["validation-log_loss"])]
    goal: Literal["Minimize", "Maximize"]
    jobs: Annotated[int, Meta(ge=1)]
    parallel_jobs: Annotated[int, Meta(ge=1)]
    strategy: Literal["Bayesian", "Random", "Grid"]
    ranges: Annotated[dict[str, Range], Meta(min_length=1, max_length=30)]  # ParameterRanges in the API reference

    def __post_init__(self) -> None:
        if self.parallel_jobs > self.jobs:
            raise ValueError(f"parallel_jobs is {self.parallel_jobs}: there are only {self.jobs} jobs")


class ImageSection(Section, frozen=True):
    """The project's own container image in place of SageMaker's: its digest in the ECR repository of dev's account.

    `source` is the digest of the files in `image/` that it was built from. `sagegate image` writes both.
    """

    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z", examples=["sha256:" + "0" * 64])]
    source: Sha256


class Settings(Section, frozen=True):
    """`mlops.toml`. `template` is the version of the project's shape."""

    project: ProjectSection
    data: DataSection
    gate: GateSection
    hyperparameters: dict[str, int | float | str]
    tuning: TuningSection | None = None
    image: ImageSection | None = None
    template: int = SHAPE

    def parameter_types(self) -> dict[str, str]:
        """Return the type of each pipeline parameter, Integer, Float or String: hyperparameters without a range."""
        searched = self.tuning.ranges if self.tuning else {}
        return {key: TYPES[type(value)] for key, value in self.hyperparameters.items() if key not in searched}

    def search(self) -> dict[str, Any]:
        """Return [tuning] for pipeline.py: limits of a Float are floats, and each range has `values` or the rest."""
        assert self.tuning
        ranges: dict[str, Any] = {}
        for name, given in self.tuning.ranges.items():
            kind: Any = type(self.hyperparameters[name])
            ranges[name] = (
                {"min": kind(given.min), "max": kind(given.max), "scale": given.scale}
                if given.values is None
                else {"values": [kind(value) for value in given.values]}
            )
        return {**msgspec.to_builtins(self.tuning), "ranges": ranges}


class Resources(Section, frozen=True):
    """The instances of one kind of job."""

    instance_type: InstanceType
    instance_count: Annotated[int, Meta(ge=1, le=100)]
    volume_size_in_gb: Annotated[int, Meta(ge=1, le=16384)]


class Training(Resources, frozen=True):
    """The instances of training jobs; with `spot`, cheaper spot instances, which AWS may interrupt."""

    spot: bool = False
    max_wait_in_seconds: Annotated[int, Meta(ge=60, le=2_419_200)] | None = None


class Endpoint(Section, frozen=True):
    """The endpoint's shape, how a new model takes over, and the alarms that roll it back.

    Capacities are instances, `invocations_per_instance` is per minute, latency is the 99th percentile, `max_5xx_errors`
    a count per minute. Memory and concurrency are for `serverless` only.
    """

    mode: Literal["real-time", "serverless", "asynchronous", "batch"]
    instance_type: InstanceType
    min_instance_count: Annotated[int, Meta(ge=1, le=100)] = 1
    max_instance_count: Annotated[int, Meta(ge=1, le=100)] = 2
    invocations_per_instance: Annotated[int, Meta(ge=1)] = 1000
    traffic: Literal["canary", "linear", "all-at-once"] = "canary"
    traffic_percent: Annotated[int, Meta(ge=10, le=50)] = 10
    wait_in_seconds: Annotated[int, Meta(ge=0, le=2700)] = 300  # ten steps in eight hours
    capture_percent: Annotated[int, Meta(ge=0, le=100)] = 100
    max_5xx_errors: Annotated[int, Meta(ge=1)] = 5
    max_latency_in_milliseconds: Annotated[int, Meta(ge=1)] = 1000
    max_cpu_percent: Annotated[int, Meta(ge=1, le=100)] = 90
    memory_size_in_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 2048
    max_concurrency: Annotated[int, Meta(ge=1, le=200)] = 5

    def __post_init__(self) -> None:
        if self.max_instance_count < self.min_instance_count:
            raise ValueError("max_instance_count is less than min_instance_count")


class Network(Section, frozen=True):
    """The VPC that jobs and endpoints run in."""

    subnet_ids: Annotated[
        list[Annotated[str, Meta(pattern=r"^subnet-[0-9a-z]+\Z", examples=["subnet-0123456789abcdef0"])]],
        Meta(min_length=1),
    ]
    security_group_ids: Annotated[
        list[Annotated[str, Meta(pattern=r"^sg-[0-9a-z]+\Z", examples=["sg-0123456789abcdef0"])]],
        Meta(min_length=1, max_length=5),
    ]


class Encryption(Section, frozen=True):
    """The KMS key of volumes and outputs; without it AWS uses its own keys."""

    kms_key_arn: Annotated[
        str,
        Meta(
            pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/(mrk-)?[0-9a-f-]+\Z",
            examples=["arn:aws:kms:us-east-1:123456789012:key/..."],
        ),
    ]


class Platform(Section, frozen=True):
    """Options of the account's platform, which `sagegate bootstrap` applies."""

    notification_email: Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\Z", examples=["team@example.org"])] | None = None
    permissions_boundary_arn: (
        Annotated[
            str,
            Meta(
                pattern=r"^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/\S+\Z",
                examples=["arn:aws:iam::123456789012:policy/..."],
            ),
        ]
        | None
    ) = None
    create_kms_key: bool = False
    image_repository: bool = False
    schedule: Annotated[str, Meta(pattern=r"^(cron|rate)\(.+\)\Z", examples=["cron(0 4 ? * MON *)"])] | None = None
    data_arrival: bool = False


class Tracking(Section, frozen=True):
    """MLflow, in which each execution becomes a run; without this table there is none.

    `mlflow` is an SQLite file below the project's folder or elsewhere, a server's URL, or the ARN of a SageMaker
    MLflow tracking server or app. A URL has no password: MLflow takes it from MLFLOW_TRACKING_PASSWORD.
    """

    # The ARN's form is that of MlflowConfig's MlflowResourceArn in SageMaker's API.
    mlflow: Annotated[
        str,
        Meta(
            pattern=r"^(sqlite:///[^?#\n]+|https?://[^@\s]+|"
            r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:mlflow-(app|tracking-server)/[^/\s]+)\Z",
            examples=["sqlite:///mlflow.db", "https://...", "arn:aws:sagemaker:..."],
        ),
    ]


class Limits(Section, frozen=True):
    """Limits of a job."""

    max_runtime_in_seconds: Annotated[int, Meta(ge=60, le=2_419_200)]


class Environment(Section, frozen=True):
    """`environments/NAME.toml`: one AWS account and region, and what runs in it."""

    name: str
    account_id: AccountId
    region: Region
    processing: Resources
    training: Training
    endpoint: Endpoint
    limits: Limits
    data_source: Annotated[str, Meta(min_length=1)] | None = None  # in place of `[data] source`
    network: Network | None = None
    encryption: Encryption | None = None
    platform: Platform = Platform()
    tracking: Tracking | None = None

    @property
    def is_local(self) -> bool:
        """True if jobs run locally."""
        return self.name == "local"


def load_settings(root: Path) -> Settings:
    """Return `mlops.toml` of the project in `root`. Raises SagegateError if it is invalid or has another `template`."""
    return _settings(_read(root, "mlops.toml"))


def parse_settings(text: str) -> Settings:
    """Return the settings in the text of a `mlops.toml`, as `load_settings` does."""
    return _settings(_parse(text, "mlops.toml"))


def _settings(values: dict[str, Any]) -> Settings:
    shape = values.get("template", SHAPE)
    if shape != SHAPE:  # before validation, because the keys of another shape may differ
        raise SagegateError(
            f"mlops.toml: this project has shape {shape!r}, this sagegate knows {SHAPE}: install the sagegate that "
            "pyproject.toml names, or update the project with cruft",
            USAGE,
        )
    hyperparameters = values.get("hyperparameters")
    for name, value in hyperparameters.items() if isinstance(hyperparameters, dict) else ():
        problem = _name_problem(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            problem = f"expected a number or text, got {value!r}"
        if problem:  # msgspec would not name the key
            shown = name.replace("\n", "\\n")
            raise SagegateError(f"mlops.toml: hyperparameters.{shown}: {problem}", USAGE)
    tuning = values.get("tuning")
    ranges = tuning.get("ranges") if isinstance(tuning, dict) else None
    for name, given in ranges.items() if isinstance(ranges, dict) else ():
        where = f"mlops.toml: tuning.ranges.{name}"
        if not isinstance(given, dict):
            raise SagegateError(f"{where}: expected {RANGE_FORMS}, got {given!r}".replace("\n", "\\n"), USAGE)
        _validate(Range, where, given)
    settings = _validate(Settings, "mlops.toml", values)
    if settings.tuning:
        _check_tuning(settings.tuning, settings.hyperparameters)
    return settings


def _name_problem(name: str) -> str:
    """Return why the container cannot pass a hyperparameter on to train.py as `--name value`, or an empty text.

    Source: `_params.py`, `_mapping.py` and `_env.py` of sagemaker_containers, which the XGBoost image has.
    """
    if not re.match(r"^[a-z][a-z0-9_]*\Z", name):
        return "expected a name like `max_depth`"
    if len(name) == 1:
        return f"the container would pass it as -{name}, not --{name}: choose a longer name"
    if name.startswith("sagemaker_") or name in KEPT_BY_CONTAINER:
        return "the container keeps this name to itself, so train.py would not get it: choose another name"
    if name in NOT_HYPERPARAMETERS:
        return f"model/train.py has another argument --{name.replace('_', '-')}: choose another name"
    return ""


RANGE_FORMS = "{ min = 2, max = 8 } or { values = [2, 4, 8] }"


def _check_tuning(tuning: TuningSection, hyperparameters: dict[str, int | float | str]) -> None:
    """Raise SagegateError for a search that SageMaker would refuse, or that the hyperparameters' types do not allow."""
    for name, given in tuning.ranges.items():
        if name not in hyperparameters:
            near = get_close_matches(name, hyperparameters, n=1) or sorted(hyperparameters)
            problem = f"[hyperparameters] has no such name, it has {', '.join(near)}"
        else:
            problem = _range_problem(given, type(hyperparameters[name]), tuning.strategy)
        if problem:
            shown = name.replace("\n", "\\n")
            raise SagegateError(f"mlops.toml: tuning.ranges.{shown}: {problem}", USAGE)
    if tuning.strategy == "Grid":
        count = math.prod(len(given.values or ()) for given in tuning.ranges.values())
        if tuning.jobs != count:  # "How Hyperparameter Tuning Works" in the SageMaker developer guide
            what = f"Grid tries all {count} combinations of the values, so write jobs = {count}, not {tuning.jobs}"
            raise SagegateError(f"mlops.toml: tuning.jobs: {what}", USAGE)


def _range_problem(given: Range, kind: type, strategy: str) -> str:
    """Return what is wrong with a range for a hyperparameter of a type, or an empty text."""
    low, high, values = given.min, given.max, given.values
    if None in (low, high) if values is None else (low, high, given.scale) != (None, None, "Auto"):
        return f"expected {RANGE_FORMS}"
    tried: list[Any] = [low, high] if values is None else values
    what = {int: "whole numbers", float: "numbers", str: "texts"}[kind]
    allowed: Any = (int, float) if kind is float else kind
    if not all(isinstance(value, allowed) and (kind is str or abs(value) < 1e300) for value in tried):
        return f"expected {what}, as in [hyperparameters], got {tried}"
    if values is not None and not 1 <= len(values) <= 30:  # ParameterValues in the API reference
        return f"expected 1 to 30 values, got {len(values)}"
    if values is not None:
        return "a value is there twice" if len(set(values)) < len(values) else ""
    if strategy == "Grid":
        return "expected { values = [...] }, because Grid tries those only"
    if tried[0] >= tried[1]:
        return f"min is {low}, which is not below max, {high}"
    if given.scale == "Logarithmic" and tried[0] <= 0:
        return f"min is {low}: a Logarithmic scale needs numbers above 0"
    if given.scale == "ReverseLogarithmic" and (kind is int or tried[0] < 0 or tried[1] >= 1):
        return "a ReverseLogarithmic scale needs fractions, at least 0 and below 1"
    return ""


def load_environment(root: Path, name: str) -> Environment:
    """Return `environments/NAME.toml` of the project in `root`. Raises SagegateError if it is invalid."""
    if name not in ENVIRONMENTS:
        raise SagegateError(f"no environment {name!r}: there are {', '.join(ENVIRONMENTS)}", USAGE)
    file = f"environments/{name}.toml"
    values = _read(root, file)
    if "name" in values:
        raise SagegateError(f"{file}: name: no such key: the name of the file is the environment's name", USAGE)
    environment = _validate(Environment, file, {"name": name} | values)
    wait, longest = environment.training.max_wait_in_seconds, environment.limits.max_runtime_in_seconds
    if environment.training.spot and (wait is None or wait < longest):
        least = f"at least limits.max_runtime_in_seconds ({longest})"
        raise SagegateError(f"{file}: training.max_wait_in_seconds: spot training needs it, {least}", USAGE)
    of_dev = ("schedule", "data_arrival", "image_repository")
    key = next((key for key in of_dev if getattr(environment.platform, key)), None)
    if key and name != "dev":
        raise SagegateError(f"{file}: platform.{key}: pipelines run in dev, so only dev.toml can have it", USAGE)
    return environment


def _read(root: Path, file: str) -> dict[str, Any]:
    try:
        text = (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SagegateError(f"{file} is missing: restore it from git", USAGE) from None
    except UnicodeDecodeError as error:
        raise SagegateError(f"{file}: byte {error.start} is not UTF-8: save the file as UTF-8", USAGE) from None
    return _parse(text, file)


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # of TOML, or a number with thousands of digits
        raise SagegateError(f"{file} is not valid TOML: {error}", USAGE) from None


def _validate(model: type[Model], file: str, values: dict[str, Any]) -> Model:
    try:
        return convert(model, values, file)
    except ValueError as error:
        raise SagegateError(str(error), USAGE) from None
