"""Candidate and champion on the same test rows -> evaluation.json: metrics with their spread, and the gate's numbers.

report.html beside it shows the same, and more, to people.

    python model/evaluate.py --model DIR --champion DIR --test DIR --output DIR \\
        --metric auc --threshold 0.95 --min-improvement -0.01 --confidence 0.95

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact import SCHEMA, SEEN, load
from data import DataError, Schema, encode_target, fail, join_negatives, load_schema, read_split, row_digests
from metrics import (
    CALLS,
    LOWER_IS_BETTER,
    METRICS,
    bootstrap,
    confusion,
    learned_nothing,
    lowest_difference,
    measure,
    roc_curve,
    seen_by,
)

# Test rows, their target as numbers, and what candidate and champion predict for them.
Scored = tuple[pd.DataFrame, NDArray[Any], NDArray[np.float64], NDArray[np.float64] | None]
LEAST_ROWS = 30  # to compare on, if the champion was trained on some of the test rows


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
        if version < 1:
            raise ValueError
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError("the champion is incomplete: run `sagegate approve VERSION` again") from None
    if found != digest:
        raise DataError(f"the champion's artifact is not the recorded one: run `sagegate approve {version}` again")
    unpack(archive, folder)
    theirs = load_schema(folder / "schema.toml")
    changed = [name for name, kind in theirs.columns.items() if schema.columns.get(name) != kind]
    if changed or (theirs.target, theirs.classes) != (schema.target, schema.classes):
        what = f"its column {changed[0]!r} has another kind" if changed else "target or classes changed"
        what = f"its column {changed[0]!r} is gone" if changed and changed[0] not in schema.columns else what
        advice = f"reject it (sagegate reject {version}) to start without a champion"
        raise DataError(f"champion v{version} cannot score the test rows: {what} in model/schema.toml; {advice}")
    return version


def predict_with_own_code(folder: Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the predictions of an unpacked artifact by its own code, because today's may compute other features.

    Where that differs from today's code, it runs in a process of its own.
    """
    names = ["artifact.py", "data.py", "estimator.py", "features.py"]
    if filecmp.cmpfiles(Path(__file__).parent, folder / "code", names, shallow=False)[0] == names:
        return load(folder).predict(rows)
    rows.to_parquet(folder / "rows.parquet")
    paths = [folder / "code" / "artifact.py", folder, folder / "rows.parquet", folder / "predicted.npy"]
    done = subprocess.run([sys.executable, *map(str, paths)], capture_output=True, text=True)
    if done.returncode:
        raise DataError((done.stderr.strip().splitlines() or ["no message"])[-1])
    predicted: NDArray[np.float64] = np.load(paths[-1])
    return predicted


def score(whose: str, predict: Callable[[], NDArray[np.float64]], rows: int, schema: Schema) -> NDArray[np.float64]:
    """Return what `predict` returns. Raises DataError for any failure, and for predictions of another shape."""
    try:
        predicted = predict()
    except Exception as error:  # of the model's own code and libraries, whatever they raise
        raise DataError(f"{whose} cannot score the test rows: {str(error).strip().partition(chr(10))[0]}") from None
    shape = (rows, len(schema.classes)) if schema.problem_type == "multiclass_classification" else (rows,)
    if predicted.shape != shape or predicted.dtype.kind != "f":
        found = f"{predicted.dtype} of shape {predicted.shape}"
        raise DataError(f"{whose} cannot score the test rows: it predicts {found}, not floats of shape {shape}")
    return predicted


def record_of(folder: Path) -> dict[str, Any]:
    """Return training.json of the model in `folder`, with a threshold: 0.5 if it has none. Raises DataError."""
    file = folder / "training.json"  # another train.py may not write it
    try:
        record: dict[str, Any] = {"threshold": 0.5} | (json.loads(file.read_text("utf-8")) if file.is_file() else {})
        record["threshold"] = float(record["threshold"])
    except (ValueError, TypeError):
        raise DataError("training.json in a model artifact is damaged: train the model again") from None
    if not 0 <= record["threshold"] <= 1:
        raise DataError(f"threshold {record['threshold']} in training.json of a model artifact is no probability")
    return record


def finite(value: float, name: str) -> float:
    """Return `value`. Raises DataError if it is not a finite number, because a gate must not decide by it."""
    if not math.isfinite(value):
        raise DataError(f"{name} is {value}: the test set or the model is degenerate")
    return value


def not_trained_on(rows: pd.DataFrame, folder: Path) -> NDArray[np.bool_]:
    """Return for each row whether it is new to the model in `folder`; True if its artifact does not say."""
    if not (folder / SEEN).is_file():  # made by another train.py
        return np.ones(len(rows), dtype=bool)
    try:
        return ~np.isin(row_digests(rows, load_schema(folder / SCHEMA)), np.load(folder / SEEN))
    except (OSError, ValueError) as error:
        raise DataError(f"{SEEN} in the model artifact cannot be read: {error}") from None
    except KeyError as error:
        what = str(error).strip("\"'")
        raise DataError(
            f"a model was split by what the test rows do not have, so it may have seen them: {what}"
        ) from None


