"""Mistakes of users: each is one line that says what is wrong and where, and leaves no partial results."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Bake, RunIn

CSV = "data/breast_cancer.csv"


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a change that replaces the first `old` in a file of a project."""

    def change(project: Path) -> None:
        text = (project / file).read_text()
        assert old in text
        (project / file).write_text(text.replace(old, new, 1))

    return change


def written(file: str, text: Callable[[str], str]) -> Callable[[Path], None]:
    """Return a change that writes a file again; `text` returns the new text for the old one."""

    def change(project: Path) -> None:
        (project / file).write_text(text((project / file).read_text()))

    return change


def removed(file: str) -> Callable[[Path], None]:
    """Return a change that deletes a file."""
    return lambda project: (project / file).unlink()


def one_class(text: str) -> str:
    head, *body = text.splitlines()
    return "\n".join([head, *(row for row in body if "benign" in row)]) + "\n"


def wrong_type(text: str) -> str:
    head, first, second, *body = text.splitlines()
    return "\n".join([head, first, ",".join(["large", *second.split(",")[1:]]), *body]) + "\n"


def bad_encoding(project: Path) -> None:
    (project / CSV).write_bytes((project / CSV).read_bytes() + b"\xff\xfe\n")


DATA = {
    "no-target-column": (replaced(CSV, "diagnosis", "diagnose"), ["breast_cancer.csv", "diagnosis"]),
    "zero-rows": (written(CSV, lambda text: text.splitlines()[0] + "\n"), ["breast_cancer.csv", "row"]),
    "one-class": (written(CSV, one_class), ["diagnosis", "benign"]),
    "wrong-type": (written(CSV, wrong_type), ["breast_cancer.csv", "mean_radius", "3", "'large'"]),
    "bad-encoding": (bad_encoding, ["breast_cancer.csv", "UTF-8"]),
    "empty-test-set": (replaced("mlops.toml", "test_fraction = 0.2", "test_fraction = 0.000001"), ["test"]),
}


@pytest.mark.parametrize(("mistake", "words"), DATA.values(), ids=DATA.keys())
def test_a_mistake_in_the_data_is_one_line(
    bake: Bake, run_in: RunIn, mistake: Callable[[Path], None], words: list[str]
) -> None:
    project = bake()
    mistake(project)
    done = run_in(project, "sagegate", "run", check=False)
    assert done.returncode == 1
    verdict = done.stdout.splitlines()[-1]
    assert "Step Preprocess failed" in verdict
    for word in words:
        assert word in verdict
    assert "Traceback" not in done.stdout + done.stderr
    assert list((project / ".mlops" / "s3").rglob("*.parquet")) == []


settings = partial(replaced, "mlops.toml")
SETTINGS = {
    "unknown-key": (settings("metric =", "metrics = 1\nmetric ="), ["mlops.toml", "gate.metrics"]),
    "not-toml": (settings("[gate]", "[gate"), ["mlops.toml", "TOML"]),
    "nan-threshold": (settings("threshold = 0.95", "threshold = nan"), ["mlops.toml", "gate.threshold", "finite"]),
    "text-threshold": (settings("threshold = 0.95", 'threshold = "high"'), ["mlops.toml", "gate.threshold"]),
    "fractions": (settings("test_fraction = 0.2", "test_fraction = 0.9"), ["mlops.toml", "no rows to train on"]),
    "no-data-folder": (settings('source = "data"', 'source = "dada"'), ["dada"]),
    "no-csv": (removed(CSV), ["data", ".csv"]),
    "another-file": (lambda project: (project / "data" / "b.xlsx").write_text(""), ["b.xlsx is not read", ".parquet"]),
    "no-local-data": (
        written("environments/local.toml", lambda text: 'data_source = "dada"\n' + text),
        ["environments/local.toml: data_source", "dada"],
    ),
    "no-environment": (removed("environments/local.toml"), ["environments/", "local"]),
    "no-definition": (written("pipeline/definition.json", lambda text: "{"), ["definition.json", "sagegate compile"]),
    "no-pipeline": (removed("pipeline/pipeline.py"), ["pipeline/pipeline.py is missing"]),
    "no-s3-location": (
        settings('source = "data"', 'source = "s3://"'),
        ["mlops.toml", "'s3://' is not an S3 location"],
    ),
    "another-name": (
        written("environments/local.toml", lambda text: 'name = "prod"\n' + text),
        ["environments/local.toml: name: no such key"],
    ),
    "mlops-is-a-file": (lambda project: (project / ".mlops").write_text(""), [".mlops", "Not a directory"]),
    "a-hyperparameter-that-fit-does-not-take": (
        written("mlops.toml", lambda text: text.replace("max_depth = 4", "max_dept = 4")),
        ["mlops.toml: hyperparameters.max_dept: fit in model/estimator.py takes num_round, max_depth, eta"],
    ),
    "no-script": (removed("model/evaluate.py"), ["model/evaluate.py"]),
    "syntax-error": (written("model/train.py", lambda text: "def main(:\n"), ["model/train.py", "line 1"]),
}


@pytest.mark.parametrize(("mistake", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_mistake_in_settings_or_files_is_one_line(
    bake: Bake, run_in: RunIn, mistake: Callable[[Path], None], words: list[str]
) -> None:
    project = bake()
    mistake(project)
    done = run_in(project, "sagegate", "run", check=False)
    assert done.returncode in (1, 2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("sagegate: "), done.stderr
    for word in words:
        assert word in lines[0]
    assert not (project / ".mlops" / "executions").exists()


COMMANDS = {
    "set-without-value": (["run", "--set", "max_depth"], "NAME=VALUE"),
    "set-unknown": (["run", "--set", "max_dept=3"], "max_depth"),
    "set-wrong-type": (["run", "--set", "max_depth=deep"], "Integer"),
    "no-such-model": (["approve", "7", "--reason", "x"], "there is no model 7"),
    "no-such-execution": (["status", "abc"], "there is no execution abc"),
    "nothing-served": (["invoke", "--url", "http://127.0.0.1:9", "{data}"], "sagegate serve"),
    "no-address": (["invoke", "--url", "localhost:8080", "{data}"], "an address begins with http://"),
    "no-port": (["invoke", "--url", "http://127.0.0.1:port", "{data}"], "sagegate serve"),
    "no-such-file": (["invoke", "nowhere.csv"], "no such file"),
}


@pytest.mark.parametrize(("command", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command_is_one_line(baked: Bake, run_in: RunIn, command: list[str], words: str) -> None:
    project = baked()
    arguments = [part.replace("{data}", str(project / CSV)) for part in command]
    done = run_in(project, "sagegate", *arguments, check=False)
    assert done.returncode in (1, 2)
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_outside_a_project(run_in: RunIn, baked: Bake, tmp_path: Path) -> None:
    done = run_in(
        tmp_path, "sagegate", "status", check=False, env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    )
    assert done.returncode == 2 and "no mlops.toml" in done.stderr


def test_a_failure_is_said_once(bake: Bake, run_in: RunIn) -> None:
    """The log's end is shown only if it has more than the reason."""
    project = bake()
    failed = run_in(project, "sagegate", "run", "--set", "max_depth=-3", check=False).stdout
    assert failed.count("value -3 for Parameter max_depth") == 1 and "last lines" not in failed
    file = project / "model" / "train.py"
    file.write_text(file.read_text().replace("def main(", "print('before')\n\n\ndef main(", 1))
    failed = run_in(project, "sagegate", "run", "--set", "max_depth=-3", check=False).stdout
    assert failed.count("value -3 for Parameter max_depth") == 1 and "| before" in failed
