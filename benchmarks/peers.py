"""Other tools that run the same three scripts: those that are installed take part in `make bench`.

Each writes its own description of the three stages into the contest's folder, in its simplest idiomatic form, and
counts as one whole command: once with every stage forced to run, and, if the tool has a cache, once more with nothing
changed. make, DVC and Snakemake run each stage in a process of its own; Kedro and Dagster run all of them in one;
Metaflow and ZenML do as they do by default, a process for each step and one for all. A tool takes part when it is on
the PATH; none is installed for you. Those whose steps are Python functions import the scripts, so their environment
needs the project's libraries:

    uv venv peers && uv pip install --python peers kedro dagster metaflow 'zenml[local]' dvc snakemake \\
        xgboost-cpu==3.2.0 scikit-learn==1.8.0 pandas==2.2.3 numpy==2.1.0 scipy==1.15.0 pyarrow==22.0.0
    PATH="$PWD/peers/bin:$PATH" make bench
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """A script of `model/` and its arguments; `pack` is a shell command that follows it, `reads` what it depends on."""

    name: str
    python: str
    arguments: list[str]
    reads: list[str]
    pack: str = ""

    @property
    def command(self) -> str:
        """The stage as a shell command."""
        command = " ".join([self.python, f"model/{self.name}.py", *self.arguments])
        return f"{command} && {self.pack}" if self.pack else command


@dataclass(frozen=True)
class Peer:
    """How to run a tool: every stage; and, if it can know, with nothing changed. `environment` goes with both."""

    every: list[str]
    again: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)


def installed(folder: Path, stages: list[Stage]) -> tuple[dict[str, Peer], dict[str, str]]:
    """The tools that can run, after their descriptions have been written into `folder`; and why the others cannot."""
    found, missing = {}, {}
    for name, prepare in PEERS.items():
        program = shutil.which(name)
        if program is None:
            missing[name] = "not installed"
        elif name in IN_PYTHON and not _has_libraries(_python_of(program)):
            missing[name] = "its environment lacks the project's libraries"
        else:
            found[name] = prepare(program, folder, stages)
    return found, missing


def _python_of(program: str) -> str:
    """The Python of the environment that a command line is installed in."""
    return str(Path(program).parent / "python")


def _has_libraries(python: str) -> bool:
    command = [python, "-c", "import pandas, pyarrow, sklearn, xgboost"]
    return Path(python).exists() and subprocess.run(command, capture_output=True).returncode == 0


def _make(program: str, folder: Path, stages: list[Stage]) -> Peer:
    rules = [f"all: make-{stages[-1].name}.mark"]
    for stage, before in zip(stages, ["", *_marks("make", stages)], strict=False):
        rules += [f"make-{stage.name}.mark: {' '.join(stage.reads)} {before}", f"\t{stage.command}", "\ttouch $@"]
    (folder / "peer.mk").write_text("\n".join([*rules, ".PHONY: all", ""]))
    again = [program, "-s", "-f", "peer.mk"]
    return Peer([*again, "-B"], again)


def _marks(tool: str, stages: list[Stage]) -> list[str]:
    return [f"{tool}-{stage.name}.mark" for stage in stages]


def _dvc(program: str, folder: Path, stages: list[Stage]) -> Peer:
    """DVC without source control; a stage's output is a mark, so that DVC does not move the data about."""
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
    described: dict[str, object] = {}
    for stage, before in zip(stages, ["", *_marks("dvc", stages)], strict=False):
        mark = f"dvc-{stage.name}.mark"
        needs = [*stage.reads, before] if before else stage.reads
        described[stage.name] = {"cmd": f"{stage.command} && echo done > {mark}", "deps": needs, "outs": [mark]}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": described}))
    return Peer([program, "repro", "--force", "--quiet"], [program, "repro", "--quiet"])


def _snakemake(program: str, folder: Path, stages: list[Stage]) -> Peer:
    rules = [f"rule all:\n    input: 'snakemake-{stages[-1].name}.mark'\n"]
    for stage, before in zip(stages, ["", *_marks("snakemake", stages)], strict=False):
        mark = f"snakemake-{stage.name}.mark"
        needs = [*stage.reads, before] if before else stage.reads
        shell = f"{stage.command} && echo done > {mark}"
        rules.append(f"rule {stage.name}:\n    input: {needs}\n    output: {mark!r}\n    shell: {shell!r}\n")
    (folder / "Snakefile").write_text("\n".join(rules))
    again = [program, "--cores", "2", "--quiet", "all"]
    return Peer([*again, "--forceall"], again)


