"""Candidate and champion on the same test rows -> evaluation.json: metrics with their spread, and the gate's numbers.

    python model/evaluate.py --model DIR --champion DIR --test DIR --output DIR \\
        --metric auc --threshold 0.95 --min-improvement 0.0

`--model` holds model.tar.gz. `--champion` holds model.tar.gz and champion.json, or neither before the first approval.
The exit code is 0 whether or not the gate is passed: the pipeline's ConditionStep decides by the numbers written here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import lineage
from artifact import Model, load
from data import DataError, Parser, Schema, encode_target, fail, load_schema, read_split
from metrics import METRICS, bootstrap, confusion, measure, roc_curve


def load_archive(file: Path, scratch: Path) -> Model:
    """The model in a model.tar.gz."""
    if not file.is_file():
        raise DataError(f"there is no {file.name} in {file.parent.name}/: the training job must write one")
    try:
        with tarfile.open(file) as tar:
            tar.extractall(scratch, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{file.parent.name}/{file.name} is not a model artifact: {error}") from None
    return load(scratch)


def load_champion(folder: Path, schema: Schema, scratch: Path) -> tuple[Model, int] | None:
    """The champion and its version; None where the marker says that there is none yet.

    Raises DataError for a champion that is not whole, not that of its record, or does not fit the test rows: only the
    marker lets a candidate pass without a comparison.
    """
    record_file, file = folder / "champion.json", folder / "model.tar.gz"
    if (folder / "no-champion.json").is_file() and not record_file.is_file():
        return None
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        version, digest = int(record["version"]), record["digest"]
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError("the champion is incomplete: approve it again (mlops approve VERSION --reason ...)") from None
    if found != digest:
        raise DataError(f"the champion's artifact is not the one of its record: run mlops approve {version} again")
    champion = load_archive(file, scratch)
    theirs = champion.schema
    gone = [name for name in theirs.features if name not in schema.columns]
    if gone or (theirs.target, theirs.classes) != (schema.target, schema.classes):
        what = f"its column {gone[0]!r} is gone" if gone else "target or classes changed"
        raise DataError(
            f"champion v{version} cannot score the test rows: {what} in model/schema.toml; reject it (mlops reject"
            f" {version}) to start without a champion"
        )
    return champion, int(version)


def predict_with_own_code(champion: Model, folder: Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """The champion's predictions, by the code in its artifact where that is not today's: an edited feature must not
    change what an older model predicts. A process of its own keeps the two apart."""
    here, own = Path(__file__).parent, folder / "code"
    names = ("artifact.py", "data.py", "features.py")
    if all((own / name).is_file() and (own / name).read_bytes() == (here / name).read_bytes() for name in names):
        return champion.predict(rows)
    rows.to_parquet(folder / "rows.parquet")
    command = [
        sys.executable,
        str(own / "artifact.py"),
        str(folder),
        str(folder / "rows.parquet"),
        str(folder / "out.npy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"the champion's own code cannot score the test rows: {last}")
    predicted: NDArray[np.float64] = np.load(folder / "out.npy")
    return predicted


def judge(
    metric: str, candidate: float, champion: tuple[float, int] | None, greater: bool, threshold: float, needed: float
) -> dict[str, Any]:
    """The gate's numbers. Margins are signed: 0 or more is good enough, whichever way the metric is better."""
    sign = 1.0 if greater else -1.0
    margin = sign * (candidate - threshold)
    verb = "meets" if margin >= 0 else "misses"
    reason = f"{metric} {candidate:.6g} {verb} the threshold {threshold:.6g}"
    improvement, verdict = None, "no champion"
    if champion is None:
        reason += "; no champion yet"
    else:
        improvement = sign * (candidate - champion[0])
        verdict = "beaten" if improvement >= needed else "not beaten"
        change = f"{abs(improvement):.4g} {'better' if improvement >= 0 else 'worse'}"
        reason += (
            f"; champion v{champion[1]} has {champion[0]:.6g}, so it is {change} (at least {needed:.4g} better needed)"
        )
    return {
        "metric": metric,
        "greater_is_better": greater,
        "candidate": candidate,
        "threshold": threshold,
        "threshold_margin": margin,
        "champion": champion[0] if champion else None,
        "champion_version": champion[1] if champion else None,
        "min_improvement": needed,
        "improvement": improvement,
        "champion_verdict": verdict,
        "passed": margin >= 0 and verdict != "not beaten",
        "reason": reason,
    }


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """What evaluation.json holds; raises DataError if it cannot be known."""
    schema = load_schema()
    table = METRICS[schema.problem_type]
    if args.metric not in table:
        raise DataError(f"metric {args.metric!r} is not one of {', '.join(table)}: correct [gate] in mlops.toml")
    for name in ("threshold", "min_improvement"):
        if not math.isfinite(getattr(args, name)):
            raise DataError(f"--{name.replace('_', '-')} must be a finite number")
    rows = read_split(args.test)
    y = encode_target(rows[schema.target], schema)
    with tempfile.TemporaryDirectory() as scratch:
        candidate = load_archive(args.model / "model.tar.gz", Path(scratch) / "candidate")
        champion = load_champion(args.champion, schema, Path(scratch) / "champion")
        predicted = candidate.predict(rows)
        values = finite(measure(table, y, predicted), "the candidate")
        spread = bootstrap(table, y, predicted, args.bootstrap, args.seed)
        made_of = lineage.of_artifact(args.model / "model.tar.gz", Path(scratch) / "candidate", len(rows))
        sample = lineage.sample_of(Path(scratch) / "candidate", candidate)
        against, theirs = None, dict[str, float]()
        if champion:
            scores = predict_with_own_code(champion[0], Path(scratch) / "champion", rows)
            theirs = measure(table, y, scores)
            against = (finite({args.metric: theirs[args.metric]}, "the champion")[args.metric], champion[1])
    greater = table[args.metric].greater_is_better
    found: dict[str, Any] = {
        name: {"value": value} | ({"standard_deviation": spread[name]} if math.isfinite(spread[name]) else {})
        for name, value in values.items()
    }
    if schema.is_classification:
        found["confusion_matrix"] = confusion(y, predicted, schema.classes)
    if schema.problem_type == "binary_classification":
        found["receiver_operating_characteristic_curve"] = roc_curve(y, predicted)
    return {
        f"{schema.problem_type}_metrics": found,
        "gate": judge(args.metric, values[args.metric], against, greater, args.threshold, args.min_improvement),
        "champion_values": {name: value for name, value in theirs.items() if math.isfinite(value)},
        "greater_is_better": {name: definition.greater_is_better for name, definition in table.items()},
        "lineage": made_of,
        "sample": sample,
    }


def finite(values: dict[str, float], whose: str) -> dict[str, float]:
    """The values; raises DataError if one is not a finite number, for a gate must not decide by it."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DataError(f"{name} of {whose} is {value}: the test set or the model is degenerate")
    return values


def main(argv: list[str] | None = None) -> None:
    """Evaluate and write evaluation.json."""
    parser = Parser(__doc__)
    for name in ("model", "champion", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--min-improvement", type=float, required=True)
    parser.add_argument("--bootstrap", type=int, default=100, help="resamples for the standard deviations")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    try:
        found = evaluate(args)
    except DataError as error:
        fail(error)
    args.output.mkdir(parents=True, exist_ok=True)
    partial = args.output / ".evaluation.json.partial"
    partial.write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")
    partial.replace(args.output / "evaluation.json")
    print(found["gate"]["reason"])


if __name__ == "__main__":
    main()
