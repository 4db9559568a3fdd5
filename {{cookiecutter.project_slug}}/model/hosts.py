"""Training on several hosts by XGBoost's own collective: a tracker on the first host, a share of the rows on each.

Every host reads all rows, fits the same preprocessing and grows the same trees; the histograms that these grow from are
summed over the hosts' shares. So more hosts take less time, not less memory. The hosts find each other by the names
that SageMaker gives them (SM_HOSTS); on one machine, where they are processes, by the loopback address.

The tracker listens on whatever port is free. On which one, the first host says to whoever connects to the job's port,
which all hosts know from the job's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, TCPServer
from threading import Thread
from typing import Any, TypeVar

import pandas as pd
import xgboost as xgb
from xgboost.collective import CommunicatorContext
from xgboost.tracker import RabitTracker

from data import DataError

PATIENCE = 600  # seconds for all hosts to have read their data and for the last one to end
# Seconds for one host to wait for another while they train. A slow one is no fault, and a lost one mostly ends the
# others at once, as its connections break. Rarely XGBoost does not notice, so this must not be without end.
TRAINING = 3600
PORTS = range(20_000, 30_000)  # for a job's port: none that systems give out

T = TypeVar("T")


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
    share, first = Share(sorted(names).index(os.environ["SM_CURRENT_HOST"]), len(names)), min(names)
    with _tracker(first, share.count) if share.is_first else nullcontext():
        address, port = _patiently(_ask, first)
        with CommunicatorContext(
            dmlc_communicator="rabit",
            dmlc_tracker_uri=address,
            dmlc_tracker_port=port,
            dmlc_task_id=f"{share.rank:04}",  # ranks are given in the order of these texts
            dmlc_timeout=TRAINING,
        ):
            yield share


class _Door(TCPServer):
    """The job's port: says the tracker's to whoever connects, once `line` is set and it serves."""

    allow_reuse_address = True  # a job of the same name may have ended a moment ago
    request_queue_size = 128
    line = b""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer; who connects has nothing to say, and may be gone already."""
        with suppress(OSError):
            request.sendall(self.line)


@contextmanager
def _tracker(first: str, count: int) -> Iterator[None]:
    address = _patiently(_address, first)
    try:  # before the tracker starts: one that is to end before it had its workers takes long to
        door = _Door((address, _job_port()), BaseRequestHandler)
    except OSError as error:
        advice = "end what uses it, another job of this name perhaps, or try again under another name"
        raise DataError(f"cannot listen on {address}, port {_job_port()} ({error.strerror}): {advice}") from None
    with door:
        tracker = RabitTracker(n_workers=count, host_ip=address, sortby="task", timeout=PATIENCE)
        try:
            tracker.start()
            door.line = f"{_token()} {tracker.worker_args()['dmlc_tracker_port']}\n".encode()
            Thread(target=door.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield
            finally:
                door.shutdown()
            tracker.wait_for(timeout=PATIENCE)
        finally:
            with suppress(xgb.core.XGBoostError):  # of a host that was lost, which is reported already
                tracker.free()


def _job_port() -> int:
    """The same for all hosts of a job, and most likely another for each job."""
    return PORTS[zlib.crc32(os.environ.get("TRAINING_JOB_NAME", "").encode()) % len(PORTS)]


def _token() -> str:
    """What tells this job's first host from anything else that may listen on the port."""
    return hashlib.sha256(f"tracker of {os.environ.get('TRAINING_JOB_NAME', '')}".encode()).hexdigest()


def _address(name: str) -> str:
    return "127.0.0.1" if os.environ.get("SM_NETWORK_INTERFACE_NAME") == "lo" else socket.gethostbyname(name)


def _ask(name: str) -> tuple[str, int]:
    """The tracker's address and port, as the first host says."""
    address = _address(name)
    with socket.create_connection((address, _job_port()), timeout=10) as door, door.makefile("rb") as stream:
        token, _, port = stream.readline(100).decode(errors="replace").partition(" ")
    if token != _token() or not port.strip().isdecimal():
        raise OSError("something else than this job answers there")
    return address, int(port)


def _patiently(ask: Callable[[str], T], name: str) -> T:
    """What `ask` finds of the host, which may have no name yet or not have come as far: tried until it is too late."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask(name)
        except OSError as error:
            if time.monotonic() > deadline:
                advice = "with [network], the security groups must let the hosts of a job talk to each other"
                raise DataError(f"cannot reach {name}, port {_job_port()} ({error}): {advice}") from None
        time.sleep(0.05)
