"""Copies the rows that are numbers. Its paths are written in it, as in many examples."""

from pathlib import Path

lines = Path("/opt/ml/processing/raw/rows.csv").read_text().split()
kept = [line for line in lines if line.isdigit()]
Path("/opt/ml/processing/clean/rows.csv").write_text("\n".join(kept) + "\n")
