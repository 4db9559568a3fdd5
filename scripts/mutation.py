"""Change the gate, promotion and the cache key in one place at a time, and see whether a test fails.

    python scripts/mutation.py [MODULE...]

cosmic-ray makes the changes, in copies in build/mutation/. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import ast
import collections
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "scripts", "tests")]

from clean_copy import copy_template  # noqa: E402
from conftest import PROBLEM_TYPES, bake_template, find_uv, shared_environment  # noqa: E402

# Most `/` and `|` join paths, types and dictionaries here: to replace them tells nothing.
SKIPPED = ["core/ReplaceBinaryOperator_(Div|BitOr)_"]
CONFIG = """[cosmic-ray]
module-path = {file}
timeout = {timeout}
test-command = {command}
distributor.name = "local"
filters.operators-filter.exclude-operators = {skipped}
filters.line-filter.lines.{file} = {lines}
"""


@dataclass(frozen=True)
class Module:
    """A file, the tests that cover it, and the functions to change (by default all)."""

    file: str
    tests: str
    functions: tuple[str, ...] = ()


GATE = "tests/test_gate.py tests/test_model.py"
PROMOTION = "tests/unit/test_promotion.py tests/aws/promotion"
CACHE = "tests/unit/test_cache.py tests/local/test_order.py tests/local/test_state.py"
MODULES = {
    "evaluate": Module("model/evaluate.py", GATE),
    "metrics": Module("model/metrics.py", GATE, ("learned_nothing", "resample", "lowest_difference")),
    "promote": Module("src/sagegate/promotion/promote.py", PROMOTION),
    "deployments": Module("src/sagegate/registry/deployments.py", f"tests/unit/test_gate_record.py {PROMOTION}"),
    "approval": Module("src/sagegate/registry/approval.py", "tests/unit/test_approved.py"),
    "champion": Module("src/sagegate/registry/champion.py", "tests/unit/test_approved.py"),
    "cache": Module("src/sagegate/local/cache.py", CACHE),
}


def prepare(module: Module, folder: Path) -> tuple[Path, str]:
    """Copy what a module needs into `folder`; return where its file is below, and the command that tests it."""
    pytest = "-m pytest -x -q -p no:cacheprovider"
    copy_template(folder / "template")
    if module.file.startswith("src/"):
        copy = folder / "template"
        subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
        (copy / "build").mkdir()
        (copy / "build" / "environments").symlink_to(ROOT / "build" / "environments")
        return copy, f"{sys.executable} {pytest} {module.tests}"
    projects = [bake_template(folder / "template", folder / name, problem_type=name) for name in PROBLEM_TYPES]
    for other in projects[1:]:
        (other / module.file).unlink()
        (other / module.file).symlink_to(projects[0] / module.file)
    python = shared_environment(projects[0])
    commands = [f"cd {project} && {python} {pytest} {module.tests}" for project in projects]
    return projects[0], f"sh -c '{' && '.join(commands)}'"


def lines_of(file: Path, functions: tuple[str, ...]) -> list[str]:
    """Return the lines of functions as cosmic-ray takes them; all lines if no function is named."""
    nodes = [node for node in ast.parse(file.read_text()).body if getattr(node, "name", None) in functions]
    return [f"{node.lineno}-{node.end_lineno}" for node in nodes] or ["1-9999"]


def start(module: Module, folder: Path) -> None:
    """Make the copies and the list of changes, and see the tests pass without a change."""
    shutil.rmtree(folder, ignore_errors=True)
    base, command = prepare(module, folder)
    began = time.monotonic()
    subprocess.run(command, shell=True, cwd=base, check=True)
    text = CONFIG.format(
        file=json.dumps(module.file),
        timeout=round(10 * (time.monotonic() - began)),
        command=json.dumps(command),
        skipped=json.dumps(SKIPPED),
        lines=json.dumps(lines_of(base / module.file, module.functions)),
    )
    (folder / "config.toml").write_text(text)
    cosmic_ray("cosmic-ray", "init", "../config.toml", "../session.sqlite", folder=base)
    cosmic_ray("cr-filter-operators", "../session.sqlite", "../config.toml", folder=base)
    cosmic_ray("cr-filter-lines", "../session.sqlite", "--config", "../config.toml", folder=base)
    (folder / "base").write_text(str(base))


def cosmic_ray(*command: str, folder: Path) -> str:
    """Run a command of cosmic-ray, which is no dependency of this project; return its output."""
    uvx = [find_uv(), "tool", "run", "--quiet", "--from", "cosmic-ray==8.7.0"]
    return subprocess.run([*uvx, *command], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(name: str, base: Path) -> None:
    """Print the changes that no test noticed, and how many were noticed."""
    counts: collections.Counter[str] = collections.Counter()
    for line in cosmic_ray("cosmic-ray", "dump", "../session.sqlite", folder=base).splitlines():
        item, result = json.loads(line)
        if result["worker_outcome"] == "skipped" or not result["diff"]:  # or cosmic-ray cannot make this change
            continue
        counts[result["test_outcome"]] += 1
        if result["test_outcome"] != "killed":
            change = [each for each in result["diff"].splitlines()[3:] if each.startswith(("+", "-"))]
            print(name, item["mutations"][0]["operator_name"], *change, sep="\n  ")
    share = counts["killed"] / counts.total()
    print(f"{name}: {counts['killed']} of {counts.total()} noticed ({share:.1%})", flush=True)


def main() -> None:
    """Run the modules that are named, by default all."""
    for name in sys.argv[1:] or MODULES:
        folder = ROOT / "build" / "mutation" / name
        if not (folder / "base").is_file():
            start(MODULES[name], folder)
        base = Path((folder / "base").read_text())
        cosmic_ray("cosmic-ray", "exec", "../config.toml", "../session.sqlite", folder=base)
        report(name, base)


if __name__ == "__main__":
    main()
