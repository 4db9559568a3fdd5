"""The deployment half of the fake: endpoints that serve, alarms that watch, CloudFormation that deploys."""

from __future__ import annotations

from typing import Protocol

from . import alarms, cloudformation, invoking, operations


class FakeAws(Protocol):
    """What this half needs to know of the fake."""

    @property
    def url(self) -> str:
        """Where the server listens, http://127.0.0.1:PORT."""
        ...


_watch: list[alarms.Watch] = []


def install(fake_aws: FakeAws) -> None:
    """Extend moto, in this process, for a running server."""
    operations.install()
    invoking.install()
    cloudformation.install(fake_aws.url)
    _watch.append(alarms.Watch())


def close() -> None:
    """End every process and thread; moto is as it was."""
    operations.ENDPOINTS.reset()  # first, so that no stack waits for an endpoint
    cloudformation.close()
    _watch.pop().close()
    invoking.close()
    operations.close()
