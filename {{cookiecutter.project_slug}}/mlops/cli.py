"""The command line: `mlops VERB`. The verbs' options are in mlops/commands; what they do is imported when called."""

from __future__ import annotations

import errno
import gc
import sys

import click

from mlops.commands import authoring, everyday, promotion, setup
from mlops.errors import FAILED, INTERRUPTED, MlopsError

SECTIONS = {
    "Every day": everyday.COMMANDS,
    "Changing the pipeline": authoring.COMMANDS,
    "Promotion and deployment": promotion.COMMANDS,
    "Set-up": setup.COMMANDS,
}
FILE_SYSTEM = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)


class Verbs(click.Group):
    """A group whose help lists its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each purpose."""
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(command.name or "", command.get_short_help_str(75)) for command in commands])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, gate, register, promote, deploy and serve this repository's model."""


for command in (command for commands in SECTIONS.values() for command in commands):
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
        said = _refusal(error)
        if said is None:
            raise
        _end(said)


def _refusal(error: Exception) -> MlopsError | None:
    """What AWS, or this machine's file system, refused; None if the error is neither's, so one of ours."""
    if isinstance(error, OSError) and error.errno in FILE_SYSTEM and error.filename:
        return MlopsError(
            f"{error.filename}: {error.strerror}: mlops must be able to read and write the project's folder"
        )
    if "botocore" not in sys.modules:  # nothing of AWS was loaded, so this cannot be its refusal
        return None
    from mlops.refusals import refusal

    return refusal(error)


def _end(error: MlopsError) -> None:
    print(f"mlops: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
