"""Where the project is. Apart from the settings, so that finding it imports nothing.
The one container image of every step and of serving: SageMaker's XGBoost image.

It holds Python 3.12, xgboost 3.2.0, scikit-learn 1.8.0, pandas 2.2.3, numpy 2.1.0 and pyarrow 22.0.0: the versions that
pyproject.toml pins, so nothing differs between this machine, training and serving. Accounts per region: "Docker
registry paths and example code" in the SageMaker developer guide.
What was read from a file, held to a type: no unknown keys, no strings for numbers, no NaN; errors name the key.

By msgspec: these checks are on the way of every verb, and it starts in a quarter of pydantic's time. Its messages leave
out a mapping's key, the value and a Literal's choices, so they are completed here.
Settings: `mlops.toml` (the project) and `environments/NAME.toml` (accounts and instances), validated.

Unknown keys are refused, so a misspelt key cannot be silently ignored. Every error names file, key and remedy.
"""

from __future__ import annotations

import copy
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, field

from sagegate.errors import USAGE, SagegateError
from sagegate.files import split_uri


def find_root(start: Path | None = None) -> Path:
    """The project's folder: the nearest one upwards that holds `mlops.toml`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "mlops.toml").is_file():
            return folder
    raise SagegateError(f"no mlops.toml in {here} or above it: run sagegate inside a generated project", USAGE)


IMAGE = "sagemaker-xgboost:3.2-0"
ACCOUNTS = {
    "af-south-1": "510948584623",
    "ap-east-1": "651117190479",
    "ap-northeast-1": "354813040037",
    "ap-northeast-2": "366743142698",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "720646828776",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "121021644041",
    "ap-southeast-2": "783357654285",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "341280168497",
    "ca-west-1": "190319476487",
    "cn-north-1": "450853457545",
    "cn-northwest-1": "451049120500",
    "eu-central-1": "492215442770",
    "eu-central-2": "680994064768",
    "eu-north-1": "662702820516",
    "eu-south-1": "978288397137",
    "eu-south-2": "104374241257",
    "eu-west-1": "141502667606",
    "eu-west-2": "764974769150",
    "eu-west-3": "659782779980",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "801668240914",
    "sa-east-1": "737474898029",
    "us-east-1": "683313688378",
    "us-east-2": "257758044811",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "414596584902",
    "us-west-1": "746614075791",
    "us-west-2": "246618743249",
}


def image_uri(region: str) -> str:
    """The image's URI in a region; raises SagegateError where AWS does not offer it."""
    if region not in ACCOUNTS:
        raise SagegateError(f"region {region}: AWS offers {IMAGE} in {', '.join(ACCOUNTS)}", USAGE)
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{suffix}/{IMAGE}"


Model = TypeVar("Model", bound="Section")

AccountId = Annotated[str, Meta(pattern=r"^[0-9]{12}\Z", examples=["123456789012"])]
Region = Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]\Z", examples=["us-east-1"])]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Version = Annotated[int, Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a file; it does not change after loading."""


def convert(model: type[Model], values: dict[str, Any], file: str) -> Model:
    """`values` as a `model`; raises ValueError with the file, the key, what is expected there and what was found."""
    for path, value in _leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{file}: {'.'.join(path)}: expected a finite number, got {value}")
    try:
        return msgspec.convert(values, model)
    except msgspec.ValidationError as error:
        explained = _explained(str(error), model, values).replace("\n", "\\n")  # of a key, which may hold anything
        raise ValueError(f"{file}: {explained}") from None


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, values


def _explained(said: str, model: type[Section], values: dict[str, Any]) -> str:
    """Such as ``endpoint.traffic: expected canary, linear or all-at-once, got 'slow'``."""
    what, _, place = said.partition(" - at `")
    parts = re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place) + ([("", "...")] if place.startswith("key`") else [])
    path: list[str] = []
    for name, index in parts:
        path.append(name or (_culprit(said, model, values, path) if index == "..." else index))
    field = re.fullmatch(r"Object (missing required|contains unknown) field `(.+)`", what, re.DOTALL)
    expected = _type_at(model, path)
    if field and field[1] == "missing required":
        path, what = [*path, field[2]], "is missing"
    elif field:
        path, what = [*path, field[2]], "no such key" + _similar(field[2], expected)
    elif get_origin(expected) is Literal:
        *others, last = map(str, get_args(expected))
        what = f"expected {', '.join(others)} or {last}, got {_at(values, path)!r}"
    elif what.startswith("Expected"):
        is_key = place.startswith("key`")
        wanted = what[8:].partition(", got ")[0].replace("\\\\Z", "$")
        example = None if is_key or "matching regex" not in wanted else _example(_hint_at(model, path))
        wanted = f" text such as {example}" if example else wanted
        what = f"expected{wanted}, got {path[-1] if is_key else _at(values, path)!r}"
    return f"{'.'.join(path) or 'file'}: {what}"


def _culprit(said: str, model: type[Section], values: dict[str, Any], path: list[str]) -> str:
    """The key of the mapping at `path` that the message is about: the one that gives it alone."""
    for key in _at(values, path):
        alone = copy.deepcopy(values)
        mapping = _at(alone, path)
        for other in set(mapping) - {key}:
            del mapping[other]
        try:
            msgspec.convert(alone, model)
        except msgspec.ValidationError as error:
            if str(error) == said:
                return str(key)
    return "..."


def _at(values: Any, path: list[str]) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _type_at(model: Any, path: list[str]) -> Any:
    """The type of the value at `path`: without what is annotated, and the None of what may be left out."""
    return _plain(_hint_at(model, path))