def check_threshold(metric: str, threshold: float, value: float) -> None:
    """Raise DataError if a model that learned nothing, with `value`, meets the threshold: then any model passes."""
    if value <= threshold if metric in LOWER_IS_BETTER else value >= threshold:
        what = f"a model that learned nothing has {metric} {value:.6g}, which meets the threshold {threshold:.6g}"
        raise DataError(f"{what}: choose a stricter one, or another metric, in [gate] of mlops.toml")


def hint(metric: str, threshold: float, y: NDArray[Any], schema: Schema) -> str:
    """Return an addition to the gate's reason if calling every row the same class meets the threshold, else nothing."""
    count = len(schema.classes)
    for number, label in enumerate(schema.classes if metric in CALLS else ()):
        calls = np.full(len(y), float(number)) if count == 2 else np.eye(count)[np.full(len(y), number)]
        value = METRICS[schema.problem_type][metric](y, calls, np.ones(len(y)))
        if value >= threshold:
            return f"; but a model that calls every row {label!r} has {metric} {value:.6g}: choose another metric"
    return ""


@dataclass(frozen=True)
class Champion:
    """The champion's version, its value on the test rows, and the candidate's improvement on it: at least `lowest`."""

    version: int
    value: float
    lowest: float  # the lower bound, with the gate's confidence; signed as the improvement
    rows_left_out: int | None  # test rows that it was trained on; None if its artifact does not say which


def bound(improvement: float) -> str:
    """Return the lower bound of an improvement in words."""
    if improvement == 0:
        return "not worse"
    return f"at least {improvement:.4g} better" if improvement >= 0 else f"at most {-improvement:.4g} worse"


