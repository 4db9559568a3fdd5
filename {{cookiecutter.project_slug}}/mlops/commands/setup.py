"""Set-up verbs: the account's platform, what is missing, and which role a workflow takes."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--github", is_flag=True, help="Make ENV's GitHub environment as well; needs GITHUB_TOKEN.")
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    metavar="LOGIN_OR_ORG/TEAM",
    help="With --github: who must approve deployments to ENV (repeatable).",
)
@click.option("--delete", is_flag=True, help="Remove ENV's endpoint and platform; data and models stay.")
@click.option("--delete-data", is_flag=True, help="With --delete: remove data and models too; asks for the name.")
def bootstrap(
    environment: str, yes: bool, github: bool, reviewers: tuple[str, ...], delete: bool, delete_data: bool
) -> None:
    """Make the platform of ENV's AWS account: shows the change set, asks, deploys. Again: no changes."""
    from mlops.accounts import bootstrap as verb
    from mlops.root import find_root

    if delete_data and not delete:
        raise click.UsageError("--delete-data goes with --delete")
    if delete and (github or reviewers):
        raise click.UsageError("--delete does not go with --github or --reviewer")
    if reviewers and not github:
        raise click.UsageError("--reviewer goes with --github")
    root = find_root()
    if delete:
        from mlops.accounts import teardown

        teardown.delete(root, environment, yes, delete_data)
        return
    client = verb.github_of(root) if github else None  # before anything is changed: is there a token?
    verb.bootstrap(root, environment, yes)
    if client:
        verb.github_environment(client, environment, reviewers)
    print("next:")
    for step in verb.next_steps(root, environment, github):
        print(f"  {step}")


@click.command()
@click.argument("environment", metavar="[ENV]", required=False)
def doctor(environment: str | None) -> None:
    """Look for what is missing or wrong in ENV, or everywhere, with its remedy. Exit code: 1 if there is a problem."""
    from mlops.doctor import doctor as verb
    from mlops.root import find_root

    sys.exit(verb.doctor(find_root(), environment))


@click.command()
@click.argument("environment", metavar="ENV")
@click.option(
    "--purpose",
    type=click.Choice(["train", "approve", "deploy"]),
    help="What for: train in dev, deploy in staging and prod unless given.",
)
def credentials(environment: str, purpose: str | None) -> None:
    """Print role-arn, region and profile as NAME=VALUE lines for $GITHUB_OUTPUT. Needs no credentials."""
    from mlops.accounts import credentials as verb
    from mlops.root import find_root

    for name, value in verb.credentials(find_root(), environment, purpose).items():
        print(f"{name}={value}")


COMMANDS = (bootstrap, doctor, credentials)
