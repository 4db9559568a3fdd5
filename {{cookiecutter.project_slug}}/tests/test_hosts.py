"""Training on two hosts, here two processes: one model, from all rows, written once; and what can go wrong."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from socketserver import BaseRequestHandler
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest

import artifact
import data
import hosts
import preprocess

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["algo-1", "algo-2"]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    preprocess.main(["--input", str(ROOT / "data"), "--output", str(folder)])
    return folder


def train(splits: Path, output: Path, names: list[str], current: str, script: str = "") -> subprocess.Popen[str]:
    """Start train.py as one of several hosts; `script` runs before it."""
    own = {
        "SM_HOSTS": json.dumps(names),
        "SM_CURRENT_HOST": current,
        "SM_NETWORK_INTERFACE_NAME": "lo",
        "TRAINING_JOB_NAME": str(output.parent),
        "SM_OUTPUT_DIR": str(output / "out"),
    }
    paths = ["--train", str(splits / "train"), "--validation", str(splits / "validation"), "--model-dir", str(output)]
    code = f"import sys\nsys.path.insert(0, {str(ROOT / 'model')!r})\nimport train\n{script}\ntrain.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *paths, "--num_round", "8"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, **own}, **pipes)  # type: ignore[call-overload, no-any-return]


def said(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def test_two_hosts_train_one_model_like_one_host(splits: Path, tmp_path: Path) -> None:
    alone = train(splits, tmp_path / "alone", ["algo-1"], "algo-1")
    second = train(splits, tmp_path / "algo-2", NAMES, "algo-2")  # it may come first, and waits
    first = train(splits, tmp_path / "algo-1", NAMES, "algo-1")
    texts = [said(process) for process in (alone, first, second)]
    assert [process.returncode for process in (alone, first, second)] == [0, 0, 0], texts
    assert not (tmp_path / "algo-2").exists(), "only the first host writes the model"
    logs = [[line for line in text.splitlines() if line.startswith("[7]")] for text in texts]
    assert logs[1] == logs[2] and len(logs[1]) == 1, "both measure over all rows"
    table = data.read_split(splits / "test")
    one, two = (artifact.load(tmp_path / name) for name in ("alone", "algo-1"))
    spread = float(np.std(one.predict(table)))
    assert np.abs(one.predict(table) - two.predict(table)).mean() < 0.2 * spread
    record = json.loads((tmp_path / "algo-1" / "training.json").read_text())
    assert record["rows"]["train"] == len(data.read_split(splits / "train")), "all rows, not a share of them"


LATE = """
import os, socket
os.environ["SM_NETWORK_INTERFACE_NAME"] = "eth0"
failures = [1, 2, 3]
def look_up(name):
    if failures:
        raise socket.gaierror(failures.pop(), "Name or service not known")
    return "127.0.0.1"
socket.gethostbyname = look_up
"""


def test_a_job_can_be_repeated_at_once_and_names_may_come_late(splits: Path, tmp_path: Path) -> None:
    for script in ("", LATE):  # the same job: the first one's connections are hardly closed when the second begins
        started = [train(splits, tmp_path / name, NAMES, name, script) for name in NAMES]
        texts = [said(process) for process in started]
        assert [process.returncode for process in started] == [0, 0], texts


def test_a_lost_host_fails_the_others_in_one_line(splits: Path, tmp_path: Path) -> None:
    lost = "import os\ntrain.LogRounds.after_iteration = lambda self, model, epoch, log: os._exit(9)"
    first = train(splits, tmp_path / "algo-1", NAMES, "algo-1")
    second = train(splits, tmp_path / "algo-2", NAMES, "algo-2", lost)
    said(second)
    text = said(first)
    assert (first.returncode, second.returncode) == (1, 9), text
    reason = (tmp_path / "algo-1" / "out" / "failure").read_text()
    assert reason.startswith("XGBoost: ") and "[bt]" not in reason
    assert not (tmp_path / "algo-1" / "model.ubj").exists()


def test_a_first_host_that_never_answers_is_named(splits: Path, tmp_path: Path) -> None:
    second = train(splits, tmp_path / "algo-2", NAMES, "algo-2", "import hosts\nhosts.PATIENCE = 0.2")
    text = said(second)
    assert second.returncode == 1
    assert "cannot reach algo-1, port 2" in text.splitlines()[-1] and "security groups" in text


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Be a host of a job of two that is impatient; the host's name is the argument."""
    monkeypatch.setattr(hosts, "PATIENCE", 0.2)
    monkeypatch.setenv("SM_HOSTS", json.dumps(NAMES))
    monkeypatch.setenv("SM_NETWORK_INTERFACE_NAME", "lo")
    monkeypatch.setenv("TRAINING_JOB_NAME", str(tmp_path))
    return lambda name: monkeypatch.setenv("SM_CURRENT_HOST", name)


@contextmanager
def listener(line: bytes) -> Iterator[None]:
    """Something on the job's port that says `line` to whoever connects."""
    with hosts._Door(("127.0.0.1", hosts._job_port()), BaseRequestHandler) as door:
        door.line = line
        Thread(target=door.serve_forever, args=(0.01,), daemon=True).start()
        yield
        door.shutdown()


def test_a_port_in_use_is_said_at_once(job: Callable[[str], None]) -> None:
    job("algo-1")
    with listener(b""), pytest.raises(data.DataError, match=r"^cannot listen on 127.0.0.1, port 2\d{4} \(Addr"):
        hosts.shared().__enter__()


def test_what_else_listens_on_the_port_is_not_taken_for_the_first_host(job: Callable[[str], None]) -> None:
    job("algo-2")
    for line in (b"", b"HTTP/1.0 400 Bad Request\r\n", b"\xff" * 200, f"{'0' * 64} 4711\n".encode()):
        with listener(line), pytest.raises(data.DataError, match="something else than this job answers there"):
            hosts.shared().__enter__()


def test_hosts_find_the_tracker_and_are_patient_while_they_train(
    job: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hosts, "CommunicatorContext", lambda **given: nullcontext(asked.update(given)))
    job("algo-2")
    with listener(f"{hosts._token()} 4711\n".encode()), hosts.shared() as share:
        assert (share.rank, asked["dmlc_tracker_uri"], asked["dmlc_tracker_port"]) == (1, "127.0.0.1", 4711)
    assert asked["dmlc_timeout"] >= 3600, "a slow host is no fault"


@pytest.mark.parametrize("name", NAMES)
def test_a_first_host_without_a_name_is_said(
    job: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    job(name)
    monkeypatch.setenv("SM_NETWORK_INTERFACE_NAME", "eth0")
    monkeypatch.setattr(socket, "gethostbyname", unknown)
    with pytest.raises(data.DataError, match=r"^cannot reach algo-1, port \d+ \(.*not known"):
        hosts.shared().__enter__()


def test_shares_are_all_rows_once() -> None:
    table = pd.DataFrame({"row": range(11)})
    shares = [hosts.Share(rank, 3).of(table, "train") for rank in range(3)]
    assert sorted(pd.concat(shares)["row"]) == list(range(11))
    assert hosts.ALONE.is_first and hosts.ALONE.of(table, "train").equals(table)
    with pytest.raises(data.DataError, match="validation set has 11 rows for 12 hosts"):
        hosts.Share(0, 12).of(table, "validation")
