"""The code of the project's jobs, called here so that a guess, a check and a job cannot differ."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagegate.config import Environment, Settings
from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import data_source, find_files

WHOLE = 20_000_000  # bytes of data that `sagegate check` reads; of more, only the headers
LIBRARIES = ("numpy", "pandas", "pyarrow")
MODULES = ("data", "raw_files", "metrics", "preprocess")


class Code:
    """The modules `data`, `raw_files`, `metrics` and `preprocess` of `model/`. Raises SagegateError without them."""

    def __init__(self, root: Path) -> None:
        missing = [name for name in MODULES if not (root / "model" / f"{name}.py").is_file()]
        if missing:
            raise SagegateError(f"model/{missing[0]}.py is missing: restore it from git, or update the project", USAGE)
        if str(root / "model") not in sys.path:
            sys.path.insert(0, str(root / "model"))
        try:
            self.data, self.raw_files, self.metrics, self.preprocess = map(import_module, MODULES)
        except ImportError as error:
            raise SagegateError(f"model/: {error}: run sagegate in the project's environment (uv run)", USAGE) from None
        except Exception as error:  # whatever the project's code raises while it is imported
            raise SagegateError(f"model/ cannot be imported: {type(error).__name__}: {error}") from error

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the project's code into errors for the user."""
        try:
            yield
        except self.data.DataError as error:
            raise SagegateError(str(error), USAGE) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise SagegateError(f"the code in model/ fails on the data: {type(error).__name__}: {error}") from error

    def parts(self, schema: Any, place: Path, settings: Settings) -> dict[str, Any]:
        """Return the splits that the job Preprocess makes of the data at `place`."""
        with self.errors():
            table = self.preprocess.clean(self.raw_files.read_folder(place, schema), schema)
            how = settings.data
            parts = self.preprocess.split(table, schema, how.validation_fraction, how.test_fraction, how.split_seed)
            self.preprocess.check(parts, schema)
        return dict(parts)

    def without_learning(self, schema: Any, parts: dict[str, Any], metric: str) -> float:
        """Return the metric of a model that learned nothing, on the test rows. Raises SagegateError for no metric."""
        import numpy as np

        table = self.metrics.METRICS[schema.problem_type]
        if metric not in table:
            raise SagegateError(
                f"mlops.toml: gate.metric: {metric!r} is not a metric of {schema.problem_type}: {', '.join(table)}",
                USAGE,
            )
        with self.errors():
            y = self.data.encode_target(parts["test"][schema.target], schema)
            shape = (len(y), len(schema.classes)) if schema.problem_type.startswith("multi") else len(y)
            same = self.metrics.learned_nothing(y, np.zeros(shape))
            return float(table[metric](y, same, np.ones(len(y))))


def check_data(root: Path, settings: Settings, environment: Environment) -> str:
    """Hold schema.toml, the data's header and the gate's metric and threshold to each other; return what was checked.

    Raises SagegateError for the first that does not fit.
    """
    missing = [f"model/{name}.py" for name in MODULES if not (root / "model" / f"{name}.py").is_file()]
    missing += [name for name in LIBRARIES if find_spec(name) is None]
    if missing:  # another project's model/, or sagegate alone
        return f"the data was not checked: there is no {missing[0]}"
    code = Code(root)
    with code.errors():
        schema = code.data.load_schema(root / "model" / "schema.toml")
    table, gate = code.metrics.METRICS[schema.problem_type], settings.gate
    if gate.metric not in table:
        code.without_learning(schema, {}, gate.metric)
    source, setting = data_source(settings, environment)
    if source.startswith("s3://") or not (root / source).exists():
        return f"{len(schema.columns)} columns (the data was not checked: it is not on this machine)"
    files = find_files(root, source, setting)
    if sum(file.stat().st_size for file in files.values()) > WHOLE:
        with code.errors():
            for name, file in files.items():
                header = code.raw_files.read_header(name, _head(code, name, file, schema.files), schema.files)
                code.raw_files.check_header(name, header, schema)
        return f"{len(schema.columns)} columns (only the headers of the data were checked: it is large)"
    parts = code.parts(schema, root / source, settings)
    value = code.without_learning(schema, parts, gate.metric)
    if value <= gate.threshold if gate.metric in code.metrics.LOWER_IS_BETTER else value >= gate.threshold:
        what = f"a model that learned nothing has {gate.metric} {value:.6g}, which meets it"
        raise SagegateError(f"mlops.toml: gate.threshold: {gate.threshold:g}: {what}: choose a stricter one", USAGE)
    return f"{len(schema.columns)} columns, {sum(map(len, parts.values()))} rows"


def _head(code: Code, name: str, file: Path, files: Any) -> bytes:
    """Return the beginning of a text file in UTF-8, or all of a Parquet file."""
    if code.raw_files.is_parquet(name):
        return file.read_bytes()
    with gzip.open(file) if name.lower().endswith(".gz") else file.open("rb") as stream:
        return stream.read(1 << 20).decode(files.encoding, errors="ignore").encode()
