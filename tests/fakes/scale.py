"""AWS waits minutes: here a minute takes moments, by one factor that all waits and alarm periods share."""

from __future__ import annotations

import os


def scaled(seconds: float) -> float:
    """AWS's seconds as seconds here: times STAND_IN_TIME_SCALE (0.01 unless set)."""
    return seconds * float(os.environ.get("STAND_IN_TIME_SCALE", "0.01"))
