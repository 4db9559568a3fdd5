"""Writes what the model is, under a title."""

import sys
import tarfile
from pathlib import Path

with tarfile.open("/opt/ml/processing/model/model.tar.gz") as tar:
    stream = tar.extractfile("model.json")
    assert stream
    Path("/opt/ml/processing/report/report.txt").write_text(f"{sys.argv[1:]}\n{stream.read().decode()}")
