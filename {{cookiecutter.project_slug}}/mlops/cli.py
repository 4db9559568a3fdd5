"""The command line: `mlops VERB`. The verbs' options are in mlops/commands; what they do is imported when called."""

from __future__ import annotations

import gc
import sys

import click

from mlops.commands import authoring, everyday, promotion, setup
from mlops.errors import FAILED, INTERRUPTED, MlopsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, gate, register, approve and serve this repository's model."""


for command in (*everyday.COMMANDS, *authoring.COMMANDS, *promotion.COMMANDS, *setup.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Run a verb; a user's mistake is one line on standard error and an exit code."""
    sys.dont_write_bytecode = False  # without bytecode, every run would import the libraries three times slower
    gc.set_threshold(50_000)  # imports make much that lives: looking for garbage among it is a tenth of a short verb
    try:
        cli.main(standalone_mode=False)
    except MlopsError as error:
        _end(error)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(FAILED)
    except Exception as error:
        if "botocore" not in sys.modules:  # nothing of AWS was loaded, so this cannot be its refusal
            raise
        from mlops.refusals import refusal

        said = refusal(error)
        if said is None:
            raise
        _end(said)


def _end(error: MlopsError) -> None:
    print(f"mlops: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
