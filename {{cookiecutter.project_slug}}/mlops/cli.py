"""The command line: `mlops VERB`. Each verb is one module, imported only when it is called."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops.errors import FAILED, INTERRUPTED, MlopsError

if TYPE_CHECKING:
    from mlops.aws import Door


@contextmanager
def project() -> Iterator[tuple[Path, Door]]:
    """The project around the working directory, and the door to this machine's environment."""
    from mlops.aws import open_door
    from mlops.root import find_root
    from mlops.settings import load_environment, load_settings

    root = find_root()
    door = open_door(root, load_settings(root), load_environment(root, "local"))
    try:
        yield root, door
    finally:
        door.close()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, gate, register, approve and serve this repository's model."""


@cli.command()
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Override a pipeline parameter.")
@click.option("--no-cache", is_flag=True, help="Run every step, even if nothing changed.")
@click.option("--from", "from_step", metavar="STEP", help="Run STEP and what follows it; take the rest from before.")
@click.option("--only", multiple=True, metavar="STEP", help="Run only STEP (repeatable); take the rest from before.")
@click.option("--retry", metavar="EXECUTION", help="Run EXECUTION's failed steps again, with its own code and data.")
def run(
    overrides: tuple[str, ...], no_cache: bool, from_step: str | None, only: tuple[str, ...], retry: str | None
) -> None:
    """Run the pipeline and follow it. Exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    from mlops.local import warm
    from mlops.local.launcher import Launcher
    from mlops.root import find_root

    root = find_root()
    launcher = Launcher(root)
    launcher.warm_up(warm.guess(root, no_cache or bool(overrides)))  # while this process imports what it needs itself
    try:
        from mlops import run as verb

        how = verb.How(overrides, not no_cache, from_step, only, retry)
        code = verb.run(root, "local", how, launcher)
    finally:
        launcher.close()
    sys.exit(code)


@cli.command()
@click.argument("execution", required=False)
@click.option("-n", "--count", default=10, show_default=True, type=click.IntRange(1), help="How many to list.")
def status(execution: str | None, count: int) -> None:
    """List the latest executions, or show EXECUTION with its steps."""
    from mlops import status as verb

    with project() as (_, door):
        verb.show_execution(door, execution) if execution else verb.list_executions(door, count)


@cli.command()
@click.argument("version", required=False, type=click.IntRange(1))
def models(version: int | None) -> None:
    """List the registered models, or show VERSION with its metrics and lineage."""
    from mlops import models as verb

    with project() as (_, door):
        verb.show_model(door, version) if version else verb.list_models(door)


@cli.command()
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def approve(version: int, reason: str) -> None:
    """Approve a model: it becomes the champion that candidates must beat, and may be served."""
    from mlops import models as verb

    with project() as (_, door):
        verb.approve(door, version, reason)


@cli.command()
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def reject(version: int, reason: str) -> None:
    """Reject a model: it may not be served."""
    from mlops import models as verb

    with project() as (_, door):
        verb.reject(door, version, reason)


@cli.command()
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve(version: int | None, port: int) -> None:
    """Serve the champion, or model VERSION, on this machine."""
    from mlops import serve as verb

    with project() as (root, door):
        verb.serve(root, door, version, port)


@cli.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the model is served.")
def invoke(file: Path | None, url: str) -> None:
    """Send FILE (.csv or .json; the champion's sample request by default) to a served model."""
    from mlops import invoke as verb

    with project() as (_, door):
        verb.invoke(door, file, url)


@cli.command(name="compile")
def compile_() -> None:
    """Write pipeline/definition.json from pipeline/pipeline.py."""
    from mlops.compile import compile_project
    from mlops.root import find_root

    changed = compile_project(find_root())
    print("pipeline/definition.json " + ("changed: commit it" if changed else "is up to date"))


@cli.command()
def check() -> None:
    """Check settings and definition offline: fresh, well-formed, every reference and request shape right."""
    from mlops import check as verb
    from mlops import definition
    from mlops.root import find_root
    from mlops.settings import ENVIRONMENTS, load_environment, load_settings

    root = find_root()
    settings = load_settings(root)
    for name in ENVIRONMENTS:
        load_environment(root, name)
    compiled = definition.load(root)
    faults = [*verb.reference_faults(compiled), *verb.shape_faults(compiled)]
    for fault in faults:
        print(f"pipeline/definition.json: {fault}", file=sys.stderr)
    if faults:
        raise MlopsError(f"{len(faults)} faults: mend pipeline/pipeline.py and run `mlops compile`")
    if definition.is_stale(root, settings):
        raise MlopsError("pipeline/definition.json is stale: run `mlops compile` and commit it")
    print(f"ok: {len(definition.steps_of(compiled))} steps, {len(compiled['Parameters'])} parameters")


def main() -> None:
    """Run a verb; a user's mistake is one line on standard error and an exit code."""
    sys.dont_write_bytecode = False  # without bytecode, every run would import the libraries three times slower
    gc.set_threshold(50_000)  # imports make much that lives: looking for garbage among it is a tenth of a short verb
    try:
        cli.main(standalone_mode=False)
    except MlopsError as error:
        print(f"mlops: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(FAILED)
