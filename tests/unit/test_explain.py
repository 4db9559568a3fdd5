"""`sagegate explain` on SageMaker's own failure reasons, on failures of local runs, and on the fake AWS."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Bake, RunIn
from failures import CONTAINER_TRACEBACK, LAUNCHER, SCRIPT_FAILED, SEE_LOG, case, known_failures, traceback
from places import Place

from sagegate.explain import causes
from sagegate.explain.causes import Case, decisive_traceback, diagnose

if TYPE_CHECKING:
    from fakes.remote import Remote

FAILURES = known_failures()


@pytest.mark.parametrize(("kind", "failure", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_a_known_failure(kind: str, failure: Case, words: list[str]) -> None:
    found = diagnose(failure)
    assert found.kind == kind, found
    for word in words:
        assert word in f"{found.cause} {found.fix}", found
    assert "{" not in found.cause + found.fix and "  " not in found.cause, found


def test_every_kind_of_failure_has_an_example() -> None:
    text = Path(causes.__file__).with_name("failures.toml").read_text(encoding="utf-8")
    kinds = {failure["kind"] for failure in tomllib.loads(text)["failure"]}
    assert kinds - {"code"} <= {kind for kind, _, _ in FAILURES.values()}


@pytest.mark.parametrize("reason", ["ClientError: Error Details: null", SEE_LOG, "ClientError: 42", "", "no message"])
def test_an_unknown_failure_is_reported_as_unknown(reason: str) -> None:
    assert diagnose(case(reason)).kind == "unknown"


def test_a_warning_earlier_in_the_log_is_not_the_cause() -> None:
    noise = ["WARNING: AccessDenied for telemetry, going on", *[f"[{n}] train-logloss=0.1" for n in range(40)]]
    assert diagnose(case(SCRIPT_FAILED, [*noise, *traceback("ValueError: no rows"), *LAUNCHER])).kind == "script"


@pytest.mark.parametrize("progress", ["reading raw.csv, 500 rows", "raw.csv, line 7, column 'age': corrected"])
def test_progress_before_a_traceback_is_not_the_cause(progress: str) -> None:
    assert diagnose(case(SCRIPT_FAILED, [progress, *traceback("ValueError: no rows"), *LAUNCHER])).kind == "script"


def test_progress_before_last_words_is_not_the_cause() -> None:
    found = diagnose(case(SCRIPT_FAILED, ["reading raw.csv, 500 rows", "no licence", *LAUNCHER]))
    assert found.kind == "script-message" and "no licence" in found.cause


def test_the_failure_reason_is_searched_before_the_log() -> None:
    found = diagnose(case("ClientError: Artifact upload failed:Insufficient disk space", traceback("MemoryError")))
    assert found.kind == "disk"


def test_the_frame_is_the_last_one_in_the_projects_own_code() -> None:
    found = decisive_traceback([*traceback("KeyError: 'age'"), *CONTAINER_TRACEBACK])
    assert found and found.frame == "model/train.py, line 42, in train" and found.exception == "KeyError: 'age'"


# --- local runs, through the command line ----------------------------------------------------------------------------


def in_train(statement: str) -> tuple[str, str, str]:
    return ("model/train.py", "    args = parse(argv)\n", f"    args = parse(argv)\n    {statement}\n")


MISTAKES = {
    "exception": (in_train('{}["depth"]'), ["step Train failed", "KeyError: 'depth'", "model/train.py, line "]),
    "killed": (in_train("__import__('signal').raise_signal(9)"), ["step Train failed", "ran out of memory"]),
    "module": (
        ("model/evaluate.py", "import argparse\n", "import argparse\nimport lightgbm\n"),
        ["step Evaluate failed", "lightgbm", "not started: Gate"],
    ),
    "column": (
        ("data/breast_cancer.csv", "diagnosis", "diagnose"),
        ["step Preprocess failed", "did you mean 'diagnose'"],
    ),
    "no-report": (
        ("model/evaluate.py", '(args.output / "evaluation.json").write_text(text, encoding="utf-8")', "pass"),
        ["step Gate failed", "an earlier step did not write"],
    ),
}


def test_failures_of_local_runs(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    nothing = run_in(project, "sagegate", "explain")
    assert "no execution has failed" in nothing.stdout
    for (name, old, new), words in MISTAKES.values():
        file = project / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        assert run_in(project, "sagegate", "run", check=False).returncode == 1
        said = run_in(project, "sagegate", "explain").stdout
        file.write_text(text)
        for word in [*words, "  cause ", "  fix "]:
            assert word in said, said
        assert "  cause   unknown" not in said
    assert run_in(project, "sagegate", "run").returncode == 0
    assert "nothing to explain" in run_in(project, "sagegate", "explain", newest(project)).stdout
    assert "step Gate failed" in run_in(project, "sagegate", "explain").stdout  # still the latest that failed


def test_a_rejection_by_the_gate_is_not_explained_as_an_error(bake: Bake, run_in: RunIn) -> None:
    project = bake()
    assert run_in(project, "sagegate", "run", "--set", "GateThreshold=0.9999", check=False).returncode == 3
    said = run_in(project, "sagegate", "explain").stdout
    assert "nothing is broken" in said and "misses the threshold 0.9999" in said and "accuracy" in said
    assert "reason" not in said


# --- on AWS, over HTTP ------------------------------------------------------------------------------------------------


def fault(place: Place, fake_aws: "Remote", step: str, reason: str, **more: Any) -> str:
    """Make the next attempt of a step fail, run the pipeline, and return what `sagegate explain` prints."""
    fake_aws.add_fault(step, reason, **more)
    place.run("run", code=1)
    return place.run("explain")


def test_failures_on_aws(dev: Place, fake_aws: "Remote") -> None:
    known = {name: (case.reason, case.log) for name, (_, case, _) in FAILURES.items()}

    reason, _ = known["quota"]
    said = fault(dev, fake_aws, "Train", reason, when="create")
    assert "step Train failed" in said and "quota 'ml.m5.xlarge for training job usage'" in said
    assert "no job was created, so there is no log" in said and "not started: Evaluate" in said

    reason, log = known["permission-in-the-log"]
    said = fault(dev, fake_aws, "Evaluate", reason, when="before", log=log)
    assert "lacks the permission s3:GetObject on arn:aws:s3:::lake/raw.csv" in said
    assert "| botocore.exceptions.ClientError" in said
    assert "log group /aws/sagemaker/ProcessingJobs, streams pipelines-" in said and "logs: https://" in said

    dev.edit("model/train.py", "    args = parse(argv)\n", '    args = parse(argv)\n    {}["depth"]\n')
    dev.run("run", code=1)
    said = dev.run("explain")
    assert "KeyError: 'depth', raised at model/train.py, line " in said


def newest(project: Path) -> str:
    return max((project / ".mlops" / "executions").iterdir(), key=lambda f: f.stat().st_mtime_ns).name
