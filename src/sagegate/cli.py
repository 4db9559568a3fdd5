"""The command line: options, arguments and help. Each command imports what it needs when it is called."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagegate.errors import FAILED, SagegateError, interrupt_code, warn

if TYPE_CHECKING:
    from sagegate.session import Session


environment = click.option(
    "--env",
    "environment",
    default="local",
    show_default=True,
    metavar="ENV",
    help="The environment: local, dev, staging or prod; environments/ENV.toml names its account.",
)


@contextmanager
def opened(name: str) -> Iterator[Session]:
    """Open a session with one of the project's environments, and close it at the end."""
    from sagegate.config import find_root
    from sagegate.session import open_session

    session = open_session(find_root(), name)
    try:
        yield session
    finally:
        session.close()


@click.command(name="compile")
@click.option("--check", "only_checks", is_flag=True, help="Write nothing; fail if the committed definition differs.")
@click.option("--changed-since", "since", metavar="REVISION", help="With --check: only if its sources changed since.")
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error in pipeline.py.")
def compile_(only_checks: bool, since: str | None, traceback: bool) -> None:
    """Write pipeline/definition.json from pipeline/pipeline.py."""
    from sagegate.config import find_root
    from sagegate.pipeline.compile import check_compiled, compile_project

    if only_checks:
        print(check_compiled(find_root(), since, traceback))
        return
    changed = compile_project(find_root(), traceback)
    print("pipeline/definition.json " + ("changed: commit it" if changed else "is up to date"))


@click.command()
@click.argument("path")
@click.option("--target", required=True, metavar="COLUMN", help="The column to predict.")
@click.option(
    "--problem-type",
    type=click.Choice(["binary_classification", "multiclass_classification", "regression"]),
    help="What to predict; by default the target's values decide.",
)
def data(path: str, target: str, problem_type: str | None) -> None:
    """Describe the data at PATH (a file, a folder, s3://...) in model/schema.toml; choose metric and threshold."""
    from sagegate.config import find_root
    from sagegate.data.command import data

    data(find_root(), path, target, problem_type)


@click.command()
def check() -> None:
    """Check the project offline: settings, definition, deployments/, schema, data and gate fit each other."""
    from sagegate.check import check
    from sagegate.config import find_root

    check(find_root())


@click.command()
@environment
@click.option("--against", metavar="REVISION", help="Compare with a git revision instead: no credentials, no AWS.")
@click.option("--markdown", is_flag=True, help="Print GitHub's Markdown, for a job summary.")
def plan(environment: str, against: str | None, markdown: bool) -> None:
    """Show which steps, parameters and code would change in ENV, or changed since a git revision."""
    from sagegate import plan as plans
    from sagegate.config import find_root

    if against:
        found = plans.plan_against(find_root(), environment, against)
    else:
        with opened(environment) as session:
            found = plans.plan(session)
    print(found.markdown()) if markdown else found.print()


@click.command()
@environment
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="SAGEGATE_SET",
    help="Override a pipeline parameter; on AWS, a hyperparameter. SAGEGATE_SET may have several, with spaces between.",
)
@click.option("--no-cache", is_flag=True, help="Run every step, even if nothing changed (local only).")
@click.option("--from", "from_step", metavar="STEP", help="Run STEP and what follows it; take the rest from before.")
@click.option("--only", multiple=True, metavar="STEP", help="Run only STEP (repeatable); take the rest from before.")
@click.option("--retry", metavar="EXECUTION", help="Run EXECUTION's failed steps again, with its own code and data.")
@click.option("--reason", default="", envvar="SAGEGATE_REASON", help="Why; kept with the execution.")
@click.option(
    "--again", is_flag=True, help="Run though the newest model was made from the same code, data and settings."
)
@click.option("--no-wait", is_flag=True, help="Start the execution and return; `sagegate status EXECUTION` shows it.")
def run(
    environment: str,
    overrides: tuple[str, ...],
    no_cache: bool,
    from_step: str | None,
    only: tuple[str, ...],
    retry: str | None,
    reason: str,
    again: bool,
    no_wait: bool,
) -> None:
    """Run the pipeline and follow it. Exit code: 0 succeeded, 3 rejected by the gate, 1 failed."""
    from sagegate.config import find_root

    root = find_root()
    launcher = None
    if environment == "local":
        from sagegate.local.processes import Launcher, remembered_libraries

        launcher = Launcher(root)
        # The fork server imports the heavy libraries while this process imports what it needs itself.
        launcher.warm_up(remembered_libraries(root, no_cache or bool(overrides)))
    try:
        from sagegate.runs.start import RunOptions, run

        how = RunOptions(overrides, not no_cache, from_step, only, retry, not no_wait, reason, again)
        code = run(root, environment, how, launcher)
    finally:
        if launcher:
            launcher.close()
    sys.exit(code)


