"""A campaign, and what its cases share."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path


class Chance(random.Random):
    """The random numbers of a case, and the number of the case, for campaigns whose cases have names."""

    number = 0


Case = Callable[[Chance], None]


@dataclass(frozen=True)
class Campaign:
    """`count` cases, or only `short` ones in `make test`.

    `prepare` takes an empty folder and yields a function. The function makes one case, with the choices of the random
    numbers that it gets, and raises an exception for a violation of `promise`.
    """

    name: str
    promise: str
    count: int
    short: int
    prepare: Callable[[Path], AbstractContextManager[Case]]

    def random(self, number: int) -> Chance:
        """Return the random numbers of the case with that number."""
        chance = Chance(f"{self.name} {number}")
        chance.number = number
        return chance


def check_message(error: Exception, *places: str) -> None:
    """Fail unless the message of an error is one line for its reader, and names one of the places."""
    message = str(error)
    assert message.strip() and len(message.splitlines()) == 1, f"not one line: {message!r}"
    assert "Traceback" not in message
    assert not places or any(place in message for place in places), f"names none of {places}: {message}"
