"""Everyday verbs: run the pipeline, look at what it did, decide on models, serve and try them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mlops.commands.options import environment, project


@click.command()
@environment
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="MLOPS_SET",
    help="Override a pipeline parameter. MLOPS_SET may have several, with spaces or line ends between.",
)
@click.option("--no-cache", is_flag=True, help="Run every step, even if nothing changed (on this machine only).")
@click.option("--from", "from_step", metavar="STEP", help="Run STEP and what follows it; take the rest from before.")
@click.option("--only", multiple=True, metavar="STEP", help="Run only STEP (repeatable); take the rest from before.")
@click.option("--retry", metavar="EXECUTION", help="Run EXECUTION's failed steps again, with its own code and data.")
@click.option("--reason", default="", envvar="MLOPS_REASON", help="Why; kept with the execution.")
@click.option("--no-wait", is_flag=True, help="Start the execution and return; `mlops status EXECUTION` shows it.")
def run(
    environment: str,
    overrides: tuple[str, ...],
    no_cache: bool,
    from_step: str | None,
    only: tuple[str, ...],
    retry: str | None,
    reason: str,
    no_wait: bool,
) -> None:
    """Run the pipeline and follow it. Exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    from mlops.root import find_root

    root = find_root()
    if environment == "local":
        from mlops.local import warm
        from mlops.local.launcher import Launcher

        launcher: Launcher | None = Launcher(root)
        assert launcher  # import heavy libraries while this process imports what it needs itself
        launcher.warm_up(warm.guess(root, no_cache or bool(overrides)))
    else:
        launcher = None
    try:
        from mlops.runs import run as verb

        how = verb.How(overrides, not no_cache, from_step, only, retry, not no_wait, reason)
        code = verb.run(root, environment, how, launcher)
    finally:
        if launcher:
            launcher.close()
    sys.exit(code)


@click.command()
@environment
@click.argument("execution", required=False)
@click.option("-n", "--count", default=10, show_default=True, type=click.IntRange(1), help="How many to list.")
@click.option("--follow", is_flag=True, help="Follow EXECUTION to its end, as `mlops run` does.")
def status(environment: str, execution: str | None, count: int, follow: bool) -> None:
    """List the latest executions, or show EXECUTION with its steps."""
    from mlops.runs import status as verb

    with project(environment) as (_, door):
        if follow:
            sys.exit(verb.follow_execution(door, execution))
        verb.show_execution(door, execution) if execution else verb.list_executions(door, count)


@click.command()
@environment
@click.argument("execution", required=False)
def explain(environment: str, execution: str | None) -> None:
    """Why EXECUTION failed (the latest that did, by default): step, reason, log, likely cause and fix."""
    from mlops.failures import explain as verb

    with project(environment) as (_, door):
        verb.explain(door, execution)


@click.command()
@environment
@click.argument("execution")
def stop(environment: str, execution: str) -> None:
    """Stop EXECUTION; its running jobs are ended."""
    from mlops.runs import status as verb

    with project(environment) as (_, door):
        verb.stop_execution(door, execution)


@click.command()
@environment
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--compare", is_flag=True, help="Executions and models side by side: parameters against metrics.")
@click.option("-n", "--count", default=10, show_default=True, type=click.IntRange(1), help="How many to compare.")
def models(environment: str, version: int | None, compare: bool, count: int) -> None:
    """List the registered models, or show VERSION with its metrics and lineage."""
    from mlops.registry import models as verb

    with project(environment) as (root, door):
        if compare:
            from mlops.runs.compare import compare as comparison

            comparison(door, count)
        else:
            verb.show_model(root, door, version) if version else verb.list_models(root, door)


@click.command()
@environment
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def approve(environment: str, version: int, reason: str) -> None:
    """Approve a model: it becomes the champion that candidates must beat, and may be served."""
    from mlops.registry import models as verb

    with project(environment) as (_, door):
        verb.approve(door, version, reason)


@click.command()
@environment
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def reject(environment: str, version: int, reason: str) -> None:
    """Reject a model: it may not be served."""
    from mlops.registry import models as verb

    with project(environment) as (_, door):
        verb.reject(door, version, reason)


@click.command()
@environment
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve(environment: str, version: int | None, port: int) -> None:
    """Serve the champion, or model VERSION, on this machine."""
    from mlops.deployment import serve as verb

    with project(environment) as (root, door):
        verb.serve(root, door, version, port)


@click.command()
@environment
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where `mlops serve` serves.")
@click.option("--batch", "source", metavar="S3_URI", help="Answer the files there, in a batch transform job.")
@click.option(
    "--output", metavar="S3_URI", help="Where a batch's answers go; by default below batch/ENV/ in the bucket."
)
def invoke(environment: str, file: Path | None, url: str, source: str | None, output: str | None) -> None:
    """Send FILE (.csv or .json; the model's own sample request by default) to a served model, or to ENV's endpoint."""
    if (source and (file or environment == "local")) or (output and not source):
        raise click.UsageError("--batch takes no FILE and needs --env staging or prod; --output goes with --batch")
    with project(environment) as (_, door):
        if source:
            from mlops.deployment.batch import batch

            batch(door, source, output)
            return
        from mlops.deployment import invoke as verb

        if environment == "local":
            verb.invoke(door, file, url)
        else:
            verb.invoke_endpoint(door, file)


COMMANDS = (run, status, explain, stop, models, approve, reject, serve, invoke)
