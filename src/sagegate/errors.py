"""Errors for the user, and exit codes."""

from __future__ import annotations

import sys

FAILED = 1
USAGE = 2
REJECTED = 3
INTERRUPTED = 130


class SagegateError(Exception):
    """A user's mistake, or an outcome that the user must act on.

    `str(error)` is one line: what happened, where, what to do. The command exits with `exit_code`.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def warn(message: object) -> None:
    """Print a line for the user on standard error."""
    print(f"sagegate: {message}", file=sys.stderr, flush=True)


def interrupt_code(error: BaseException) -> int:
    """Return the exit code of a command that a signal interrupted: 130 for Ctrl-C, else 128 + the signal's number."""
    return int(error.args[0]) if error.args else INTERRUPTED
