"""The metrics file that the step Evaluate writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from sagegate.files import Json


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.json`: metrics as (value, standard deviation) by name, the gate's numbers, and the whole file."""

    metrics: dict[str, tuple[float, float | None]]
    gate: Json
    uri: str = ""
    digest: str = ""  # SHA-256 of the file
    body: Json = field(default_factory=dict)
