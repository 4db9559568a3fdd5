"""Promotion verbs: which model is deployed where, changed by pull requests."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--model", "version", type=click.IntRange(1), help="This version; by default the newest candidate.")
@click.option("--pull-request", "opens", is_flag=True, help="Open the environment's pull request, or update it.")
@click.option(
    "--from",
    "source",
    metavar="ENV",
    default="dev",
    show_default=True,
    help="Where the evidence is: the registry and the record of deployments; `local` tries it out.",
)
def promote(environment: str, version: int | None, opens: bool, source: str | None) -> None:
    """Pin a model for ENV (staging or prod) in deployments/ENV.json, with its evidence. Merging that deploys it."""
    from mlops.promotion import promote as verb
    from mlops.root import find_root

    verb.promote(find_root(), environment, version, source, opens)


@click.command()
@click.argument("environment", metavar="ENV")
def deploy(environment: str) -> None:
    """Deploy what deployments/ENV.json pins: canary, alarms, smoke test. `local` tests the champion on this machine."""
    from mlops.deployment import deploy as verb
    from mlops.root import find_root

    sys.exit(verb.deploy(find_root(), environment))


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--to", "version", type=click.IntRange(1), help="This version; by default the one before.")
@click.option("--pull-request/--no-pull-request", "opens", default=True, show_default=True)
@click.option("--now", is_flag=True, help="Deploy it at once, without a pull request; open one afterwards.")
def rollback(environment: str, version: int | None, opens: bool, now: bool) -> None:
    """Pin the model that ENV had before, by a pull request. Merging that deploys it."""
    from mlops.promotion import promote as verb
    from mlops.root import find_root

    root = find_root()
    if now:
        from mlops.deployment.deploy import deploy as deploy_now

        code = deploy_now(root, environment, verb.former(root, environment, version))
        if code == 0:
            click.echo(f"  next: `mlops rollback {environment}` opens the pull request that pins it")
        sys.exit(code)
    verb.rollback(root, environment, version, opens)


COMMANDS = (promote, deploy, rollback)
