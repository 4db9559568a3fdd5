"""A generated project whose scripts take no time, and what must hold for its state after any attack.

`python fast_project.py FOLDER` checks the state of the project in a folder.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))

from sagegate.local.state import Execution, read_json, versions  # noqa: E402

PREPROCESS = """
import pathlib, sys
import pandas  # the process that starts jobs is busy with it for a while
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
data = b"".join(file.read_bytes() for file in sorted(pathlib.Path(given["--input"]).iterdir()))
for name in ("train", "validation", "test", "report"):
    (pathlib.Path(given["--output"]) / name / "rows.txt").write_bytes(data)
"""
TRAIN = """
import os, pathlib, sys
rows = (pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]) / "rows.txt").read_text()
(pathlib.Path(os.environ["SM_MODEL_DIR"]) / "model.txt").write_text(f"{sys.argv[1:]} {len(rows)}")
"""
EVALUATE = """
import hashlib, json, pathlib, sys
given = {key: pathlib.Path(value) for key, value in zip(sys.argv[1::2], sys.argv[2::2])}
digest = lambda file: hashlib.sha256(file.read_bytes()).hexdigest()
record = given["--champion"] / "champion.json"
if not record.is_file() and not (given["--champion"] / "no-champion.json").is_file():
    sys.exit("the champion is incomplete: run `sagegate approve VERSION` again")
if record.is_file() and json.loads(record.read_text())["digest"] != digest(given["--champion"] / "model.tar.gz"):
    sys.exit("the champion's artifact is not the recorded one: run `sagegate approve VERSION` again")
version = json.loads(record.read_text())["version"] if record.is_file() else None
gate = {"metric": "auc", "greater_is_better": True, "candidate": 1.0, "threshold": 0.5, "threshold_margin": 0.5}
gate |= {"champion": version and 1.0, "champion_version": version, "improvement": version and 0.0}
gate |= {"lowest_improvement": version and 0.0, "min_improvement": 0.0, "confidence": 0.95, "reason": "fine"}
gate |= {"champion_verdict": "passed" if version else "no champion", "passed": True}
lineage = {"artifact_sha256": digest(given["--model"] / "model.tar.gz")}
(given["--output"] / "evaluation.json").write_text(json.dumps({"gate": gate, "lineage": lineage}))
"""


class Project:
    """The project in `root`, the Python of its environment, and variables for its commands."""

    def __init__(self, root: Path, python: Path, env: dict[str, str] | None = None) -> None:
        self.root, self.python, self.state, self.env = root, python, root / ".mlops", env or {}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of sagegate."""
        from conftest import without_shell_settings

        env, pipe = without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | self.env), subprocess.PIPE
        command = [str(self.python), "-m", "sagegate", *arguments]
        return subprocess.Popen(command, cwd=self.root, env=env, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return its output; its exit code must be `code`."""
        process = self.start(*arguments)
        out, error = process.communicate(timeout=120)
        assert process.returncode == code, f"{arguments}: exit code {process.returncode}: {out}{error}"
        return out + error

    def processes(self) -> list[str]:
        """Wait up to ten seconds until no process works in the project; return what is left."""
        deadline, left = time.monotonic() + 10, ["?"]
        while left and time.monotonic() < deadline:
            left = [command for pid in os.listdir("/proc") if pid.isdigit() if (command := self._command(pid))]
            time.sleep(0.02 if left else 0)
        return left

    def _command(self, pid: str) -> str:
        try:
            inside = os.readlink(f"/proc/{pid}/cwd").startswith(str(self.root))
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() if inside else ""
        except OSError:
            return ""

    def check(self) -> str:
        """Check every record, the registry and the champion; return what a killed command left to repair, or ""."""
        for place in ("executions/*/*.json", "executions/*/steps/*.json", "descriptions/*.json", "cache/*.json"):
            for file in self.state.glob(place):
                read_json(file)
        for file in self.state.glob("executions/*/execution.json"):
            status = Execution.load(file.parent).status
            assert status in ("Succeeded", "Failed", "Stopped"), f"{file.parent.name} is {status}"
        for folder in self.state.glob("pipelines/*"):
            assert all(read_json(folder / f"{number}.json")["PipelineDefinition"] for number in versions(folder))
        packages = self.packages()
        assert sorted(packages) == list(range(1, len(packages) + 1)), f"versions {sorted(packages)}"
        for version, package in packages.items():
            assert package["ModelPackageVersion"] == version
            evaluation = self.object(package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"])
            artifact = self.object(package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"])
            recorded = json.loads(evaluation.read_text())["lineage"]["artifact_sha256"]
            assert hashlib.sha256(artifact.read_bytes()).hexdigest() == recorded, f"artifact of version {version}"
        return self._check_champion(packages)

    def _check_champion(self, packages: dict[int, Any]) -> str:
        folders = list(self.state.glob("s3/*/*/champion"))
        names = {file.name for folder in folders for file in folder.iterdir() if file.name[0] != "."}
        if "champion.json" not in names:
            return "" if names <= {"no-champion.json"} else "a model without its record"
        record = json.loads((folders[0] / "champion.json").read_text())
        package, model = packages[record["version"]], folders[0] / "model.tar.gz"
        if not model.is_file() or hashlib.sha256(model.read_bytes()).hexdigest() != record["digest"]:
            return "a record of another model"
        artifact = self.object(package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"])
        assert artifact.read_bytes() == model.read_bytes(), "the champion is not the version that its record names"
        is_approved = package["ModelApprovalStatus"] == "Approved"
        return "" if is_approved and names == {"champion.json", "model.tar.gz"} else "an approval that was not finished"

    def packages(self) -> dict[int, Any]:
        """Return the registered versions."""
        folder = self.state / "registry" / "my-model"
        return {number: read_json(folder / f"{number}.json") for number in versions(folder)}

    def object(self, uri: str) -> Path:
        """Return the file of an object."""
        return self.state / "s3" / uri.removeprefix("s3://")


def make_project(folder: Path) -> Project:
    """Generate the project, and run its pipeline once."""
    from clean_copy import copy_template
    from conftest import bake_template, shared_environment

    root = bake_template(copy_template(folder / "template"), folder / "baked")
    python = shared_environment(root)
    for name, text in {"preprocess": PREPROCESS, "train": TRAIN, "evaluate": EVALUATE}.items():
        (root / "model" / f"{name}.py").write_text(text)
    project = Project(root.resolve(), python)
    project.run("run")
    assert project.check() == ""
    return project


def check_output(command: str, code: int, out: str, error: str) -> None:
    """Fail unless a command ended with a result, or with one line on standard error."""
    assert "Traceback" not in out + error, f"{command}: {out}{error}"
    assert code in (0, 1, 3), f"{command}: exit code {code}: {out}{error}"
    verdicts = [line for line in [*out.splitlines(), *error.splitlines()] if line.startswith(("✘", "sagegate: "))]
    assert (code == 0) == (not verdicts) and len(verdicts) < 2, f"{command}: exit code {code}: {out}{error}"


if __name__ == "__main__":
    print(Project(Path(sys.argv[1]), Path(sys.executable)).check())
