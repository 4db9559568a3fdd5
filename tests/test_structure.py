"""How the machinery is built: packages by purpose, on floors, so that a reader can start anywhere and read down."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

MLOPS = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}" / "mlops"


def imported(file: Path) -> Iterator[str]:
    """The modules of mlops that a file imports, anywhere in it: `mlops.aws`, `mlops.runs.run`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mlops"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlops":
            inner = MLOPS.joinpath(*str(node.module).split(".")[1:])
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if inner.is_dir() else [str(node.module)]


def room(module: str) -> str:
    """The package that a module is in, or the module itself on the ground floor."""
    return ".".join(module.split(".")[:2])


def plan() -> dict[str, set[str]]:
    """Room -> the rooms it imports from."""
    found: dict[str, set[str]] = {}
    for file in MLOPS.rglob("*.py"):
        here = room(".".join(["mlops", *file.relative_to(MLOPS).with_suffix("").parts]))
        found.setdefault(here, set()).update(room(module) for module in imported(file))
        found[here].discard(here)
    return found


def test_packages_import_downwards_only() -> None:
    """No package imports one that imports it, in however many steps; CycleError names the circle."""
    floors = list(TopologicalSorter(plan()).static_order())
    assert floors.index("mlops.settings") < floors.index("mlops.aws") < floors.index("mlops.runs")
    assert floors.index("mlops.runs") < floors.index("mlops.commands") < floors.index("mlops.cli")


def test_every_package_says_what_it_is_for() -> None:
    packages = [folder for folder in MLOPS.iterdir() if (folder / "__init__.py").is_file()]
    assert len(packages) > 8
    for folder in packages:
        assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""'), folder.name
        assert len(list(folder.glob("*.py"))) <= 25, f"{folder.name} has too many files to look through"
