"""What `mlops doctor` finds: good, doubtful or wrong, each with its remedy, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mlops.errors import MlopsError

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` says what to do unless all is well."""

    state: State
    text: str
    fix: str = ""

    @property
    def line(self) -> str:
        """For the reader."""
        return f"{self.text}: {self.fix}" if self.fix else self.text


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warning(text: str, fix: str = "") -> Finding:
    """It may be as it is meant to be, or could not be looked at."""
    return Finding("warning", text, fix)


def problem(text: str, fix: str = "") -> Finding:
    """It will not work."""
    return Finding("problem", text, fix)


def examine(what: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds, with the reason why it could not look further: one refusal never ends the others."""
    found: list[Finding] = []
    try:
        found.extend(check())  # keeps what came before an error
    except MlopsError as error:
        found.append(problem(str(error)))
    except Exception as error:
        from mlops.refusals import refusal

        said = refusal(error)
        if said is None:
            raise
        found.append(warning(f"{what} not looked at: {said}"))
    return found
