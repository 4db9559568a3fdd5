"""The package is in layers: imports go downwards only, and there are no circles."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "sagegate"


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of sagegate that a file imports, anywhere in it: `sagegate.session`, `sagegate.runs.start`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("sagegate"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sagegate":
            inner = SOURCE.joinpath(*str(node.module).split(".")[1:])
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if inner.is_dir() else [str(node.module)]


def package(module: str) -> str:
    """Return the package that a module is in, or the module itself at the top level."""
    return ".".join(module.split(".")[:2])


def test_imports_go_downwards_only() -> None:
    """TopologicalSorter raises CycleError, which names the circle."""
    imports: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        here = package(".".join(["sagegate", *file.relative_to(SOURCE).with_suffix("").parts]))
        imports.setdefault(here, set()).update(package(module) for module in imported(file))
        imports[here].discard(here)
    order = list(TopologicalSorter(imports).static_order())
    layers = ["errors", "config", "pipeline", "local", "session", "runs", "cli"]
    positions = [order.index(f"sagegate.{name}") for name in layers]
    assert positions == sorted(positions)
