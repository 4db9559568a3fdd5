"""Train and validation rows -> the model artifact, with XGBoost. Stops early and keeps the best round.

    python model/train.py --train /tmp/out/train --validation /tmp/out/validation --model-dir /tmp/model --max_depth 6

On SageMaker the folders come from SM_CHANNEL_TRAIN, SM_CHANNEL_VALIDATION and SM_MODEL_DIR. Each round logs
`[12] train-logloss=0.10123 validation-logloss=0.14456`. The last line has the metrics of the model that was kept:
`kept 57 rounds, validation-error=0.01754 validation-logloss=0.07161`. The step Tune reads it.
"""

import argparse
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sklearn
import xgboost as xgb
from xgboost import collective

from artifact import SEEN, Model, save, threads
from data import SPLIT, DataError, Schema, encode_target, fail, join_negatives, load_schema, read_split, row_digests
from drift import profile
from features import make_preprocessing
from hosts import all_hosts
from inference import transform_fn

OBJECTIVES = {
    "binary_classification": {"objective": "binary:logistic", "eval_metric": ["error", "logloss"]},
    "multiclass_classification": {"objective": "multi:softprob", "eval_metric": ["merror", "mlogloss"]},
    "regression": {"objective": "reg:squarederror", "eval_metric": ["mae", "rmse"]},
}  # early stopping watches the last metric: a loss still improves where accuracy or auc stand still


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line. Hyperparameters have underscores, as SageMaker passes them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --max is no --max_depth
    )
    parser.add_argument("--train", type=Path, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--validation", type=Path, default=os.environ.get("SM_CHANNEL_VALIDATION"))
    parser.add_argument("--model-dir", type=Path, default=os.environ.get("SM_MODEL_DIR"))
    # --- EDIT HERE: one flag for each name below [hyperparameters] in mlops.toml ---
    parser.add_argument("--num_round", type=int, default=200)
    parser.add_argument("--max_depth", type=int, default=4)
    parser.add_argument("--eta", type=float, default=0.1)
    parser.add_argument("--min_child_weight", type=float, default=1.0)
    parser.add_argument("--subsample", type=float, default=1.0)
    parser.add_argument("--colsample_bytree", type=float, default=1.0)
    parser.add_argument("--reg_lambda", type=float, default=1.0)
    parser.add_argument("--early_stopping_rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    # --- end ---
    args = parser.parse_args(join_negatives(argv))
    for name in ("train", "validation", "model_dir"):
        if getattr(args, name) is None:
            fail(f"--{name.replace('_', '-')} is needed outside a SageMaker job")
    for name in ("num_round", "early_stopping_rounds"):  # XGBoost accepts 0, but then has no best round
        if getattr(args, name) < 1:
            fail(f"--{name} must be at least 1, not {getattr(args, name)}: correct [hyperparameters]")
    return args


def train(tables: dict[str, pd.DataFrame], schema: Schema, args: argparse.Namespace) -> tuple[Model, dict[str, Any]]:
    """Fit preprocessing and booster on `tables["train"]`. Returns the model and training.json's content."""
    preprocessing = make_preprocessing(schema).fit(tables["train"][list(schema.columns)])
    nthread = threads(tables["train"].size)
    rank, count = collective.get_rank(), collective.get_world_size()  # 0 and 1 on a single host
    matrices: dict[str, xgb.DMatrix] = {}
    for name, table in tables.items():
        if len(table) < count:
            raise DataError(f"the {name} set has {len(table)} rows for {count} hosts: use fewer hosts")
        rows = table.iloc[rank::count]
        matrix = preprocessing.transform(rows[list(schema.columns)]).astype(np.float32)
        label = encode_target(rows[schema.target], schema)
        matrices[name] = xgb.QuantileDMatrix(matrix, label=label, ref=matrices.get("train"), nthread=nthread)
    # --- EDIT HERE: the estimator and its parameters. Another library than XGBoost also needs model/artifact.py ---
    parameters = {
        "max_depth": args.max_depth,
        "eta": args.eta,
        "min_child_weight": args.min_child_weight,
        "subsample": args.subsample,
        "colsample_bytree": args.colsample_bytree,
        "reg_lambda": args.reg_lambda,
        "seed": args.seed,
        "tree_method": "hist",
        "nthread": nthread,
        **OBJECTIVES[schema.problem_type],
    }
    if schema.problem_type == "multiclass_classification":
        parameters["num_class"] = len(schema.classes)
    history: dict[str, dict[str, list[float]]] = {}  # by table and metric, a value for each round
    booster = xgb.train(
        parameters,
        matrices["train"],
        num_boost_round=args.num_round,
        evals=[(matrices[name], name) for name in tables],
        evals_result=history,
        verbose_eval=False,
        callbacks=[LogRounds(), xgb.callback.EarlyStopping(rounds=args.early_stopping_rounds, save_best=True)],
    )
    # --- end ---
    modules = (np, pa, pd, sklearn, xgb)
    rounds = booster.num_boosted_rounds()
    record = {
        "rounds": rounds,
        "validation": {name: values[rounds - 1] for name, values in history["validation"].items()},
        "hyperparameters": parameters | {"num_round": args.num_round},
        "rows": {name: len(table) for name, table in tables.items()},
        "profile": profile(tables, schema),
        "versions": {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules},
    }
    return Model(schema, preprocessing, booster), record


class LogRounds(xgb.callback.TrainingCallback):
    """A log line per round, with each metric."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Print the round's metrics. The result tells XGBoost whether to stop."""
        values = [f"{data}-{name}={log[-1]:.5f}" for data, logs in evals_log.items() for name, log in logs.items()]
        print(f"[{epoch}] {' '.join(values)}")
        return False


def write_artifact(model: Model, record: dict[str, Any], tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write everything that the model artifact holds into `folder`."""
    sample = tables["validation"].head(5)
    rows = json.loads(sample[list(model.schema.columns)].to_json(orient="records", date_format="iso"))
    request = json.dumps({"instances": rows}, indent=1)
    # What an endpoint must answer: the smoke test of a deployment compares the two.
    response, _ = transform_fn(model, request, "application/json", "application/json")
    save(model, folder)
    (folder / "sample_request.json").write_text(request, encoding="utf-8")
    (folder / "sample_response.json").write_text(response, encoding="utf-8")
    # A later evaluation leaves these rows out of its test rows: as the champion, this model must not know them.
    digests = [row_digests(table, model.schema) for table in tables.values()]
    np.save(folder / SEEN, np.unique(np.concatenate(digests)))
    (folder / "training.json").write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Read, fit, write."""
    args = parse(argv)
    try:
        schema = load_schema()
        tables = {"train": read_split(args.train), "validation": read_split(args.validation)}
        with all_hosts():
            rank = collective.get_rank()
            model, record = train(tables, schema, args)
    except DataError as error:
        fail(error)
    except xgb.core.XGBoostError as error:
        fail(f"XGBoost: {reason(error)}")
    if rank > 0:
        print("trained a share of the rows: the first host writes the model")
        return
    split = args.train / SPLIT
    record["split"] = json.loads(split.read_text(encoding="utf-8")) if split.is_file() else {}
    write_artifact(model, record, tables, args.model_dir)
    metrics = " ".join(f"validation-{name}={value:.5f}" for name, value in record["validation"].items())
    print(f"kept {record['rounds']} rounds, {metrics}")


def reason(error: Exception) -> str:
    """Return the informative line of an XGBoost error, without the place in XGBoost's code.

    It is the first line; help follows. When a host is lost there is a list instead, from the outermost call inwards,
    whose last line is the cause.
    """
    lines = [line.strip() for line in str(error).partition("Stack trace:")[0].splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("- [")]
    line = re.sub(r"^(\[[\d:]+\] \S+:\d+: |- \[[^\]]*\]: )", "", (causes or lines[:1])[-1])
    return f"another host of this job failed or was lost, and its log says why: {line}" if causes else line


if __name__ == "__main__":
    main()