@click.command()
@environment
@click.argument("execution", required=False)
@click.option("-n", "--count", default=10, show_default=True, type=click.IntRange(1), help="How many to list.")
@click.option("--follow", is_flag=True, help="Follow EXECUTION to its end, as `sagegate run` does.")
def status(environment: str, execution: str | None, count: int, follow: bool) -> None:
    """List the latest executions, or show EXECUTION with its steps."""
    from sagegate.runs.status import follow_execution, list_executions, show_execution

    with opened(environment) as session:
        if follow:
            sys.exit(follow_execution(session, execution))
        show_execution(session, execution) if execution else list_executions(session, count)


@click.command()
@environment
@click.argument("execution", required=False)
def explain(environment: str, execution: str | None) -> None:
    """Explain why EXECUTION failed (the latest failed one by default): step, log, likely cause and fix."""
    from sagegate.explain.explain import explain

    with opened(environment) as session:
        explain(session, execution)


@click.command()
@environment
@click.argument("name", metavar="[EXECUTION|VERSION]", required=False)
@click.option("--open/--no-open", "opens", default=None, help="Open it in a browser; by default on a desktop.")
def report(environment: str, name: str | None, opens: bool | None) -> None:
    """Show the page about EXECUTION, by default the latest, or about model VERSION; prints its path."""
    from sagegate.report import report

    with opened(environment) as session:
        report(session, name, opens)


@click.command()
@environment
@click.argument("execution")
def stop(environment: str, execution: str) -> None:
    """Stop EXECUTION and its running jobs."""
    from sagegate.runs.status import stop_execution

    with opened(environment) as session:
        stop_execution(session, execution)


@click.command()
@click.option("--keep", default=10, show_default=True, type=click.IntRange(1), help="How many executions to keep.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only say how much it would be.")
def clean(keep: int, dry_run: bool) -> None:
    """Remove old local executions and what only they need. Registered models stay, with all that belongs to them."""
    from sagegate.local.clean import clean

    with opened("local") as session, session.exclusive():
        count, size = clean(session.root / ".mlops", session.store, session.names.artifacts, keep, dry_run)
    print(f"{'would free' if dry_run else 'freed'} {size / 1e6:.1f} MB: {count} executions, and what only they needed")


@click.command()
@environment
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--compare", is_flag=True, help="Executions: verdict, gate metric, changes since the one before.")
@click.option("-n", "--count", default=10, show_default=True, type=click.IntRange(1), help="How many to compare.")
def models(environment: str, version: int | None, compare: bool, count: int) -> None:
    """List the registered models, or show VERSION with its metrics and lineage."""
    from sagegate.registry.models import list_models, show_model

    with opened(environment) as session:
        if compare:
            from sagegate.runs.status import compare as comparison

            comparison(session, count)
        else:
            show_model(session, version) if version else list_models(session)


@click.command()
@environment
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def approve(environment: str, version: int, reason: str) -> None:
    """Approve a model: it becomes the champion, and may be served."""
    from sagegate.registry.models import approve

    with opened(environment) as session:
        approve(session, version, reason)


@click.command()
@environment
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; kept with the model.")
def reject(environment: str, version: int, reason: str) -> None:
    """Reject a model: it may not be served."""
    from sagegate.registry.models import reject

    with opened(environment) as session:
        reject(session, version, reason)


@click.command()
@environment
@click.argument("version", required=False, type=click.IntRange(1))
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve(environment: str, version: int | None, port: int) -> None:
    """Serve the champion, or model VERSION, locally."""
    from sagegate.deployment.serve import serve

    with opened(environment) as session:
        serve(session, version, port)


