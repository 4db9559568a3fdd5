"""XGBoost as the estimator: wrong hyperparameters are one line, and two hosts (here processes) make one model.

test_estimators.py runs this file as a test of a project. Projects do not carry it, because the estimator is theirs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import artifact
import data
import estimator
import numpy as np
import preprocess
import pytest
import train
import xgboost as xgb
from tests.raw_data import DATA
from xgboost import collective

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    preprocess.main(["--input", str(DATA), "--output", str(folder)])
    return folder


def flags(splits: Path, model: Path) -> list[str]:
    return ["--train", str(splits / "train"), "--validation", str(splits / "validation"), "--model-dir", str(model)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--max_depth=-3", "XGBoost: value -3 for Parameter max_depth should be greater equal to 0"),
        ("--subsample=3", "XGBoost: value 3 for Parameter subsample exceed bound [0,1]"),
        ("--num_round=0", "num_round must be at least 1, not 0: correct [hyperparameters]"),
        ("--early_stopping_rounds=0", "early_stopping_rounds must be at least 1, not 0: correct [hyperparameters]"),
    ],
)
def test_a_wrong_hyperparameter_is_one_line_with_value_and_rule(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        train.main([*flags(splits, tmp_path / "model"), argument])
    assert end.value.code == 1
    assert capsys.readouterr().err == f"{message}\n"
    assert not (tmp_path / "model").exists()


def test_an_error_of_xgboost_has_no_place_in_its_code() -> None:
    error = "[15:59:13] /src/objective/objective.cc:25: Unknown objective function: `guess`\nhelp\nStack trace:\n  [bt]"
    assert estimator.reason(xgb.core.XGBoostError(error)) == "Unknown objective function: `guess`"
    lost = (
        "[15:59:13] /src/result.cc:83: [histogram.h:197]:\n\n- [allreduce.cc:135]: failed.\n- [socket.h:79]: Poll error"
    )
    assert estimator.reason(xgb.core.XGBoostError(lost)).endswith("was lost, and its log says why: Poll error")


def start(splits: Path, output: Path, hosts: list[str], host: str, before: str = "") -> subprocess.Popen[str]:
    """Start train.py as one of several hosts. The code `before` runs first."""
    job = {
        "SM_HOSTS": json.dumps(hosts),
        "SM_CURRENT_HOST": host,
        "SM_NETWORK_INTERFACE_NAME": "lo",
        "TRAINING_JOB_NAME": str(output.parent),
        "SM_OUTPUT_DIR": str(output / "out"),
    }
    code = f"import sys\nsys.path.insert(0, {str(ROOT / 'model')!r})\nimport train\n{before}\ntrain.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *flags(splits, output / "model"), "--num_round", "8"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | job, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def wait(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def test_two_hosts_train_one_model_like_one_host(splits: Path, tmp_path: Path) -> None:
    alone = start(splits, tmp_path / "alone", ["algo-1"], "algo-1")
    second = start(splits, tmp_path / "algo-2", ["algo-1", "algo-2"], "algo-2")  # it may come first, and waits
    first = start(splits, tmp_path / "algo-1", ["algo-1", "algo-2"], "algo-1")
    logs = [wait(process) for process in (alone, first, second)]
    assert [process.returncode for process in (alone, first, second)] == [0, 0, 0], logs
    assert not (tmp_path / "algo-2" / "model").exists(), "only the first host writes the model"
    rounds = [[line for line in log.splitlines() if line.startswith("[7]")] for log in logs]
    assert rounds[1] == rounds[2] and len(rounds[1]) == 1, "both measure on all rows"
    rows = data.read_split(splits / "test")
    one, two = (artifact.load(tmp_path / name / "model").predict(rows) for name in ("alone", "algo-1"))
    assert np.abs(one - two).mean() < 0.2 * np.std(one)
    record = json.loads((tmp_path / "algo-1" / "model" / "training.json").read_text())
    assert record["rows"]["train"] == len(data.read_split(splits / "train")), "all rows, not a share of them"


def test_a_first_host_that_never_comes_is_one_line(splits: Path, tmp_path: Path) -> None:
    second = start(splits, tmp_path / "algo-2", ["algo-1", "algo-2"], "algo-2", "import hosts\nhosts.STARTING = 0.2")
    last = wait(second).splitlines()[-1]
    assert second.returncode == 1
    assert "the hosts of this job do not meet on port 2" in last and "security groups" in last


def test_more_hosts_than_rows_are_one_line(monkeypatch: pytest.MonkeyPatch, splits: Path) -> None:
    monkeypatch.setattr(collective, "get_world_size", lambda: 1000)
    tables = {name: data.read_split(splits / name) for name in ("train", "validation")}
    with pytest.raises(data.DataError, match=r"the train set has \d+ rows for 1000 hosts: use fewer hosts"):
        train.train(tables, data.load_schema(), train.hyperparameters())
