"""Multiplies rows by the model's width."""

import json
from pathlib import Path
from typing import Any


def model_fn(folder: str) -> Any:
    return json.loads((Path(folder) / "model.json").read_text())


def input_fn(body: bytes, content_type: str) -> list[int]:
    return [int(word) for word in body.split()]


def predict_fn(rows: list[int], model: Any) -> list[int]:
    return [row * int(model["width"]) for row in rows]


def output_fn(rows: list[int], accept: str) -> tuple[str, str]:
    return "\n".join(map(str, rows)), accept