@click.command()
@environment
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where `sagegate serve` serves.")
@click.option("--batch", "source", metavar="S3_URI", help="Answer the files there, in a batch transform job.")
@click.option(
    "--output", metavar="S3_URI", help="Where a batch's answers go; by default below batch/ENV/ in the bucket."
)
def invoke(environment: str, file: Path | None, url: str, source: str | None, output: str | None) -> None:
    """Send FILE (.csv or .json; the model's own sample request by default) to a served model, or to ENV's endpoint."""
    from sagegate.deployment.invoke import invoke_batch, invoke_endpoint, invoke_url

    if (source and (file or environment == "local")) or (output and not source):
        raise click.UsageError("--batch takes no FILE and needs --env staging or prod; --output goes with --batch")
    with opened(environment) as session:
        if source:
            invoke_batch(session, source, output)
        elif environment == "local":
            invoke_url(session, file, url)
        else:
            invoke_endpoint(session, file)


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
def promote(environment: str, version: int | None, opens: bool, source: str) -> None:
    """Pin a model for ENV (staging or prod) in deployments/ENV.json, with its evidence. Merging that deploys it."""
    from sagegate.config import find_root
    from sagegate.promotion.promote import promote

    promote(find_root(), environment, version, source, opens)


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--yes", is_flag=True, help="Do not ask before prod changes. In CI, or without a terminal, nothing asks.")
def deploy(environment: str, yes: bool) -> None:
    """Deploy the model that deployments/ENV.json pins, and test it. With `local`, only test the champion."""
    from sagegate.config import find_root
    from sagegate.deployment.deploy import deploy

    def confirm(question: str) -> bool:
        # CI may allocate a terminal at which nobody sits.
        return yes or bool(os.environ.get("CI")) or not sys.stdin.isatty() or click.confirm(question)

    sys.exit(deploy(find_root(), environment, confirm=confirm))


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--to", "version", type=click.IntRange(1), help="This version; by default the one before.")
@click.option("--pull-request/--no-pull-request", "opens", default=True, show_default=True)
@click.option("--now", is_flag=True, help="Deploy it at once, without a pull request; open one afterwards.")
def rollback(environment: str, version: int | None, opens: bool, now: bool) -> None:
    """Pin the model that ENV had before, by a pull request. Merging that deploys it."""
    from sagegate.config import find_root
    from sagegate.promotion.promote import previous_model, rollback

    root = find_root()
    if now:
        from sagegate.deployment.deploy import deploy as deploy_now

        code = deploy_now(root, environment, previous_model(root, environment, version))
        if code == 0:
            click.echo(f"  next: `sagegate rollback {environment}` opens the pull request that pins it")
        sys.exit(code)
    rollback(root, environment, version, opens)


@click.command()
@click.argument("environment", metavar="ENV")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--github", is_flag=True, help="Create and protect ENV's GitHub environment first; needs GITHUB_TOKEN.")
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    metavar="LOGIN_OR_ORG/TEAM",
    help="With --github: who must approve deployments to ENV (repeatable).",
)
@click.option(
    "--subject-prefix",
    metavar="PREFIX",
    help="How the subject of the repository's tokens begins: repo:OWNER@ID/NAME@ID. With GITHUB_TOKEN, GitHub says it.",
)
def bootstrap(
    environment: str, yes: bool, github: bool, reviewers: tuple[str, ...], subject_prefix: str | None
) -> None:
    """Create or update the platform of ENV's AWS account: show the change set, ask, deploy."""
    from sagegate.account import bootstrap as account
    from sagegate.config import find_root

    if reviewers and not github:
        raise click.UsageError("--reviewer goes with --github")
    root = find_root()
    account.bootstrap(root, environment, yes, subject_prefix, github, reviewers)
    print("next:")
    for step in account.next_steps(root, environment, github):
        print(f"  {step}")


@click.command()
@click.argument("environment", metavar="[ENV]", required=False)
def doctor(environment: str | None) -> None:
    """Check the set-up of ENV, or of everything, and name fixes. Exit code: 1 if there is a problem."""
    from sagegate.config import find_root
    from sagegate.doctor import doctor

    sys.exit(doctor(find_root(), environment))