def judge(
    metric: str, candidate: float, champion: Champion | None, threshold: float, needed: float, confidence: float
) -> dict[str, Any]:
    """Return the gate's numbers. The improvement on the champion must be at least `needed`, with `confidence`.

    Margin and improvement are signed: 0 or more is good enough, in whichever direction the metric is better.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    margin = sign * (candidate - threshold)
    reason = f"{metric} {candidate:.6g} {'meets' if margin >= 0 else 'misses'} the threshold {threshold:.6g}; "
    improvement, verdict = None, "no champion"
    if champion:
        improvement = sign * (candidate - champion.value)
        change = f"{abs(improvement):.4g} {'better' if improvement > 0 else 'worse'}" if improvement else "as good"
        reason += f"champion v{champion.version} has {champion.value:.6g}, so it is {change}, and with {confidence:.4g}"
        reason += f" confidence {bound(champion.lowest)} ({bound(needed)} {'needed' if needed >= 0 else 'allowed'})"
        verdict = "passed" if champion.lowest >= needed else "failed"
        if champion.rows_left_out is None:
            reason += "; it may have been trained on test rows: its artifact does not say on which it was"
        elif champion.rows_left_out:
            reason += f"; {champion.rows_left_out} test rows that the champion was trained on are left out"
    else:
        reason += "no champion yet"
    passed = margin >= 0 and verdict != "failed"
    return {
        "metric": metric,
        "greater_is_better": metric not in LOWER_IS_BETTER,
        "candidate": candidate,
        "threshold": threshold,
        "threshold_margin": margin,
        "champion": champion.value if champion else None,
        "champion_version": champion.version if champion else None,
        "min_improvement": needed,
        "confidence": confidence,
        "improvement": improvement,
        "lowest_improvement": champion.lowest if champion else None,
        "champion_verdict": verdict,
        "passed": passed,
        "reason": reason if passed else f"Candidate rejected: {reason}",  # the pipeline fails with this text
    }


def evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], Scored]:
    """Return evaluation.json's content and what it was measured on.

    Raises DataError if candidate or champion cannot be scored.
    """
    schema = load_schema()
    table = METRICS[schema.problem_type]
    if args.metric not in table:
        raise DataError(f"metric {args.metric!r} is not one of {', '.join(table)}: correct [gate] in mlops.toml")
    if not math.isfinite(args.threshold) or not math.isfinite(args.min_improvement) or not 0.5 <= args.confidence < 1:
        advice = "threshold and min_improvement must be finite numbers, confidence at least 0.5 and below 1"
        raise DataError(f"{advice}: correct [gate] in mlops.toml")
    rows = read_split(args.test)
    with tempfile.TemporaryDirectory() as scratch:
        candidate, champion = Path(scratch) / "candidate", Path(scratch) / "champion"
        unpack(args.model / "model.tar.gz", candidate)
        recorded = record_of(candidate)
        if seen := int((~not_trained_on(rows, candidate)).sum()):
            raise DataError(f"the candidate was trained on {seen} of the test rows: a row must be in one split only")
        version, left_out = unpack_champion(args.champion, schema, champion), 0
        if version:
            new = not_trained_on(rows, champion)
            rows, left_out = rows[new], int((~new).sum())
            if left_out and len(rows) < LEAST_ROWS:
                raise DataError(
                    f"champion v{version} was trained on {left_out} of the test rows, and the other {len(rows)} are too"
                    " few to compare on: split as it was (split_seed, fractions, split_by), or reject the champion"
                )
        predicted = score("the candidate", lambda: load(candidate).predict(rows), len(rows), schema)
        scores, says, thresholds = (
            None,
            (champion / SEEN).is_file(),
            [each["threshold"] for each in (recorded, record_of(champion))],
        )
        if version:
            scores = score("the champion", lambda: predict_with_own_code(champion, rows), len(rows), schema)
    y = encode_target(rows[schema.target], schema)
    baseline = measure(table, y, learned_nothing(y, predicted), 0.5)
    check_threshold(args.metric, args.threshold, baseline[args.metric])
    measured = measure(table, y, predicted, thresholds[0])
    values = {name: finite(value, f"{name} of the candidate") for name, value in measured.items()}
    spread = bootstrap(table, y, predicted, args.bootstrap, args.seed, thresholds[0])
    theirs, against = {}, None
    if version and scores is not None:
        theirs, name = measure(table, y, scores, thresholds[1]), args.metric
        value = finite(theirs[name], f"{name} of the champion")
        pair = [seen_by(name, p, t) for p, t in zip((predicted, scores), thresholds, strict=True)]
        first, second = reversed(pair) if name in LOWER_IS_BETTER else pair
        lowest = lowest_difference(table[name], y, first, second, args.confidence, 5 * args.bootstrap, args.seed)
        against = Champion(version, value, finite(lowest, f"the improvement of {name}"), left_out if says else None)
    found: dict[str, Any] = {
        name: {"value": value} | ({"standard_deviation": spread[name]} if math.isfinite(spread[name]) else {})
        for name, value in values.items()
    }
    if schema.is_classification:
        found["confusion_matrix"] = confusion(y, predicted, schema.classes, thresholds[0])
    if schema.problem_type == "binary_classification":
        found["receiver_operating_characteristic_curve"] = roc_curve(y, predicted)
    gate = judge(args.metric, values[args.metric], against, args.threshold, args.min_improvement, args.confidence)
    gate["reason"] += hint(args.metric, args.threshold, y, schema)
    evaluation = {
        f"{schema.problem_type}_metrics": found,
        "gate": gate,
        "baseline_values": {name: value for name, value in baseline.items() if math.isfinite(value)},
        "champion_values": {name: value for name, value in theirs.items() if math.isfinite(value)},
        "greater_is_better": {name: name not in LOWER_IS_BETTER for name in table},
        "decision_thresholds": thresholds[: 2 if version else 1],
        "lineage": {
            "rows": recorded.get("rows", {}) | {"test": len(rows)},
            "split": recorded.get("split", {}),
            "hyperparameters": recorded.get("hyperparameters", {}),
            "versions": recorded.get("versions", {}),
            "artifact_sha256": hashlib.sha256((args.model / "model.tar.gz").read_bytes()).hexdigest(),
        },
    }
    return evaluation, (rows, y, predicted, scores)


def draw(args: argparse.Namespace, evaluation: dict[str, Any], scored: Scored) -> None:
    """Write report.html. What goes wrong is a line in the log, because it must not change the verdict."""
    try:
        import report  # here, because a mistake in it is one of those

        with tempfile.TemporaryDirectory() as scratch:
            unpack(args.model / "model.tar.gz", Path(scratch))
            page = report.page(evaluation, Path(scratch), args.seed, *scored)
        (args.output / "report.html").write_text(page, encoding="utf-8")
    except Exception as error:
        (args.output / "report.html").unlink(missing_ok=True)
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"report.html was not written, which changes nothing else: {what}")


def main(argv: list[str] | None = None) -> None:
    """Evaluate, write evaluation.json, draw report.html."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "champion", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--min-improvement", type=float, required=True)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--bootstrap", type=int, default=100, help="resamples for the standard deviations")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(join_negatives(argv))
    try:
        evaluation, scored = evaluate(args)
    except DataError as error:
        fail(error)
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation, indent=1, sort_keys=True, allow_nan=False)
    (args.output / "evaluation.json").write_text(text, encoding="utf-8")
    print(evaluation["gate"]["reason"])
    draw(args, evaluation, scored)


if __name__ == "__main__":
    main()
