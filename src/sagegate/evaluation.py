"""The metrics file that Evaluate writes: metrics with their standard deviation, and the gate's numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sagegate.files import Json


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.json`: the metrics (value, standard deviation) by name, the gate's numbers, and the rest of it."""

    metrics: dict[str, tuple[float, float | None]]
    gate: Json
    uri: str = ""
    digest: str = ""  # SHA-256 of the file
    body: Json = field(default_factory=dict)