def _functions(stages: list[Stage], decorator: str, inputs: str) -> str:
    """A function for each stage, which imports its script when it is called, as one does to start quickly."""
    text = "import subprocess\nimport sys\n\nsys.path.insert(0, 'model')\n\n"
    for number, stage in enumerate(stages):
        taken = inputs if number else ""
        before = decorator.format(number=number, before=stages[number - 1].name if number else "")
        text += f"\n{before}\ndef {stage.name}_stage({taken}) -> str:\n    import {stage.name}\n\n"
        text += f"    {stage.name}.main({stage.arguments!r})\n"
        text += f"    subprocess.run({stage.pack!r}, shell=True, check=True)\n" if stage.pack else ""
        text += f"    return {stage.name!r}\n\n"
    return text


def _kedro(program: str, folder: Path, stages: list[Stage]) -> Peer:
    text = "from kedro.io import DataCatalog\nfrom kedro.pipeline import node, pipeline\n"
    text += "from kedro.runner import SequentialRunner\n" + _functions(stages, "", "before: str")
    nodes = [
        f"node({stage.name}_stage, {stages[number - 1].name if number else None!r}, {stage.name!r})"
        for number, stage in enumerate(stages)
    ]
    text += f"SequentialRunner().run(pipeline([{', '.join(nodes)}]), DataCatalog())\n"
    (folder / "peer_kedro.py").write_text(text)
    return Peer([_python_of(program), "peer_kedro.py"], environment={"DO_NOT_TRACK": "1"})


def _dagster(program: str, folder: Path, stages: list[Stage]) -> Peer:
    names = [f"{stage.name}_stage" for stage in stages]
    text = "from dagster import asset, materialize\n"
    text += _functions(stages, "@asset", "").replace("@asset", "@asset()")
    for name, before in zip(names[1:], names, strict=False):
        text = text.replace(f"@asset()\ndef {name}(", f"@asset(deps=[{before}])\ndef {name}(")
    text += f"assert materialize([{', '.join(names)}]).success\n"
    (folder / "peer_dagster.py").write_text(text)
    return Peer([_python_of(program), "peer_dagster.py"], environment={"DAGSTER_DISABLE_TELEMETRY": "1"})


def _metaflow(program: str, folder: Path, stages: list[Stage]) -> Peer:
    """Three steps, the first and the last under the names that Metaflow wants."""
    steps = ["start", stages[1].name, "end"]
    text = "import subprocess\nimport sys\n\nfrom metaflow import FlowSpec, step\n\nsys.path.insert(0, 'model')\n\n\n"
    text += "class Peer(FlowSpec):\n"
    for number, (name, stage) in enumerate(zip(steps, stages, strict=True)):
        text += f"    @step\n    def {name}(self):\n        import {stage.name}\n\n"
        text += f"        {stage.name}.main({stage.arguments!r})\n"
        text += f"        subprocess.run({stage.pack!r}, shell=True, check=True)\n" if stage.pack else ""
        text += f"        self.next(self.{steps[number + 1]})\n\n" if number + 1 < len(steps) else "\n"
    (folder / "peer_metaflow.py").write_text(text + "\nif __name__ == '__main__':\n    Peer()\n")
    store = str(folder / "metaflow")
    environment = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": store, "METAFLOW_HOME": store, "METAFLOW_USER": "bench"}
    command = [_python_of(program), "peer_metaflow.py", "--quiet"]
    return Peer([*command, "run"], [*command, "resume"], environment)


def _zenml(program: str, folder: Path, stages: list[Stage]) -> Peer:
    """With a store of its own in `folder`: its metadata are in SQLite, its artifacts are files."""
    text = "from zenml import pipeline, step\n" + _functions(stages, "@step", "before: str")
    text += "\n@pipeline\ndef peer() -> None:\n    done = " + f"{stages[0].name}_stage()\n"
    text += "".join(f"    done = {stage.name}_stage(done)\n" for stage in stages[1:])
    text += "\n\nif __name__ == '__main__':\n    peer.with_options(enable_cache='--cache' in sys.argv)()\n"
    (folder / "peer_zenml.py").write_text(text)
    environment = {
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_LOCAL_STORES_PATH": str(folder / "zenml" / "stores"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "ERROR",
    }
    command = [_python_of(program), "peer_zenml.py"]
    return Peer(command, [*command, "--cache"], environment)


IN_PYTHON = ("kedro", "dagster", "metaflow", "zenml")
PEERS: dict[str, Callable[[str, Path, list[Stage]], Peer]] = {
    "make": _make,
    "dvc": _dvc,
    "snakemake": _snakemake,
    "kedro": _kedro,
    "dagster": _dagster,
    "metaflow": _metaflow,
    "zenml": _zenml,
}
