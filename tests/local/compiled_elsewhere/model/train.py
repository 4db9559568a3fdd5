"""Trains nothing: the model is what it was told, and how far width x rate is from the target."""

import argparse
import json
import os
import shutil
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
parser.add_argument("--rate", type=float, required=True)
parser.add_argument("--target", type=int, required=True)
parser.add_argument("--note", default="")
args = parser.parse_args()
rows = (Path(os.environ["SM_CHANNEL_CLEAN"]) / "rows.csv").read_text().split()
distance = abs(args.width * args.rate - args.target)
folder = Path(os.environ["SM_MODEL_DIR"])
(folder / "model.json").write_text(json.dumps({**vars(args), "rows": len(rows), "distance": distance}))
(folder / "code").mkdir()
shutil.copy(Path(__file__).with_name("inference.py"), folder / "code")
print(f"distance={distance:.6f};")