@click.command()
@click.argument("environment", metavar="ENV")
@click.option(
    "--purpose",
    type=click.Choice(["train", "image", "approve", "deploy"]),
    help="What for: train in dev, deploy in staging and prod unless given.",
)
def credentials(environment: str, purpose: str | None) -> None:
    """Print role-arn, region and profile as NAME=VALUE lines for $GITHUB_OUTPUT. Needs no credentials."""
    from sagegate.account.bootstrap import credentials
    from sagegate.config import find_root

    for name, value in credentials(find_root(), environment, purpose).items():
        print(f"{name}={value}")


@click.command()
@click.option("--pull-request", "opens", is_flag=True, help="Open a pull request with the digest, or update it.")
def image(opens: bool) -> None:
    """Build image/, push it to dev's registry, and write its digest into mlops.toml.

    For libraries that SageMaker's image lacks. image/Dockerfile begins with `ARG BASE` and `FROM $BASE`, which is
    SageMaker's image, and installs image/requirements.txt. docs/how-to/own-image.md of the template has both files.
    """
    from sagegate.config import find_root
    from sagegate.own_image import image

    image(find_root(), opens)


@click.command()
def vendor() -> None:
    """Copy sagegate into vendor/ as a wheel and depend on that: for private forks and closed networks."""
    from sagegate.config import find_root
    from sagegate.vendor import vendor as write_wheel

    wheel = write_wheel(find_root())
    print(f"vendor/{wheel.name}: commit vendor/ and pyproject.toml; then `uv sync`, or `pip install vendor/*.whl .`")


SECTIONS = {
    "Every day": (data, run, status, explain, report, stop, models, approve, reject, serve, invoke, clean),
    "Changing the pipeline": (compile_, check, plan),
    "Promotion and deployment": (promote, deploy, rollback),
    "Set-up": (bootstrap, doctor, credentials, image, vendor),
}
FILE_SYSTEM = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Commands(click.Group):
    """A group whose help lists commands under headings."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading."""
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(command.name or "", command.get_short_help_str(75)) for command in commands])


def _print_version(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if not is_given:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"sagegate {version('sagegate')}")
    except PackageNotFoundError:
        click.echo("sagegate (run from its source; it is not installed)")
    context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Train, gate, register, promote, deploy and serve this repository's model."""


for command in (command for commands in SECTIONS.values() for command in commands):
    cli.add_command(command)


def main() -> None:
    """Run a command. A user's mistake is one line on standard error and an exit code."""
    sys.dont_write_bytecode = False  # if a shell sets PYTHONDONTWRITEBYTECODE, every start compiles the package again
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for number in (getattr(signal, name, signal.SIGTERM) for name in ("SIGTERM", "SIGHUP")):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    try:
        try:
            cli.main(standalone_mode=False)
        finally:
            sys.stdout.flush()  # here, output that cannot be written is an error with an exit code
    except SagegateError as error:
        _end(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        sys.exit(interrupt_code(error.__cause__ or error))
    except BrokenPipeError:
        _discard_output()
        sys.exit(FAILED)
    except Exception as error:
        explained = _explain(error)
        if explained is None:
            raise
        _end(explained)


def _interrupt(number: int, _: object) -> None:
    """Do what Ctrl-C does: a local execution stops, one on AWS goes on."""
    raise KeyboardInterrupt(128 + number)


def _explain(error: Exception) -> SagegateError | None:
    """Return an error of the file system or of AWS in one line; None for a bug of sagegate."""
    if isinstance(error, OSError) and error.errno in FULL:
        where = f"{error.filename}: " if error.filename else ""
        return SagegateError(f"{where}{error.strerror}: make room, for example by `sagegate clean`")
    if isinstance(error, OSError) and error.errno in FILE_SYSTEM and error.filename:
        return SagegateError(
            f"{error.filename}: {error.strerror}: sagegate must be able to read and write the project's folder"
        )
    if "botocore" not in sys.modules:  # not loaded, so this is no error of AWS
        return None
    from sagegate.aws_errors import explain_aws_error

    return explain_aws_error(error)


def _end(error: SagegateError) -> None:
    with suppress(OSError):  # standard error may be full, too
        warn(error)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    sys.exit(error.exit_code)


def _discard_output() -> None:
    """Let the interpreter's last flush of an output that cannot be written go nowhere, instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
