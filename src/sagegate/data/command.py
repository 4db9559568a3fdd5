"""`sagegate data`: look at a file, write model/schema.toml and the settings that follow, and say what was done."""

from __future__ import annotations

import difflib
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sagegate import output
from sagegate.config import load_environment, load_settings, parse_settings
from sagegate.data.guess import Column, Guess, Guesser, Target, guess_decimal, guess_form
from sagegate.data.project import Code
from sagegate.data.write import edit, schema_text
from sagegate.errors import USAGE, SagegateError
from sagegate.files import split_uri, write_atomically
from sagegate.pipeline.parameters import ENDINGS, data_source, find_files, shown

COPY = ".mlops/raw"  # of data in S3, for local runs
RARE = 0.1  # a share of rows below which accuracy and auc say little about a class
BETTER = 0.1  # the proposed threshold is so much of the way from a model without learning to a perfect one
ALLOWED = 0.4  # of that way, which a candidate may be worse than the champion


def data(root: Path, path: str, target: str, problem_type: str | None) -> None:
    """Describe the data at `path`, a file, a folder or an s3:// prefix, for the project in `root`.

    Raises SagegateError, with nothing written, for data that no model can be trained on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = _download(path, Path(scratch) / "raw") if path.startswith("s3://") else Path(path).expanduser()
        if not place.exists():
            raise SagegateError(f"{shown(path)}: there is no such file or folder", USAGE)
        _describe(root, path, place.absolute(), target, problem_type)


def _describe(root: Path, path: str, place: Path, target: str, problem_type: str | None) -> None:
    code = Code(root)
    files = find_files(root, str(place), shown(path))
    columns, form, rows = read(code, files)
    names = [column.name for column in columns]
    if target not in names:
        near = difflib.get_close_matches(target, names, n=3, cutoff=0.4) or names[:20]
        raise SagegateError(f"there is no column {shown(target)!r}: there are {', '.join(map(shown, near))}", USAGE)
    guesser, (wanted,) = Guesser(code, form, rows), [column for column in columns if column.name == target]
    problem = guesser.target(wanted, problem_type)
    others = [column for column in columns if column.name != target]
    guesses = guesser.features(others, problem, wanted)
    schema = schema_text(guesses, target, problem, form)
    with tempfile.TemporaryDirectory() as folder, code.errors():
        (Path(folder) / "schema.toml").write_text(schema, encoding="utf-8")
        loaded = code.data.load_schema(Path(folder) / "schema.toml")
    settings = load_settings(root)
    parts = code.parts(loaded, place, settings)  # as the job will do, so a wrong cell is an error now
    gate = propose(code, loaded, parts, problem)
    changes = _changes(root, path, place, gate)
    texts = {"model/schema.toml": schema, **changes}
    parse_settings(texts["mlops.toml"])
    if path.startswith("s3://"):
        shutil.rmtree(root / COPY, ignore_errors=True)
        shutil.copytree(place, root / COPY)
    for file, text in texts.items():
        write_atomically(root / file, text.encode())
    _report(guesses, target, problem, rows, form, gate, list(files))
    source, setting = data_source(parse_settings(texts["mlops.toml"]), load_environment(root, "local"))
    output.line(f"wrote {setting}: {shown(source)}" + (f", a copy of {shown(path)}" if source == COPY else ""))
    if source == str(place.absolute()):
        output.line(
            '  only for this machine: for AWS, copy it to S3 and write source = "s3://..." in mlops.toml, [data]'
        )
    output.verdict(True, "the data is described; each line of model/schema.toml is a guess to correct", "sagegate run")


def _download(uri: str, folder: Path) -> Path:
    """Copy the objects of an S3 prefix, or one object, into a folder."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        bucket, prefix = split_uri(uri)
        s3, folder_of = boto3.client("s3"), prefix.rpartition("/")[0]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"]
                is_below = key == prefix or not prefix or key.startswith(prefix.rstrip("/") + "/")
                name = key[len(prefix.rstrip("/")) + 1 :] if key != prefix else key[len(folder_of) :].lstrip("/")
                if is_below and not key.endswith("/") and ".." not in name.split("/"):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, key, str(folder / name))
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SagegateError(f"{shown(uri)} cannot be read: {str(error).partition(chr(10))[0]}", USAGE) from None
    if not folder.is_dir():
        raise SagegateError(f"{shown(uri)}: there is no object: check bucket, prefix and region", USAGE)
    return folder


