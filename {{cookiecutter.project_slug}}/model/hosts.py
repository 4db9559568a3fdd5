"""Training on several hosts (`instance_count` in environments/), with XGBoost's collective.

Every host reads all rows, fits the same preprocessing and grows the same trees: XGBoost sums the histograms of the
hosts' shares of the rows. So more hosts take less time, not less memory.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import xgboost as xgb
from xgboost import collective
from xgboost.tracker import RabitTracker

from data import DataError

STARTING = 600  # seconds until all hosts have started and read their data
TRAINING = 3600  # seconds to wait for another host: a slow one is fine, but XGBoost may not notice that one is lost


@contextmanager
def all_hosts() -> Iterator[None]:
    """Train together with the job's other hosts, if any: inside, `xgboost.collective` has this host's rank.

    Raises DataError if the hosts cannot reach each other, and XGBoostError if one is lost.
    """
    hosts: list[str] = sorted(json.loads(os.environ.get("SM_HOSTS") or "[]"))
    if len(hosts) < 2:
        yield
        return
    rank = hosts.index(os.environ["SM_CURRENT_HOST"])
    address = "127.0.0.1" if os.environ.get("SM_NETWORK_INTERFACE_NAME") == "lo" else hosts[0]
    # From the job's name, which all hosts know. Locally they are processes, and two jobs at once need two ports.
    port = 20_000 + zlib.crc32(os.environ.get("TRAINING_JOB_NAME", "").encode()) % 10_000
    worker: dict[str, Any] = {"dmlc_tracker_uri": address, "dmlc_tracker_port": port, "dmlc_task_id": f"{rank:04}"}
    tracker = None
    try:
        if rank == 0:
            tracker = _retry(port, lambda: RabitTracker(len(hosts), address, port, sortby="task", timeout=STARTING))
            tracker.start()
        _retry(port, lambda: collective.init(**worker, dmlc_retry=1, dmlc_timeout=TRAINING))
        try:
            yield
        finally:
            collective.finalize()
        if tracker:
            tracker.wait_for(timeout=STARTING)
    finally:
        if tracker:
            with suppress(xgb.core.XGBoostError):  # of a lost host, which is reported already
                tracker.free()


def _retry(port: int, join: Callable[[], Any]) -> Any:
    """Return `join()` as soon as it works: another host's name and port may come minutes after this host."""
    deadline = time.monotonic() + STARTING
    while True:
        try:
            with xgb.config_context(verbosity=0):  # no warning for each attempt
                return join()
        except (OSError, xgb.core.XGBoostError) as error:
            if time.monotonic() > deadline:
                cause = str(error).partition("Stack trace:")[0].strip().splitlines()[-1]
                advice = "with [network], the security groups must let the hosts of a job talk to each other"
                raise DataError(f"the hosts of this job do not meet on port {port} ({cause}): {advice}") from None
        time.sleep(0.1)
