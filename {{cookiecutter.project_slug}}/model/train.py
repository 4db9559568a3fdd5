"""Train and validation -> the model artifact, with XGBoost; stops early and keeps the best round.

    python model/train.py --train /tmp/out/train --validation /tmp/out/validation --model-dir /tmp/model --max_depth 6

On SageMaker the folders come from SM_CHANNEL_TRAIN, SM_CHANNEL_VALIDATION and SM_MODEL_DIR. Each round logs
`[12] train-logloss=0.10123 validation-logloss=0.14456`; a tuning job reads that with `validation-logloss=([0-9.]+)`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

import lineage
from artifact import Model, save, threads
from data import DataError, Parser, Schema, encode_target, fail, load_schema, read_split
from features import make_preprocessing
from hosts import ALONE, Share, shared
from inference import as_json

OBJECTIVES = {
    "binary_classification": {"objective": "binary:logistic", "eval_metric": ["error", "logloss"]},
    "multiclass_classification": {"objective": "multi:softprob", "eval_metric": ["merror", "mlogloss"]},
    "regression": {"objective": "reg:squarederror", "eval_metric": ["mae", "rmse"]},
}  # early stopping watches the last one: a loss keeps improving where auc or accuracy stand still
# `[12:30:59] /src/objective.cc:27: ` before a message, and `- [socket.h:79|12:30:59]: ` before one of a list
_PLACE = re.compile(r"^(?:\[[\d:]+\] \S+:\d+: |- \[[^\]]*\]: )")


class LogRounds(xgb.callback.TrainingCallback):
    """One line per round with each metric."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Print the round's metrics; never stops the training."""
        found = [
            f"{data}-{metric}={values[-1]:.5f}" for data, log in evals_log.items() for metric, values in log.items()
        ]
        print(f"[{epoch}] {' '.join(found)}")
        return False


def hyperparameters(schema: Schema, args: argparse.Namespace) -> dict[str, Any]:
    """XGBoost's parameters."""
    # --- edit here: parameters that `[hyperparameters]` in mlops.toml should set get a flag in parse() ---
    parameters = {
        "max_depth": args.max_depth,
        "eta": args.eta,
        "min_child_weight": args.min_child_weight,
        "subsample": args.subsample,
        "colsample_bytree": args.colsample_bytree,
        "reg_lambda": args.reg_lambda,
        "seed": args.seed,
        "tree_method": "hist",
        **OBJECTIVES[schema.problem_type],
    }
    if schema.problem_type == "multiclass_classification":
        parameters["num_class"] = len(schema.classes)
    return parameters


def train(
    tables: dict[str, pd.DataFrame], schema: Schema, args: argparse.Namespace, share: Share = ALONE
) -> tuple[Model, dict[str, Any]]:
    """Fit preprocessing and booster on `train`; the model, and what is to be remembered of its training.

    Each host of several trains on its share of the rows, and all get the same model.
    """
    preprocessing = make_preprocessing(schema).fit(tables["train"][schema.features])
    matrices: dict[str, xgb.DMatrix] = {}
    nthread = threads(tables["train"].size)
    for name, table in tables.items():
        rows = share.of(table, name)
        matrix = preprocessing.transform(rows[schema.features]).astype(np.float32)
        label = encode_target(rows[schema.target], schema)
        matrices[name] = xgb.QuantileDMatrix(matrix, label=label, ref=matrices.get("train"), nthread=nthread)
    parameters = hyperparameters(schema, args) | {"nthread": nthread}
    stop = xgb.callback.EarlyStopping(rounds=args.early_stopping_rounds, save_best=True)
    booster = xgb.train(
        parameters,
        matrices["train"],
        num_boost_round=args.num_round,
        evals=[(matrices[name], name) for name in tables],
        verbose_eval=False,
        callbacks=[LogRounds(), stop],
    )
    record = {
        "rounds": booster.num_boosted_rounds(),
        "best": {parameters["eval_metric"][-1]: float(booster.best_score)},
        "hyperparameters": parameters | {"num_round": args.num_round},
        "rows": {name: len(table) for name, table in tables.items()},
    }
    return Model(schema, preprocessing, booster), record


def write_artifact(model: Model, record: dict[str, Any], sample: pd.DataFrame, folder: Path) -> None:
    """Everything that the artifact holds, put into `folder` at the end, so that a crash leaves no half model."""
    features = sample[model.schema.features]
    instances = json.loads(features.to_json(orient="records"))
    texts = {
        "training.json": json.dumps(record, indent=1, sort_keys=True),
        lineage.LINEAGE: json.dumps(lineage.of_training(record["rows"]), indent=1, sort_keys=True),
        "sample_request.csv": features.to_csv(index=False),
        "sample_request.json": json.dumps({"instances": instances}, indent=1),
        "sample_response.json": json.dumps(as_json(model, model.predict(features)), indent=1),
    }
    with tempfile.TemporaryDirectory() as scratch:
        save(model, Path(scratch))
        for name, text in texts.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        shutil.copytree(scratch, folder, dirs_exist_ok=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; hyperparameters have the names and underscores that SageMaker passes."""
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--validation", type=Path, default=os.environ.get("SM_CHANNEL_VALIDATION"))
    parser.add_argument("--model-dir", type=Path, default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--num_round", type=int, default=200)
    parser.add_argument("--max_depth", type=int, default=4)
    parser.add_argument("--eta", type=float, default=0.1)
    parser.add_argument("--min_child_weight", type=float, default=1.0)
    parser.add_argument("--subsample", type=float, default=1.0)
    parser.add_argument("--colsample_bytree", type=float, default=1.0)
    parser.add_argument("--reg_lambda", type=float, default=1.0)
    parser.add_argument("--early_stopping_rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    for name in ("train", "validation", "model_dir"):
        if getattr(args, name) is None:
            parser.error(f"--{name.replace('_', '-')} is needed outside a SageMaker job")
    for name in ("num_round", "early_stopping_rounds"):  # XGBoost takes 0 and has no best round then
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}: correct [hyperparameters]")
    return args


def main(argv: list[str] | None = None) -> None:
    """Read, fit, write."""
    args = parse(argv)
    try:
        schema = load_schema()
        tables = {"train": read_split(Path(args.train)), "validation": read_split(Path(args.validation))}
        with shared() as share:
            model, record = train(tables, schema, args, share)
    except DataError as error:
        fail(error)
    except xgb.core.XGBoostError as error:
        fail(f"XGBoost: {_reason(error)}")
    if not share.is_first:
        print(f"trained {share.rank + 1} of {share.count} shares: the first host writes the model")
        return
    write_artifact(model, record, tables["validation"].head(5), Path(args.model_dir))
    name, value = next(iter(record["best"].items()))
    print(f"kept {record['rounds']} rounds, validation-{name}={value:.5f}")


def _reason(error: Exception) -> str:
    """The telling line of what XGBoost says.

    It is the first, after the place in XGBoost's code; help and the addresses of its code follow. Hosts that lose each
    other get a list from the outermost call inwards instead, where only the last line says what happened.
    """
    lines = [line.strip() for line in str(error).partition("Stack trace:")[0].splitlines()]
    telling = next((line for line in lines if line), "it gives no reason")
    causes = [line for line in lines if line.startswith("- [")]
    if causes:
        return f"another host of this job failed or was lost, and its log says why: {_PLACE.sub('', causes[-1])}"
    return _PLACE.sub("", telling)


if __name__ == "__main__":
    main()
