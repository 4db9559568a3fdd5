"""Raw files -> train, validation and test, split by a hash of each row or of its key (split_by in schema.toml).

    python model/preprocess.py --input data --output /tmp/out --validation-fraction 0.15 --test-fraction 0.2 --seed 42

A row goes to the same split whatever other rows there are. So several hosts can each read a part of the files, new data
moves no old row to another split, and copies of a row never end up on both sides.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from data import SPLIT, DataError, Schema, fail, join_negatives, load_schema
from raw_files import read_folder

SPLITS = ("train", "validation", "test")


def clean(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return the rows to use."""
    # --- EDIT HERE: drop, repair or derive what every model of this project needs ---
    return table.drop_duplicates(ignore_index=True)


def split(table: pd.DataFrame, schema: Schema, validation: float, test: float, seed: int) -> dict[str, pd.DataFrame]:
    """Return the table's rows by split. `validation` and `test` are fractions of all rows."""
    keys = table[list(schema.split_by)] if schema.split_by else table
    if not len(keys.select_dtypes(object).columns):  # pandas hashes only texts with the key
        keys = pd.concat([keys, pd.Series(str(seed), keys.index)], axis=1)
    key = hashlib.sha256(str(seed).encode()).hexdigest()[:16]
    place = pd.util.hash_pandas_object(keys, index=False, hash_key=key, categorize=False).to_numpy() / 2.0**64
    bounds = {"test": (0.0, test), "validation": (test, test + validation), "train": (test + validation, 1.01)}
    return {name: table[(place >= bounds[name][0]) & (place < bounds[name][1])] for name in SPLITS}


def check(parts: dict[str, pd.DataFrame], schema: Schema) -> None:
    """Raise DataError if a split cannot be used."""
    rows = sum(len(part) for part in parts.values())
    for name, part in parts.items():
        if part.empty:
            raise DataError(f"the {name} split is empty ({rows} rows in all): add rows or raise {name}_fraction")
    target = pd.concat([part[schema.target] for part in parts.values()])
    if target.nunique() < 2:
        raise DataError(f"target {schema.target!r} is always {target.iloc[0]!r}: there is nothing to learn")
    for label in schema.classes:
        if label not in set(parts["train"][schema.target]):
            raise DataError(f"target {schema.target!r}: no row of class {label!r} in the train split: add such rows")


def write(
    parts: dict[str, pd.DataFrame], report: dict[str, Any], made: dict[str, Any], output: Path, suffix: str
) -> None:
    """Write each split as Parquet with how it was made, and the report as JSON."""
    for name in (*SPLITS, "report"):
        (output / name).mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        part.to_parquet(output / name / f"part{suffix}.parquet", index=False, write_page_checksum=True)
        (output / name / SPLIT).write_text(json.dumps(made, sort_keys=True))
    (output / "report" / f"data{suffix}.json").write_text(json.dumps(report, indent=1, sort_keys=True))


def main(argv: list[str] | None = None) -> None:
    """Read, clean, split, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--validation-fraction", type=float, default=0.15)
    parser.add_argument("--test-fraction", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(join_negatives(argv))
    if not 0 < args.validation_fraction < 1 or not 0 < args.test_fraction < 1 - args.validation_fraction:
        fail("--validation-fraction and --test-fraction must be above 0 and leave rows to train on")
    resources = Path(os.environ.get("SM_RESOURCE_CONFIG_FILE", "none"))
    hosts = json.loads(resources.read_text()) if resources.is_file() else {"hosts": ["algo-1"]}
    is_alone = len(hosts["hosts"]) == 1
    try:
        schema = load_schema()
        raw = read_folder(args.input, schema, may_be_empty=not is_alone)
        table = clean(raw, schema)
        parts = split(table, schema, args.validation_fraction, args.test_fraction, args.seed)
        if is_alone:  # one host of several sees only a part of the rows
            check(parts, schema)
    except DataError as error:
        fail(error)
    target = table[schema.target]
    report = {
        "rows": len(table),
        "duplicates_dropped": len(raw) - len(table),
        "rows_by_split": {name: len(part) for name, part in parts.items()},
        "missing": {name: int(count) for name, count in table.isna().sum().items() if count},
        "target": (target.value_counts() if schema.is_classification else target.describe().dropna()).to_dict(),
    }
    made = {name: getattr(args, name) for name in ("seed", "validation_fraction", "test_fraction")}
    made["split_by"] = schema.split_by
    write(parts, report, made, args.output, "" if is_alone else f"-{hosts['current_host']}")
    print(", ".join(f"{name}: {value}" for name, value in report.items() if name != "target"))


if __name__ == "__main__":
    main()
