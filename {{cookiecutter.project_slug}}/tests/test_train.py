"""Hyperparameters that cannot be: one line each, with the value and the rule that it breaks."""

from pathlib import Path

import pytest
import xgboost as xgb

import preprocess
import train

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    preprocess.main(["--input", str(ROOT / "data"), "--output", str(folder)])
    return folder


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--max_depth=-3", "XGBoost: value -3 for Parameter max_depth should be greater equal to 0"),
        ("--eta=-1", "XGBoost: value -1 for Parameter learning_rate should be greater equal to 0"),
        ("--subsample=3", "XGBoost: value 3 for Parameter subsample exceed bound [0,1]"),
        ("--num_round=0", "--num_round must be at least 1, not 0: correct [hyperparameters]"),
        ("--num_round=-2", "--num_round must be at least 1, not -2: correct [hyperparameters]"),
        ("--early_stopping_rounds=0", "--early_stopping_rounds must be at least 1, not 0: correct [hyperparameters]"),
    ],
)
def test_a_bad_hyperparameter_is_one_line_with_value_and_rule(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, said: str
) -> None:
    paths = ["--train", str(splits / "train"), "--validation", str(splits / "validation")]
    with pytest.raises(SystemExit) as end:
        train.main([*paths, "--model-dir", str(tmp_path / "model"), argument])
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)
    assert not (tmp_path / "model").exists()


def test_the_telling_line_has_no_place_in_xgboosts_code(
    splits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for parameters in train.OBJECTIVES.values():
        monkeypatch.setitem(parameters, "objective", "guess")
    paths = ["--train", str(splits / "train"), "--validation", str(splits / "validation"), "--model-dir", "x"]
    with pytest.raises(SystemExit):
        train.main(paths)
    assert capsys.readouterr().err.strip() == "XGBoost: Unknown objective function: `guess`"


LOST = """[15:59:13] /workspace/src/collective/result.cc:83: [histogram.h:197|15:59:13]:

- [allreduce.cc:135|15:59:13]: Ring Allreduce failed.
- [socket.h:79|15:59:13]: Poll error condition:Success code:0
Stack trace:
  [bt] (0) libxgboost.so(+0x11031e) [0x7f4392d1031e]
"""


def test_of_a_lost_host_the_innermost_cause_is_told() -> None:
    lost = "another host of this job failed or was lost, and its log says why: Poll error condition:Success code:0"
    assert train._reason(xgb.core.XGBoostError(LOST)) == lost
    assert train._reason(xgb.core.XGBoostError("")) == "it gives no reason"
