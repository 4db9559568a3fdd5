"""Writes what the two models are, as a property file."""

import json
import sys
import tarfile
from pathlib import Path

job = Path(__file__).parents[2]  # /opt/ml/processing in a container


def read(name: str) -> dict[str, object]:
    """What is in the model that is input NAME."""
    with tarfile.open(job / name / "model.tar.gz") as tar:
        stream = tar.extractfile("model.json")
        assert stream
        return {"name": name, "file name": "model.json", **json.load(stream)}


words = dict(word.split(":", 1) for word in sys.argv[1:])
models = [read("best"), read("once")]
findings = {"models": models, "least": min(float(str(model["distance"])) for model in models), "words": words}
(job / "report" / "findings.json").write_text(json.dumps(findings))
