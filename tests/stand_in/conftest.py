"""A stand-in in this process and a lab on it, empty at each test's start."""

from collections.abc import Iterator

import pytest
from local_lab import ACCOUNT, REGION

from stand_in.aws_lab import AwsLab
from stand_in.server import StandIn


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    """A stand-in in this process, for tests whose jobs need no library.

    Of a module, because the tests of endpoints alone extend moto in this process too.
    """
    started = StandIn()
    yield started
    started.close()


@pytest.fixture
def here(running: StandIn) -> StandIn:
    """The same, with nothing in it."""
    running.reset()
    return running


@pytest.fixture
def aws(here: StandIn) -> AwsLab:
    """A lab with an empty bucket in it."""
    return AwsLab(here.environment(ACCOUNT, REGION))
