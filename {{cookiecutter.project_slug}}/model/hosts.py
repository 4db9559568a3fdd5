"""Training on several hosts by XGBoost's own collective: a tracker on the first host, a share of the rows on each.

Every host reads all rows, fits the same preprocessing and grows the same trees; the histograms that these grow from are
summed over the hosts' shares. So more hosts take less time, not less memory. The hosts find each other by the names
that SageMaker gives them (SM_HOSTS); on one machine, where they are processes, by the loopback address.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import pandas as pd
import xgboost as xgb
from xgboost.collective import CommunicatorContext
from xgboost.tracker import RabitTracker

from data import DataError

PATIENCE = 600  # seconds for all hosts to have read their data and for the last one to end
PORTS = (
    6_000  # from 20,000, for the tracker; as many above it say that it is ready. None is a port that systems give out
)


@dataclass(frozen=True)
class Share:
    """What one of `count` hosts works on."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the host that writes the model."""
        return self.rank == 0

    def of(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Every `count`-th row; raises DataError if a host would have none."""
        if len(table) < self.count:
            raise DataError(f"the {name} set has {len(table)} rows for {self.count} hosts: use fewer hosts")
        return table.iloc[self.rank :: self.count]


ALONE = Share()


@contextmanager
def shared() -> Iterator[Share]:
    """This host's share of the work; while it lasts, XGBoost trains together with the other hosts.

    Raises DataError if the first host cannot be reached, XGBoostError if a host is lost.
    """
    names: list[str] = json.loads(os.environ.get("SM_HOSTS") or "[]")
    if len(names) < 2:
        yield ALONE
        return
    share = Share(sorted(names).index(os.environ["SM_CURRENT_HOST"]), len(names))
    first, port = min(names), _port()
    with _tracker(_address(first), port, share.count) if share.is_first else nullcontext():
        address = _reach(first, port)
        with CommunicatorContext(
            dmlc_communicator="rabit",
            dmlc_tracker_uri=address,
            dmlc_tracker_port=port,
            dmlc_task_id=f"{share.rank:04}",  # ranks are given in the order of these texts
            dmlc_timeout=PATIENCE,
        ):
            yield share


@contextmanager
def _tracker(address: str, port: int, count: int) -> Iterator[None]:
    tracker = RabitTracker(n_workers=count, host_ip=address, port=port, sortby="task", timeout=PATIENCE)
    try:
        tracker.start()
        with socket.create_server((address, port + PORTS), backlog=count):  # to connect to it is all that is asked
            yield
        tracker.wait_for(timeout=PATIENCE)
    finally:
        with suppress(xgb.core.XGBoostError):  # of a host that was lost, which is reported already
            tracker.free()


def _port() -> int:
    """The tracker's port: the same for all hosts of a job, another for each job, outside what systems give out."""
    return 20_000 + zlib.crc32(os.environ.get("TRAINING_JOB_NAME", "").encode()) % PORTS


def _address(name: str) -> str:
    return "127.0.0.1" if os.environ.get("SM_NETWORK_INTERFACE_NAME") == "lo" else socket.gethostbyname(name)


def _reach(name: str, port: int) -> str:
    """The first host's address, once its tracker is ready: XGBoost itself gives up after a few tries."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            address = _address(name)
            socket.create_connection((address, port + PORTS), timeout=10).close()
            return address
        except OSError as error:
            if time.monotonic() > deadline:
                advice = "with [network], the security groups must let the hosts of a job talk to each other"
                raise DataError(f"cannot reach {name}, port {port} ({error}): {advice}") from None
        time.sleep(0.05)
