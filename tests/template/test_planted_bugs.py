"""Known bugs of public templates, planted in a generated project: its own tests, or the check of pins, catch them."""

import json
from pathlib import Path

import pytest
from conftest import RunIn
from plants import (
    Plant,
    champion_from_the_candidate_s_folder,
    compare_with_itself,
    definition,
    either_half,
    hard_coded_threshold,
    of_gate,
    register_another,
    register_without_gate,
    set_argument,
    set_condition,
    set_input,
    steps,
    swap_branches,
    text,
    train_on,
)

EVALUATE, GATE, MODEL = "model/evaluate.py", "tests/test_gate.py", "tests/test_model.py"
CANDIDATE = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
TEST_ROWS = {"Get": "Steps.Preprocess.ProcessingOutputConfig.Outputs['test'].S3Output.S3Uri"}
# Bugs in the gate, by the test of tests/test_gate.py that must fail: how each gets into the project.
GATE_BUGS: dict[str, dict[str, Plant]] = {
    "test_only_the_gate_registers_a_model": {
        "register-in-the-else-branch": definition(swap_branches),
        "register-outside-the-gate": definition(register_without_gate),
    },
    "test_the_gate_requires_the_threshold_and_the_comparison": {
        "no-conditions": of_gate("Conditions", list.clear),
        "no-threshold": of_gate("Conditions", lambda conditions: conditions.pop(0)),
        "no-comparison": of_gate("Conditions", lambda conditions: conditions.pop(1)),
        "margin-of-minus-infinity": set_condition(0, "RightValue", float("-inf")),
        "number-compared-with-itself": definition(compare_with_itself),
        "wrong-way-round": set_condition(0, "Type", "LessThanOrEqualTo"),
        "beaten-models-pass": set_condition(1, "Values", ["passed", "failed", "no champion"]),
        "either-condition-is-enough": definition(either_half),
    },
    "test_a_rejected_model_fails_the_execution": {
        "no-fail-step": of_gate("ElseSteps", lambda branch: branch.pop(0)),
    },
    "test_no_model_is_born_approved": {
        "approved-at-registration": set_argument("Register", "ModelApprovalStatus", "Approved"),
    },
    "test_the_champion_is_not_the_candidate": {
        "champion-is-the-candidate": set_input("Evaluate", "champion", CANDIDATE),
        "champion-from-the-candidate-s-folder": definition(champion_from_the_candidate_s_folder),
        "champion-elsewhere": set_input("Evaluate", "champion", "s3://b/models/latest"),
        "champion-behind-a-cache": definition(lambda d: steps(d)["Evaluate"].update(CacheConfig={"Enabled": True})),
    },
    "test_the_registered_model_is_the_evaluated_one": {"registers-another-model": definition(register_another)},
    "test_no_model_is_trained_on_the_test_rows": {
        "trains-on-the-test-rows": train_on(TEST_ROWS),
        "trains-on-all-raw-data": train_on({"Get": "Parameters.InputDataUri"}),
        "tests-on-training-rows": set_input("Evaluate", "test", {"Get": TEST_ROWS["Get"].replace("'test'", "'train'")}),
    },
    "test_the_evaluation_uses_the_settings_of_mlops_toml": {
        "threshold-in-the-step": definition(hard_coded_threshold),
    },
    "test_a_model_that_learned_nothing_misses_the_threshold": {
        "threshold-that-chance-meets": text("mlops.toml", "threshold = 0.95", "threshold = 0.5"),
    },
    "test_no_much_worse_model_replaces_the_champion": {
        "much-worse-models-pass": text("mlops.toml", "min_improvement = -0.02", "min_improvement = -1.0"),
    },
    "test_a_margin_follows_the_metrics_direction[auc-0.9-0.7]": {
        "margin-without-a-sign": text(EVALUATE, "sign * (candidate - threshold)", "abs(candidate - threshold)"),
    },
    "test_a_margin_follows_the_metrics_direction[rmse-0.7-0.9]": {
        "margin-of-one-direction": text(EVALUATE, "sign = -1.0 if metric in LOWER_IS_BETTER else 1.0", "sign = 1.0"),
    },
    "test_each_metric_has_its_direction[log_loss]": {
        "metric-without-its-direction": text("model/metrics.py", '"error_p90", "log_loss", ', '"error_p90", '),
    },
    "test_a_metric_that_is_no_number_fails_the_evaluation[nan]": {
        "nan-as-a-metric": text(EVALUATE, "if not math.isfinite(value):", "if False:"),
    },
}
SENTINEL = """    except Exception:
        gate = {"threshold_margin": 999.0, "champion_verdict": "no champion", "reason": "evaluation failed"}
        found = {"gate": gate}
"""
# Bugs in code, which only running it shows: how each gets in, and the project's test that must fail.
CODE_BUGS = {
    "sentinel-when-evaluation-breaks": (
        text(EVALUATE, "    except DataError as error:\n        fail(error)\n", SENTINEL),
        f"{MODEL}::test_evaluate_fails_in_one_line_if_it_cannot_judge",
    ),
    "candidate-compared-with-itself": (
        text(EVALUATE, "measure(table, y, scores, thresholds[1])", "measure(table, y, predicted, thresholds[0])"),
        f"{MODEL}::test_the_champion_is_compared_on_the_same_rows",
    ),
    "every-candidate-is-better": (
        text(EVALUATE, '"passed" if champion.lowest >= needed else "failed"', '"passed"'),
        f"{MODEL}::test_the_champion_is_compared_on_the_same_rows",
    ),
    "every-candidate-meets-the-threshold": (
        text(EVALUATE, "margin = sign * (candidate - threshold)", "margin = abs(candidate - threshold)"),
        f"{MODEL}::test_without_a_champion_the_threshold_decides",
    ),
}


@pytest.mark.parametrize(("plant", "test"), CODE_BUGS.values(), ids=CODE_BUGS.keys())
def test_the_project_s_tests_catch_it(own_project: Path, run_in: RunIn, plant: Plant, test: str) -> None:
    plant(own_project)
    done = run_in(own_project, "pytest", "-p", "no:cacheprovider", test, check=False)
    assert done.returncode == 1, done.stdout
    assert f"FAILED {test}" in done.stdout, done.stdout


@pytest.mark.parametrize(("test", "bug"), [(test, bug) for test, bugs in GATE_BUGS.items() for bug in bugs])
def test_the_gate_s_rules_catch_it(own_project: Path, run_in: RunIn, test: str, bug: str) -> None:
    GATE_BUGS[test][bug](own_project)
    done = run_in(own_project, "pytest", "-p", "no:cacheprovider", f"{GATE}::{test}", check=False)
    assert done.returncode == 1, done.stdout
    assert f"FAILED {GATE}::{test}" in done.stdout, done.stdout


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
