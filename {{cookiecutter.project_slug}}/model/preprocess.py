"""Raw CSV files -> train, validation and test, split by a hash of each row.

    python model/preprocess.py --input data --output /tmp/out --validation-fraction 0.15 --test-fraction 0.2 --seed 42

The same row goes to the same split whatever other rows there are, so N hosts that read a part of the files each need no
coordination, new data does not move old rows between splits, and copies of a row never end up on both sides.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from csv_files import read_folder
from data import DataError, Parser, Schema, fail, load_schema

SPLITS = ("train", "validation", "test")


def clean(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows to use."""
    # --- edit here: drop, repair or derive what every model of this project needs ---
    return drop_duplicates(table)


def drop_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """The first of each set of equal rows. Only rows with equal hashes are compared: ten times faster than all."""
    hashed = pd.util.hash_pandas_object(table, index=False, categorize=False)
    alike = table[hashed.duplicated(keep=False)]
    return table.drop(index=alike.index[alike.duplicated()]).reset_index(drop=True)


def split(table: pd.DataFrame, validation: float, test: float, seed: int) -> dict[str, pd.DataFrame]:
    """The table's rows by split; `validation` and `test` are fractions of all rows."""
    key = hashlib.sha256(str(seed).encode()).hexdigest()[:16]
    hashed = pd.util.hash_pandas_object(table, index=False, hash_key=key, categorize=False).to_numpy()
    place = hashed / 2.0**64
    bounds = {"test": (0.0, test), "validation": (test, test + validation), "train": (test + validation, 1.01)}
    return {name: table[(place >= bounds[name][0]) & (place < bounds[name][1])] for name in SPLITS}


def check(parts: dict[str, pd.DataFrame], schema: Schema) -> None:
    """Raises DataError if a split cannot be used."""
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


def report(table: pd.DataFrame, dropped: int, parts: dict[str, pd.DataFrame], schema: Schema) -> dict[str, object]:
    """What the data was, for the record: counts, missing values, the target's distribution."""
    target = table[schema.target]
    distribution = (
        {label: int(count) for label, count in target.value_counts().sort_index().items()}
        if schema.is_classification
        else {f"{q:.2f}": float(target.quantile(q)) for q in (0.0, 0.25, 0.5, 0.75, 1.0)}
    )
    return {
        "rows": len(table),
        "duplicates_dropped": dropped,
        "rows_by_split": {name: len(part) for name, part in parts.items()},
        "missing": {name: int(count) for name, count in table.isna().sum().items() if count},
        "target": distribution,
    }


def hosts() -> tuple[str, int]:
    """This host's name and the number of hosts, from SageMaker's resource configuration."""
    file = Path(os.environ.get("SM_RESOURCE_CONFIG_FILE", "resourceconfig.json"))
    if not file.is_file():
        return "algo-1", 1
    config = json.loads(file.read_text())
    return config["current_host"], len(config["hosts"])


def write(parts: dict[str, pd.DataFrame], found: dict[str, object], output: Path, host: str, count: int) -> None:
    """Each split as Parquet and the report as JSON, written whole; one set of files for each host."""
    name = "part" if count == 1 else f"part-{host}"
    written = []
    for split_name, part in parts.items():
        table = pa.Table.from_pandas(part, preserve_index=False)
        texts = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
        file = output / split_name / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        # Measured numbers hardly repeat and hardly shrink: a dictionary and compression would only cost time.
        pq.write_table(table, file.with_suffix(".partial"), use_dictionary=texts, compression="none")
        written.append(file)
    written.append(output / "report" / ("data.json" if count == 1 else f"data-{host}.json"))
    written[-1].parent.mkdir(parents=True, exist_ok=True)
    written[-1].with_suffix(".partial").write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    for file in written:
        file.with_suffix(".partial").replace(file)


def main(argv: list[str] | None = None) -> None:
    """Read, check, clean, split, write."""
    parser = Parser(__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--validation-fraction", type=float, default=0.15)
    parser.add_argument("--test-fraction", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    if not 0 < args.validation_fraction < 1 or not 0 < args.test_fraction < 1 - args.validation_fraction:
        fail("--validation-fraction and --test-fraction must be above 0 and leave rows to train on")
    host, count = hosts()
    try:
        schema = load_schema()
        table = read_folder(args.input, schema, may_be_empty=count > 1)
        kept = clean(table, schema)
        parts = split(kept, args.validation_fraction, args.test_fraction, args.seed)
        if count == 1:
            check(parts, schema)
    except DataError as error:
        fail(error)
    dropped = len(table) - len(kept)
    write(parts, report(kept, dropped, parts, schema), args.output, host, count)
    sizes = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    missing = int(np.sum(kept.isna().to_numpy()))
    print(f"{len(table)} rows, {dropped} duplicates dropped, {missing} missing values; {sizes}")


if __name__ == "__main__":
    main()
