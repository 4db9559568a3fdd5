"""A fake in this process and a lab on it, empty at each test's start."""

from collections.abc import Iterator

import pytest
from local_lab import ACCOUNT, REGION

from fakes.aws_lab import AwsLab
from fakes.server import FakeAws


@pytest.fixture(scope="module")
def running() -> Iterator[FakeAws]:
    """A fake in this process, for tests whose jobs need no library.

    Of a module, because the tests of endpoints alone extend moto in this process too.
    """
    started = FakeAws()
    yield started
    started.close()


@pytest.fixture
def here(running: FakeAws) -> FakeAws:
    """The same, with nothing in it."""
    running.reset()
    return running


@pytest.fixture
def aws(here: FakeAws) -> AwsLab:
    """A lab with an empty bucket in it."""
    return AwsLab(here.environment(ACCOUNT, REGION))