def _hint_at(model: Any, path: list[str]) -> Any:
    for part in path:
        model = _plain(model)
        if isinstance(model, type) and issubclass(model, Section):
            model = get_type_hints(model, include_extras=True)[part]
        else:  # a mapping's or a list's values
            model = get_args(model)[-1]
    return model


def _plain(hint: Any) -> Any:
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = get_args(hint)[0]
    return hint


def _example(hint: Any) -> str | None:
    """A right value, where the type gives one: a pattern says little to most readers."""
    while get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]
    found = [meta.examples[0] for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.examples]
    return str(found[0]) if found else None


def _similar(name: str, section: type[Section]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, section.__struct_fields__, 1)
    return f": did you mean {found[0]}?" if found else f": there are {', '.join(section.__struct_fields__)}"


ENVIRONMENTS = ("local", "dev", "staging", "prod")
PLACEHOLDER_ACCOUNT = "000000000000"

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*\Z", examples=["tumour-classifier"], max_length=32)]
InstanceType = Annotated[str, Meta(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+\Z", examples=["ml.m5.large"])]
Fraction = Annotated[float, Meta(gt=0.0, lt=1.0)]


class ProjectSection(Section, frozen=True):
    """Who this is: the name is a prefix of every AWS resource, the repository is GitHub's `owner/name`."""

    name: Name
    repository: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+\Z", examples=["my-org/tumour-classifier"])]


class DataSection(Section, frozen=True):
    """Where the rows come from and how they are split; fractions are of all rows."""

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
    """The gate: `metric` must meet `threshold` and improve on the champion by at least `min_improvement`."""

    metric: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z", examples=["auc"])]
    threshold: float
    min_improvement: float


class Settings(Section, frozen=True):
    """`mlops.toml`. `waivers` are rules of `sagegate check` that this project breaks on purpose, each with its reason."""

    project: ProjectSection
    data: DataSection
    gate: GateSection
    hyperparameters: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z")], int | float | str]
    waivers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule, reason in self.waivers.items():
            if len(reason.strip()) < 10:
                raise ValueError(f"waivers.{rule}: say why this rule may be broken, in ten characters or more")

    def parameter_types(self) -> dict[str, str]:
        """Each hyperparameter's pipeline parameter type: Integer, Float or String."""
        names = {int: "Integer", float: "Float", str: "String"}
        return {key: names[type(value)] for key, value in self.hyperparameters.items()}


class Resources(Section, frozen=True):
    """The instances of a kind of job."""

    instance_type: InstanceType
    instance_count: Annotated[int, Meta(ge=1, le=100)]
    volume_size_in_gb: Annotated[int, Meta(ge=1, le=16384)]


class Training(Resources, frozen=True):
    """The instances of training jobs; with `spot`, cheaper ones that AWS may take back."""

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
    """The KMS key of volumes and outputs; without it they are encrypted with AWS's own."""

    kms_key_arn: Annotated[
        str,
        Meta(
            pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/(mrk-)?[0-9a-f-]+\Z",
            examples=["arn:aws:kms:us-east-1:123456789012:key/..."],
        ),
    ]


class Platform(Section, frozen=True):
    """What the account's platform has beyond the defaults; `sagegate bootstrap` reads it, so the next run keeps it."""

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
    schedule: Annotated[str, Meta(pattern=r"^(cron|rate)\(.+\)\Z", examples=["cron(0 4 ? * MON *)"])] | None = None
    data_arrival: bool = False


class Limits(Section, frozen=True):
    """Bounds on a job."""

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
    network: Network | None = None
    encryption: Encryption | None = None
    platform: Platform = Platform()

    @property
    def is_local(self) -> bool:
        """Whether jobs run on this machine."""
        return self.name == "local"


def load_settings(root: Path) -> Settings:
    """`mlops.toml` of the project in `root`."""
    return _validate(Settings, "mlops.toml", _read(root, "mlops.toml"))


def load_environment(root: Path, name: str) -> Environment:
    """`environments/NAME.toml` of the project in `root`."""
    if name not in ENVIRONMENTS:
        raise SagegateError(f"no environment {name!r}: there are {', '.join(ENVIRONMENTS)}", USAGE)
    file = f"environments/{name}.toml"
    values = _read(root, file)
    if "name" in values:
        raise SagegateError(f"{file}: name: no such key: the name of the file says which environment it is", USAGE)
    environment = _validate(Environment, file, {"name": name} | values)
    wait, longest = environment.training.max_wait_in_seconds, environment.limits.max_runtime_in_seconds
    if environment.training.spot and (wait is None or wait < longest):
        least = f"at least limits.max_runtime_in_seconds ({longest})"
        raise SagegateError(f"{file}: training.max_wait_in_seconds: spot training needs it, {least}", USAGE)
    if name != "dev" and (environment.platform.schedule or environment.platform.data_arrival):
        key = "schedule" if environment.platform.schedule else "data_arrival"
        raise SagegateError(f"{file}: platform.{key}: pipelines run in dev, so only dev.toml can have it", USAGE)
    return environment


def _read(root: Path, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads((root / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SagegateError(f"{file} is missing: restore it from git", USAGE) from None
    except UnicodeDecodeError as error:
        raise SagegateError(f"{file}: byte {error.start} is not UTF-8: save the file as UTF-8", USAGE) from None
    except ValueError as error:  # of TOML, or a number with thousands of digits
        raise SagegateError(f"{file} is not valid TOML: {error}", USAGE) from None


def _validate(model: type[Model], file: str, values: dict[str, Any]) -> Model:
    try:
        return convert(model, values, file)
    except ValueError as error:
        raise SagegateError(str(error), USAGE) from None
