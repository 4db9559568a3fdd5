"""Known bugs of public templates that only running shows: the project's own tests, or its pins' schema, refuse them."""

import json
from pathlib import Path

import pytest
from conftest import RunIn
from plants import Plant, text

EVALUATE, SMOKE, MODEL, PIPELINE = (
    "model/evaluate.py",
    "sagegate/deployment/smoke.py",
    "tests/test_model.py",
    "tests/test_pipeline.py",
)
SENTINEL = """    except Exception:
        gate = {"threshold_margin": 999.0, "champion_verdict": "no champion", "reason": "evaluation failed"}
        found = {"gate": gate}
"""
# Bugs in code, which only running it shows: how each gets in, and the project's test that must fail.
CODE_BUGS = {
    "sentinel-when-evaluation-breaks": (
        text(EVALUATE, "    except DataError as error:\n        fail(error)\n", SENTINEL),
        f"{MODEL}::test_evaluate_refuses_what_it_cannot_judge",
    ),
    "nan-as-a-metric": (
        text(EVALUATE, "if not math.isfinite(value):", "if False:"),
        f"{MODEL}::test_nan_is_never_a_metric",
    ),
    "candidate-compared-with-itself": (
        text(EVALUATE, "theirs = measure(table, y, scores)", "theirs = measure(table, y, predicted)"),
        f"{MODEL}::test_the_champion_is_compared_on_the_same_rows",
    ),
    "every-candidate-is-better": (
        text(EVALUATE, '"beaten" if improvement >= needed else "not beaten"', '"beaten"'),
        f"{MODEL}::test_the_champion_is_compared_on_the_same_rows",
    ),
    "every-candidate-meets-the-threshold": (
        text(EVALUATE, "margin = sign * (candidate - threshold)", "margin = abs(candidate - threshold)"),
        f"{MODEL}::test_without_a_champion_the_threshold_decides",
    ),
    "smoke-test-that-echoes": (
        text(SMOKE, "ask(sample.request, JSON)", "Answer(200, JSON, json.dumps(sample.response).encode())"),
        f"{PIPELINE}::test_the_smoke_test_asks_the_model",
    ),
    "smoke-test-of-the-status-only": (
        text(SMOKE, "fault_in(answer, sample.response)", 'None if answer.status == 200 else "not well"'),
        f"{PIPELINE}::test_the_smoke_test_asks_the_model",
    ),
    "rejected-model-with-exit-code-0": (
        text("sagegate/errors.py", "REJECTED = 3", "REJECTED = 0"),
        f"{PIPELINE}::test_the_pipeline_runs_and_its_gate_can_reject",
    ),
}


@pytest.mark.parametrize(("plant", "test"), CODE_BUGS.values(), ids=CODE_BUGS.keys())
def test_the_project_s_tests_see_it(own_project: Path, run_in: RunIn, plant: Plant, test: str) -> None:
    plant(own_project)
    done = run_in(own_project, "pytest", "-p", "no:cacheprovider", test, check=False)
    assert done.returncode == 1, done.stdout
    assert f"FAILED {test}" in done.stdout, done.stdout


def test_a_deployment_that_is_not_of_one_exact_model_is_refused(own_project: Path, run_in: RunIn) -> None:
    run_in(own_project, "sagegate", "run")
    run_in(own_project, "sagegate", "promote", "staging", "--from", "local")
    run_in(own_project, "sagegate", "check")
    file = own_project / "deployments" / "staging.json"
    pinned = file.read_text(encoding="utf-8")
    digest = json.loads(pinned)["model"]["artifact"]["sha256"]
    for old, new, words in (
        ("model-package/my-model/1", "model-package/my-model/latest", "is not that of"),
        ("model-package/my-model/1", "model-package/my-model/2", "is not that of"),
        ('"version": 1\n', '"version": "latest"\n', "model.version"),
        (f'"sha256": "{digest}"', '"sha256": "latest"', "model.artifact.sha256"),
        (f'      "sha256": "{digest}",\n', "", "model.artifact.sha256"),
    ):
        assert old in pinned
        file.write_text(pinned.replace(old, new), encoding="utf-8")
        done = run_in(own_project, "sagegate", "check", check=False)
        assert done.returncode == 1 and words in done.stderr, f"{new}: {done.stderr}"
        assert done.stderr.startswith("sagegate: deployments/staging.json: ")