def read(code: Code, files: dict[str, Path]) -> tuple[list[Column], Any, int]:
    """Return the columns of the files as text, the form of text files and the number of rows."""
    import pyarrow as pa

    reader, form = code.raw_files, code.data.Files()
    chunks: dict[str, list[Any]] = {}
    rows = 0
    with code.errors():
        for name in [name for name in files if not reader.is_parquet(name)][:1]:
            separator, encoding = guess_form(reader.load(name, files[name], code.data.Files()))
            form = code.data.Files(separator, ".", encoding)
        for name, file in files.items():
            content = reader.load(name, file, form)
            header = reader.read_header(name, content, form)
            if chunks and set(header) != set(chunks):
                odd = sorted(set(header) ^ set(chunks))
                raise SagegateError(
                    f"{shown(name)} has other columns than {shown(next(iter(files)))}: {shown(odd[0])}", USAGE
                )
            try:
                cells = reader.read_cells(name, content, dict.fromkeys(header, "text"), form)
            except pa.ArrowInvalid as error:
                raise reader.first_error(name, content, form, None) or SagegateError(f"{name}: {error}") from None
            for column in header:
                chunks.setdefault(column, []).extend(cells[column].chunks)
            rows += len(cells[header[0]])
        encoded = {name: reader.encode(pa.chunked_array(parts, pa.string())) for name, parts in chunks.items()}
    columns = [Column(name, codes, texts) for name, (codes, texts) in encoded.items()]
    form = code.data.Files(form.separator, guess_decimal(columns, form.separator), form.encoding)
    return columns, form, rows


def propose(code: Code, schema: Any, parts: dict[str, Any], problem: Target) -> dict[str, str | float]:
    """Return the gate's metric, and a threshold between a model that learned nothing and a perfect one."""
    shares = [float((problem.values == n).mean()) for n in range(len(problem.classes))]
    metric = "rmse" if not problem.classes else "auc" if len(shares) == 2 else "accuracy"
    if shares and min(shares) < RARE:
        metric = "average_precision" if len(shares) == 2 else "balanced_accuracy"
    nothing = code.without_learning(schema, parts, metric)
    if not math.isfinite(nothing):
        what = f"{metric} cannot be measured on the {len(parts['test'])} test rows, which all have the same class"
        advice = "equal rows count once (clean in model/preprocess.py): use more rows, or another test_fraction"
        raise SagegateError(f"{what}; {advice}", USAGE)
    way = BETTER * (nothing if metric in code.metrics.LOWER_IS_BETTER else 1 - nothing)
    threshold = nothing - way if metric in code.metrics.LOWER_IS_BETTER else nothing + way
    return {
        "metric": metric,
        "threshold": float(f"{threshold:.4g}"),
        "min_improvement": -float(f"{ALLOWED * way:.2g}"),
        "nothing": nothing,
    }


def _changes(root: Path, path: str, place: Path, gate: dict[str, str | float]) -> dict[str, str]:
    """Return the new text of each settings file. Data outside the project is named for this machine only."""
    mlops, local = "mlops.toml", "environments/local.toml"
    texts = {file: (root / file).read_text(encoding="utf-8") for file in (mlops, local)}
    values = {key: gate[key] for key in ("metric", "threshold", "min_improvement")}
    texts[mlops] = edit(texts[mlops], mlops, "gate", values)
    if path.startswith("s3://"):
        texts[mlops] = edit(texts[mlops], mlops, "data", {"source": path})
        here: str | None = COPY
    elif place.resolve().is_relative_to(root.resolve()):
        inside = place.resolve().relative_to(root.resolve()).as_posix()
        texts[mlops] = edit(texts[mlops], mlops, "data", {"source": inside})
        here = None
    else:
        here = os.path.abspath(place)
    texts[local] = edit(texts[local], local, "", {"data_source": here})
    return texts


def _report(
    guesses: list[Guess],
    target: str,
    problem: Target,
    rows: int,
    form: Any,
    gate: dict[str, str | float],
    files: list[str],
) -> None:
    def short(text: str) -> str:
        return text if len(text) <= 40 else f"{text[:39]}…"

    first = [short(shown(target)), "target", problem.problem_type, 0, len(problem.classes) or "", ""]
    kinds = {"": "left out", "key": "split_by"}
    rest = [
        [short(shown(g.name)), kinds.get(g.kind, g.kind), shown(g.why), g.missing, g.distinct, short(shown(g.example))]
        for g in guesses
    ]
    output.table(["column", "kind", "why", "missing", "distinct", "example"], [first, *rest])
    is_text = any(not name.lower().endswith(ENDINGS[-1]) for name in files)
    how = f", separator {form.separator!r}, decimal {form.decimal!r}, encoding {form.encoding}" if is_text else ""
    output.line(f"read: {rows} rows of {len(files)} file{'s' * (len(files) > 1)}{how}")
    used = sum(guess.kind not in ("", "key") for guess in guesses)
    output.line(f"wrote model/schema.toml: {problem.problem_type}, {used} columns to predict from")
    what = f"a model that learned nothing has {gate['nothing']:.4g}; raise it when you know what yours must reach"
    output.line(f"wrote mlops.toml: metric = {gate['metric']}, threshold = {gate['threshold']} ({what})")
