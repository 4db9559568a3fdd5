"""Training on two hosts, here two processes: one model, from all rows, written once; and what can go wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_shares_are_all_rows_once() -> None:
    table = pd.DataFrame({"row": range(11)})
    shares = [hosts.Share(rank, 3).of(table, "train") for rank in range(3)]
    assert sorted(pd.concat(shares)["row"]) == list(range(11))
    assert hosts.ALONE.is_first and hosts.ALONE.of(table, "train").equals(table)
    with pytest.raises(data.DataError, match="validation set has 11 rows for 12 hosts"):
        hosts.Share(0, 12).of(table, "validation")
