"""What goes wrong, said in one line: what, where, what to do. The command line prints it and exits with its code."""

from __future__ import annotations

FAILED = 1
USAGE = 2
REJECTED = 3
INTERRUPTED = 130


class SagegateError(Exception):
    """A user's mistake or an outcome the user must act on.

    `str(error)` is one line for the reader; `exit_code` is what the command exits with.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
