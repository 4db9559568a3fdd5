"""What a model was made of, kept with it: rows, library versions, the artifact's digest, its answer to a sample.

train.py writes `lineage.json` into the artifact; evaluate.py copies it into evaluation.json, which the registry points
to. Promotion shows it to reviewers, and a deployment's smoke test holds the endpoint's answer to the sample's.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sklearn
import xgboost as xgb

from artifact import Model
from data import DataError
from inference import input_fn, output_fn, predict_fn

LINEAGE, REQUEST, RESPONSE = "lineage.json", "sample_request.json", "sample_response.json"
JSON = "application/json"


def of_training(rows: dict[str, int]) -> dict[str, Any]:
    """`lineage.json`: rows by split, and the versions of Python and the libraries that fitted the model."""
    modules = (np, pa, pd, sklearn, xgb)
    versions = {module.__name__: str(module.__version__) for module in modules}
    return {"rows": rows, "versions": {"python": platform.python_version(), **versions}}


def of_artifact(archive: Path, folder: Path, test_rows: int) -> dict[str, Any]:
    """evaluation.json's `lineage`: `lineage.json` where the artifact has one, test rows, the archive's SHA-256.

    `folder` is the unpacked `archive`. An artifact from before there was such a file has neither training rows nor
    versions here, rather than wrong ones.
    """
    try:
        found = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))
        known = {"rows": dict(found["rows"]), "versions": dict(found["versions"])}
    except FileNotFoundError:
        known = {"rows": {}, "versions": {}}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"the artifact's {LINEAGE} has no rows and versions: model/train.py must write them") from None
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    known["rows"]["test"] = test_rows
    return known | {"artifact_sha256": digest}


def sample_of(folder: Path, model: Model) -> dict[str, Any] | None:
    """evaluation.json's `sample`: the artifact's answer to its own sample request, as an endpoint must give it.

    `folder` is the unpacked artifact. None where it has no sample request. Raises DataError if the answer is not the
    one that was recorded when the model was trained.
    """
    request, recorded = folder / REQUEST, folder / RESPONSE
    if not request.is_file():
        return None
    body = request.read_bytes()
    try:
        answer, _ = output_fn(predict_fn(input_fn(body, JSON), model), JSON)
        response = json.loads(answer)
    except ValueError as error:
        raise DataError(f"inference.py cannot answer the artifact's own {REQUEST} with JSON: {error}") from None
    if recorded.is_file() and json.loads(recorded.read_text(encoding="utf-8")) != response:
        raise DataError(f"inference.py answers {REQUEST} otherwise than the artifact's {RESPONSE}: train again")
    return {"content_type": JSON, "request_sha256": hashlib.sha256(body).hexdigest(), "response": response}
