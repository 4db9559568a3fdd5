"""Copies the rows that are numbers."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--mode", required=True)
mode = parser.parse_args().mode
job = Path(__file__).parents[2]  # /opt/ml/processing in a container
lines = (job / "raw" / "rows.csv").read_text().split()
kept = [line for line in lines if line.isdigit()]
(job / "clean" / "rows.csv").write_text("\n".join(kept) + "\n")
print(f"{mode}: {len(kept)} of {len(lines)} rows")
