"""Train and validation rows -> the model artifact. The estimator is in estimator.py.

    python model/train.py --train /tmp/out/train --validation /tmp/out/validation --model-dir /tmp/model --max_depth 6

On SageMaker the folders come from SM_CHANNEL_TRAIN, SM_CHANNEL_VALIDATION and SM_MODEL_DIR. The last line has the
metrics of the model on the validation rows: `kept the model with validation-accuracy=0.98913 validation-auc=0.99634`.
The step Tune reads it.
"""

import argparse
import inspect
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import estimator
from artifact import SEEN, Model, save
from data import (
    SPLIT,
    DataError,
    Rows,
    Schema,
    encode_target,
    fail,
    join_negatives,
    load_schema,
    read_split,
    row_digests,
    row_weights,
)
from decision import choose_threshold
from drift import profile
from features import make_preprocessing
from inference import transform_fn
from metrics import METRICS, measure

LIBRARIES = ("numpy", "pandas", "pyarrow", "sklearn", "xgboost", "lightgbm", "torch")  # to record, of those in use


def hyperparameters() -> dict[str, Any]:
    """Return the hyperparameters of `estimator.fit` with their defaults."""
    keywords = [p for p in inspect.signature(estimator.fit).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {parameter.name: parameter.default for parameter in keywords}


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
    for name, default in hyperparameters().items():
        if type(default) not in (int, float, str):
            fail(f"fit in model/estimator.py: {name} needs a default that is an integer, a decimal or a text")
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(join_negatives(argv))
    for name in ("train", "validation", "model_dir"):
        if getattr(args, name) is None:
            fail(f"--{name.replace('_', '-')} is needed outside a SageMaker job")
    return args


def train(tables: dict[str, pd.DataFrame], schema: Schema, chosen: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Fit preprocessing and estimator on `tables["train"]`. Returns the model and training.json's content."""
    preprocessing = make_preprocessing(schema).fit(tables["train"][list(schema.columns)])
    rows = {}
    for name, table in tables.items():
        target = encode_target(table[schema.target], schema)
        matrix = preprocessing.transform(table[list(schema.columns)])
        rows[name] = Rows(matrix, target, row_weights(target, schema))
    fitted = estimator.fit(rows["train"], rows["validation"], schema, **chosen)
    model, y = Model(schema, preprocessing, fitted), rows["validation"].target
    predicted = model.predict(tables["validation"])
    if schema.problem_type == "binary_classification":
        model = Model(schema, preprocessing, fitted, choose_threshold(y, predicted, schema))
    measured = measure(METRICS[schema.problem_type], y, predicted, model.threshold)
    record = {
        "validation": {name: value for name, value in measured.items() if math.isfinite(value)},
        "hyperparameters": chosen,
        "rows": {name: len(table) for name, table in tables.items()},
        "threshold": model.threshold,
        "profile": profile(tables, schema),
        "versions": {"python": platform.python_version()}
        | {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules},
    }
    return model, record


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
        chosen = {name: getattr(args, name) for name in hyperparameters()}
        model, record = train(tables, schema, chosen)
    except DataError as error:
        fail(error)
    hosts = sorted(json.loads(os.environ.get("SM_HOSTS") or "[]"))
    if len(hosts) > 1 and os.environ["SM_CURRENT_HOST"] != hosts[0]:
        print("the first host writes the model")
        return
    split = args.train / SPLIT
    record["split"] = json.loads(split.read_text(encoding="utf-8")) if split.is_file() else {}
    write_artifact(model, record, tables, args.model_dir)
    print("kept the model with", *(f"validation-{name}={value:.5f}" for name, value in record["validation"].items()))


if __name__ == "__main__":
    main()
