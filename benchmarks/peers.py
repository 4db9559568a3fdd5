"""What users would otherwise pick, running the same three scripts: those that are installed take part in `make bench`.

Each writes its own description of the three stages into the contest's folder, forces every stage to run, and counts as
one whole command. Put a tool on the PATH to have it measured; none is installed for you.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

Stages = list[tuple[str, str]]  # name and shell command, in order


def installed(folder: Path, stages: Stages) -> dict[str, list[str]]:
    """The command of each tool that is on the PATH, after its description has been written into `folder`."""
    found = {}
    for name, prepare in PEERS.items():
        program = shutil.which(name)
        if program:
            found[name] = [program, *prepare(folder, stages)]
    return found


def _make(folder: Path, stages: Stages) -> list[str]:
    rules, before = ["all: " + stages[-1][0]], ""
    for name, command in stages:
        rules += [f"{name}: {before}", f"\t{command}"]
        before = name
    (folder / "peer.mk").write_text("\n".join([*rules, ".PHONY: all " + " ".join(n for n, _ in stages), ""]))
    return ["-s", "-f", "peer.mk"]


def _dvc(folder: Path, stages: Stages) -> list[str]:
    """DVC without source control; a stage's output is a mark, so that DVC does not move the data about."""
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
    described, before = {}, None
    for name, command in stages:
        mark = f"dvc-{name}.mark"
        stage: dict[str, object] = {"cmd": f"{command} && echo done > {mark}", "outs": [mark]}
        described[name] = stage | ({"deps": [before]} if before else {})
        before = mark
    (folder / "dvc.yaml").write_text(json.dumps({"stages": described}))
    return ["repro", "--force", "--quiet"]


def _snakemake(folder: Path, stages: Stages) -> list[str]:
    rules, before = [f"rule all:\n    input: 'snake-{stages[-1][0]}.mark'\n"], ""
    for name, command in stages:
        source = f"    input: '{before}'\n" if before else ""
        mark = f"snake-{name}.mark"
        rules.append(
            f"rule {name}:\n{source}    output: '{mark}'\n    shell: {command + ' && echo done > ' + mark!r}\n"
        )
        before = mark
    (folder / "Snakefile").write_text("\n".join(rules))
    return ["--cores", "2", "--forceall", "--quiet", "all"]


PEERS: dict[str, Callable[[Path, Stages], list[str]]] = {"make": _make, "dvc": _dvc, "snakemake": _snakemake}
