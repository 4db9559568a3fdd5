"""Candidate and champion on the same test rows -> evaluation.json: metrics with their spread, and the gate's numbers.

    python model/evaluate.py --model DIR --champion DIR --test DIR --output DIR \\
        --metric auc --threshold 0.95 --min-improvement 0.0

`--model` holds model.tar.gz. `--champion` holds model.tar.gz and champion.json, or no-champion.json before the first
approval. The exit code is 0 whether or not the gate is passed: the pipeline's Gate step decides by the numbers here.
"""

import argparse
import filecmp
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

from artifact import load
from data import DataError, Schema, encode_target, fail, load_schema, read_split
from metrics import LOWER_IS_BETTER, METRICS, bootstrap, confusion, measure, roc_curve


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a model.tar.gz into `folder`. Raises DataError."""
    if not archive.is_file():
        raise DataError(f"there is no {archive.name} in {archive.parent.name}/: the training job must write one")
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive.parent.name}/{archive.name} is not a model artifact: {error}") from None


def unpack_champion(source: Path, schema: Schema, folder: Path) -> int | None:
    """Unpack the champion into `folder`. Returns its version, or None if no-champion.json says that there is none yet.

    Only that file lets a candidate pass without a comparison: raises DataError for a champion that is incomplete, is
    not the recorded one, or does not fit the test rows.
    """
    record, archive = source / "champion.json", source / "model.tar.gz"
    if (source / "no-champion.json").is_file() and not record.is_file():
        return None
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        version, digest = int(recorded["version"]), recorded["digest"]
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError("the champion is incomplete: run `sagegate approve VERSION` again") from None
    if found != digest:
        raise DataError(f"the champion's artifact is not the recorded one: run `sagegate approve {version}` again")
    unpack(archive, folder)
    theirs = load_schema(folder / "schema.toml")
    gone = [name for name in theirs.columns if name not in schema.columns]
    if gone or (theirs.target, theirs.classes) != (schema.target, schema.classes):
        what = f"its column {gone[0]!r} is gone" if gone else "target or classes changed"
        advice = f"reject it (sagegate reject {version}) to start without a champion"
        raise DataError(f"champion v{version} cannot score the test rows: {what} in model/schema.toml; {advice}")
    return version


def predict_with_own_code(folder: Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the predictions of an unpacked artifact by its own code, because today's may compute other features.

    Where that differs from today's code, it runs in a process of its own.
    """
    names = ["artifact.py", "data.py", "features.py"]
    if filecmp.cmpfiles(Path(__file__).parent, folder / "code", names, shallow=False)[0] == names:
        return load(folder).predict(rows)
    rows.to_parquet(folder / "rows.parquet")
    paths = [folder / "code" / "artifact.py", folder, folder / "rows.parquet", folder / "predicted.npy"]
    done = subprocess.run([sys.executable, *map(str, paths)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"the champion's own code cannot score the test rows: {last}")
    predicted: NDArray[np.float64] = np.load(folder / "predicted.npy")
    return predicted


def finite(value: float, name: str) -> float:
    """Return `value`. Raises DataError if it is not a finite number, because a gate must not decide by it."""
    if not math.isfinite(value):
        raise DataError(f"{name} is {value}: the test set or the model is degenerate")
    return value


def judge(
    metric: str, candidate: float, champion: tuple[float, int] | None, threshold: float, needed: float
) -> dict[str, Any]:
    """Return the gate's numbers. `champion` is its value and version, `needed` the smallest improvement on it.

    Margin and improvement are signed: 0 or more is good enough, in whichever direction the metric is better.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    margin = sign * (candidate - threshold)
    reason = f"{metric} {candidate:.6g} {'meets' if margin >= 0 else 'misses'} the threshold {threshold:.6g}; "
    if champion:
        value, version = champion
        improvement = sign * (candidate - value)
        change = f"{abs(improvement):.4g} {'better' if improvement >= 0 else 'worse'}"
        reason += f"champion v{version} has {value:.6g}, so it is {change} (at least {needed:.4g} better needed)"
        verdict = "beaten" if improvement >= needed else "not beaten"
    else:
        reason, verdict = reason + "no champion yet", "no champion"
    passed = margin >= 0 and verdict != "not beaten"
    return {
        "metric": metric,
        "greater_is_better": metric not in LOWER_IS_BETTER,
        "candidate": candidate,
        "threshold": threshold,
        "threshold_margin": margin,
        "champion": value if champion else None,
        "champion_version": version if champion else None,
        "min_improvement": needed,
        "improvement": improvement if champion else None,
        "champion_verdict": verdict,
        "passed": passed,
        "reason": reason if passed else f"Candidate rejected: {reason}",  # the pipeline fails with this text
    }


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Return evaluation.json's content. Raises DataError if candidate or champion cannot be scored."""
    schema = load_schema()
    table = METRICS[schema.problem_type]
    if args.metric not in table:
        raise DataError(f"metric {args.metric!r} is not one of {', '.join(table)}: correct [gate] in mlops.toml")
    if not math.isfinite(args.threshold) or not math.isfinite(args.min_improvement):
        raise DataError("--threshold and --min-improvement must be finite numbers: correct [gate] in mlops.toml")
    rows = read_split(args.test)
    y = encode_target(rows[schema.target], schema)
    with tempfile.TemporaryDirectory() as scratch:
        candidate, champion = Path(scratch) / "candidate", Path(scratch) / "champion"
        unpack(args.model / "model.tar.gz", candidate)
        predicted = load(candidate).predict(rows)
        record = candidate / "training.json"  # another train.py may not write it
        recorded = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        version = unpack_champion(args.champion, schema, champion)
        scores = predict_with_own_code(champion, rows) if version else None
    values = {name: finite(v, f"{name} of the candidate") for name, v in measure(table, y, predicted).items()}
    spread = bootstrap(table, y, predicted, args.bootstrap, args.seed)
    theirs = {} if scores is None else measure(table, y, scores)
    against = (finite(theirs[args.metric], f"{args.metric} of the champion"), version) if version else None
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
        "gate": judge(args.metric, values[args.metric], against, args.threshold, args.min_improvement),
        "champion_values": {name: value for name, value in theirs.items() if math.isfinite(value)},
        "greater_is_better": {name: name not in LOWER_IS_BETTER for name in table},
        "lineage": {
            "rows": recorded.get("rows", {}) | {"test": len(rows)},
            "versions": recorded.get("versions", {}),
            "artifact_sha256": hashlib.sha256((args.model / "model.tar.gz").read_bytes()).hexdigest(),
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Evaluate and write evaluation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "champion", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--min-improvement", type=float, required=True)
    parser.add_argument("--bootstrap", type=int, default=100, help="resamples for the standard deviations")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    try:
        evaluation = evaluate(args)
    except DataError as error:
        fail(error)
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation, indent=1, sort_keys=True, allow_nan=False)
    (args.output / "evaluation.json").write_text(text, encoding="utf-8")
    print(evaluation["gate"]["reason"])


if __name__ == "__main__":
    main()
