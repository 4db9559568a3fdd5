"""Known bugs of public templates, planted in a generated project as a careless person would: its own checks fail.

Each case edits files of a baked project and names what must see it: a rule of `mlops check`, or a test of the project.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import RunIn, run_module

Json = dict[str, Any]
Plant = Callable[[Path], None]


def definition(change: Callable[[Json], None]) -> Plant:
    """A plant that changes the compiled definition; `mlops compile` of such a pipeline.py gives the same."""

    def plant(project: Path) -> None:
        file = project / "pipeline" / "definition.json"
        found = json.loads(file.read_text(encoding="utf-8"))
        change(found)
        file.write_text(json.dumps(found, indent=2), encoding="utf-8")

    return plant


def text(file: str, old: str, new: str) -> Plant:
    """A plant that replaces text, which must be there."""

    def plant(project: Path) -> None:
        path = project / file
        before = path.read_text(encoding="utf-8")
        assert old in before, f"{file} has no {old!r}"
        path.write_text(before.replace(old, new), encoding="utf-8")

    return plant


def workflow(step: str) -> Plant:
    """A plant that adds a workflow with this step."""

    def plant(project: Path) -> None:
        folder = project / ".github" / "workflows"
        folder.mkdir(exist_ok=True)
        head = "on: push\npermissions: {}\njobs:\n  planted:\n    runs-on: ubuntu-24.04\n    steps:\n"
        (folder / "planted.yml").write_text(f"{head}      {step}\n", encoding="utf-8")

    return plant


def steps(found: Json) -> dict[str, Json]:
    """The steps by name, those of the gate's branches included."""
    branches = found["Steps"][3]["Arguments"]
    return {step["Name"]: step for step in [*found["Steps"], *branches["IfSteps"], *branches["ElseSteps"]]}


def of_gate(key: str, change: Callable[[list[Any]], None]) -> Plant:
    return definition(lambda found: change(steps(found)["Gate"]["Arguments"][key]))


def set_condition(index: int, field: str, value: object) -> Plant:
    return of_gate("Conditions", lambda conditions: conditions[index].__setitem__(field, value))


def swap_branches(found: Json) -> None:
    gate = steps(found)["Gate"]["Arguments"]
    gate["IfSteps"], gate["ElseSteps"] = gate["ElseSteps"], gate["IfSteps"]


def register_without_gate(found: Json) -> None:
    found["Steps"].append(steps(found)["Gate"]["Arguments"]["IfSteps"].pop(0))


def either_half(found: Json) -> None:
    arguments = steps(found)["Gate"]["Arguments"]
    arguments["Conditions"] = [{"Type": "Or", "Conditions": arguments["Conditions"]}]


def compare_with_itself(found: Json) -> None:
    condition = steps(found)["Gate"]["Arguments"]["Conditions"][0]
    condition["RightValue"] = condition["LeftValue"]


def set_input(step: str, name: str, source: object) -> Plant:
    def change(found: Json) -> None:
        inputs = {entry["InputName"]: entry for entry in steps(found)[step]["Arguments"]["ProcessingInputs"]}
        inputs[name]["S3Input"]["S3Uri"] = source

    return definition(change)


def champion_from_the_candidate_s_folder(found: Json) -> None:
    arguments = steps(found)["Evaluate"]["Arguments"]["AppSpecification"]["ContainerArguments"]
    arguments[arguments.index("--champion") + 1] = "/opt/ml/processing/input/model"


def hard_coded_threshold(found: Json) -> None:
    arguments = steps(found)["Evaluate"]["Arguments"]["AppSpecification"]["ContainerArguments"]
    arguments[arguments.index("--threshold") + 1] = "0.0"


def train_on(source: object) -> Plant:
    def change(found: Json) -> None:
        channels = steps(found)["Train"]["Arguments"]["InputDataConfig"]
        channels[1]["DataSource"]["S3DataSource"]["S3Uri"] = source

    return definition(change)


def set_argument(step: str, key: str, value: object) -> Plant:
    return definition(lambda found: steps(found)[step]["Arguments"].__setitem__(key, value))


def register_another(found: Json) -> None:
    container = steps(found)["Register"]["Arguments"]["InferenceSpecification"]["Containers"][0]
    container["ModelDataUrl"] = "s3://somewhere/model.tar.gz"


CANDIDATE = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
TEST_ROWS = {"Get": "Steps.Preprocess.ProcessingOutputConfig.Outputs['test'].S3Output.S3Uri"}
SUBJECT = '!Sub "repo:${GitHubRepository}:environment:dev"'
TRUSTED = f"token.actions.githubusercontent.com:sub: {SUBJECT}"
ACTIONS = "Action: [sagemaker:CreateModelPackage, sagemaker:DescribeModelPackage, sagemaker:AddTags]"
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
KEY = "AKIA" + "IOSFODNN7" + "EXAMPLE"  # the one of AWS's documentation


@dataclass(frozen=True)
class Bug:
    """A bug, how it gets in, and what `mlops check` has to say: the rule's name and where it looks."""

    rule: str
    plant: Plant
    where: str


BUGS = {
    # A gate that is off, or can never fail.
    "gate-without-conditions": Bug("gate", of_gate("Conditions", list.clear), "step Gate: nothing requires"),
    "gate-without-threshold": Bug("gate", of_gate("Conditions", lambda c: c.pop(0)), "gate.threshold_margin"),
    "gate-without-comparison": Bug("gate", of_gate("Conditions", lambda c: c.pop(1)), "gate.champion_verdict"),
    "gate-of-minus-infinity": Bug("gate", set_condition(0, "RightValue", float("-inf")), "gate.threshold_margin"),
    "gate-of-a-very-low-number": Bug("gate", set_condition(0, "RightValue", -1e9), "gate.threshold_margin"),
    "gate-that-compares-a-number-with-itself": Bug("gate", definition(compare_with_itself), "gate.threshold_margin"),
    "gate-the-wrong-way-round": Bug("gate", set_condition(0, "Type", "LessThanOrEqualTo"), "gate.threshold_margin"),
    "gate-that-lets-the-beaten-pass": Bug(
        "gate", set_condition(1, "Values", ["beaten", "not beaten", "no champion"]), "gate.champion_verdict"
    ),
    "gate-of-one-half-only": Bug("gate", definition(either_half), "gate.threshold_margin"),
    "register-in-the-else-branch": Bug("gate", definition(swap_branches), "step Register registers a model whatever"),
    "register-outside-the-gate": Bug(
        "gate", definition(register_without_gate), "step Register registers a model whatever"
    ),
    "threshold-that-chance-meets": Bug(
        "threshold", text("mlops.toml", "threshold = 0.95", "threshold = 0.0"), "mlops.toml: gate.threshold"
    ),
    "improvement-below-zero": Bug(
        "min-improvement", text("mlops.toml", "min_improvement = 0.0", "min_improvement = -1.0"), "min_improvement"
    ),
    "threshold-in-the-script-s-arguments": Bug(
        "gate-settings", definition(hard_coded_threshold), "does not get the parameter GateThreshold"
    ),
    # A rejected model that leaves CI green.
    "rejection-without-fail-step": Bug("rejection", of_gate("ElseSteps", lambda s: s.pop(1)), "no Fail step"),
    "rejection-ignored-in-a-workflow": Bug(
        "exit-code", workflow("- run: uv run mlops run --env dev || true"), ".github/workflows/planted.yml, line 7"
    ),
    "rejection-ignored-where-models-are-trained": Bug(
        "exit-code",
        text(".github/workflows/train.yml", "run: uv run mlops run --env dev", "run: uv run mlops run --env dev || :"),
        ".github/workflows/train.yml, line",
    ),
    "failures-ignored-in-a-workflow": Bug(
        "exit-code", workflow("- run: uv run mlops run\n        continue-on-error: true"), "planted.yml, line 8"
    ),
    # A comparison of the challenger with itself, or with a champion of long ago.
    "champion-is-the-candidate": Bug("champion", set_input("Evaluate", "champion", CANDIDATE), "the same input"),
    "champion-read-from-the-candidate-s-folder": Bug(
        "champion", definition(champion_from_the_candidate_s_folder), "the same input"
    ),
    "champion-elsewhere": Bug(
        "champion", set_input("Evaluate", "champion", "s3://b/models/latest"), "not the champion's place"
    ),
    "champion-behind-a-cache": Bug(
        "champion",
        definition(lambda d: steps(d)["Evaluate"].__setitem__("CacheConfig", {"Enabled": True, "ExpireAfter": "P30D"})),
        "step Evaluate: is cached",
    ),
    # Approval, and what is approved.
    "approved-at-registration": Bug("approval", set_argument("Register", "ModelApprovalStatus", "Approved"), "nobody"),
    "registers-what-was-not-evaluated": Bug("candidate", definition(register_another), "another artifact"),
    # Test data in training.
    "trains-on-the-test-rows": Bug("test-rows", train_on(TEST_ROWS), "step Train: channel validation"),
    "trains-on-all-raw-data": Bug("test-rows", train_on({"Get": "Parameters.InputDataUri"}), "all raw data"),
    "tests-on-training-rows": Bug(
        "test-rows",
        set_input("Evaluate", "test", {"Get": TEST_ROWS["Get"].replace("'test'", "'train'")}),
        "step Train: channel train",
    ),
    # Deploying whatever is the latest.
    "endpoint-of-another-model": Bug(
        "exact-model",
        text("infra/endpoint.yaml", "{ModelPackageName: !Ref ModelPackageArn}", "{ModelPackageName: !Ref ProjectName}"),
        "infra/endpoint.yaml, line 69",
    ),
    "trigger-without-status": Bug(
        "status-filter",
        text("infra/platform.yaml", "          ModelApprovalStatus: [Approved, Rejected]\n", ""),
        "infra/platform.yaml, line",
    ),
    # Credentials and permissions.
    "key-in-a-workflow": Bug("static-keys", workflow(f"- run: echo {KEY}"), "planted.yml, line 7"),
    "key-in-a-secret": Bug(
        "static-keys", workflow("- env: {AWS_SECRET_ACCESS_KEY: '${{ secrets.KEY }}'}"), "planted.yml, line 7"
    ),
    "key-in-an-environment": Bug(
        "static-keys",
        text("environments/dev.toml", "[processing]", f"# for now: {KEY}\n[processing]"),
        "environments/dev.toml, line",
    ),
    "administrator": Bug(
        "administrator",
        text(
            "infra/platform.yaml",
            "ManagedPolicyArns: !If [UsesKey, [!Ref KeyUse], !Ref AWS::NoValue]",
            "ManagedPolicyArns: [arn:aws:iam::aws:policy/AdministratorAccess]",
        ),
        "AdministratorAccess is far more",
    ),
    "every-action": Bug(
        "administrator", text("infra/platform.yaml", ACTIONS, 'Action: "*"'), "a statement for every action"
    ),
    "every-action-in-a-list": Bug(
        "administrator",
        text("infra/platform.yaml", ACTIONS, 'Action:\n            - "*"'),
        "a statement for every action",
    ),
    "trust-of-an-organisation": Bug(
        "trust", text("infra/platform.yaml", SUBJECT, '"repo:my-org/*"'), "trusts more than one environment"
    ),
    "trust-of-every-environment": Bug(
        "trust", text("infra/platform.yaml", SUBJECT, SUBJECT.replace("dev", "*")), "trusts more than one environment"
    ),
    "trust-of-one-wildcard-among-others": Bug(
        "trust",
        text(
            "infra/platform.yaml",
            '- !Sub "repo:${GitHubRepository}:environment:prod"',
            '- !Sub "repo:${GitHubRepository}:*"',
        ),
        "trusts more than one environment",
    ),
    "trust-of-all-of-github": Bug("trust", text("infra/platform.yaml", TRUSTED, ""), "whatever their `sub`"),
    "actions-by-tag-where-models-are-deployed": Bug(
        "pinned-actions",
        text(".github/workflows/deploy.yml", CHECKOUT, "actions/checkout@v7 # v7.0.1"),
        ".github/workflows/deploy.yml, line",
    ),
    "actions-by-tag": Bug("pinned-actions", workflow("- uses: actions/checkout@v7"), "actions/checkout@v7"),
    "actions-by-branch": Bug("pinned-actions", workflow("- uses: someone/action@main"), "someone/action@main"),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_mlops_check_sees_it(own_project: Path, run_in: RunIn, bug: Bug) -> None:
    bug.plant(own_project)
    done = run_in(own_project, "mlops", "check", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    reported = [line for line in done.stderr.splitlines() if bug.where in line]
    assert reported, done.stderr
    assert all(line.endswith(f"[{bug.rule}]") for line in reported), done.stderr


EVALUATE, SMOKE, MODEL, PIPELINE = (
    "model/evaluate.py",
    "mlops/smoke.py",
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
        text("mlops/errors.py", "REJECTED = 3", "REJECTED = 0"),
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
    run_in(own_project, "mlops", "run")
    run_in(own_project, "mlops", "promote", "staging", "--from", "local")
    run_in(own_project, "mlops", "check")
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
        done = run_in(own_project, "mlops", "check", check=False)
        assert done.returncode == 1 and words in done.stderr, f"{new}: {done.stderr}"
        assert done.stderr.startswith("mlops: deployments/staging.json: ")


def test_a_bug_in_the_pipeline_s_source_gets_there(own_project: Path, sdk_env: Path) -> None:
    """What the cases above do to the definition is what compiling such a pipeline.py gives."""
    for old, new in (
        ('in_values=["beaten", "no champion"]', 'in_values=["beaten", "no champion", "not beaten"]'),
        ('approval_status="PendingManualApproval"', 'approval_status="Approved"'),
        ('job_input("champion", Join(on="/", values=[artifacts, "champion"]))',
         'job_input("champion", train.properties.ModelArtifacts.S3ModelArtifacts)'),
        ('for name in ("train", "validation")]', 'for name in ("train", "test")]'),
    ):  # fmt: skip
        text("pipeline/pipeline.py", old, new)(own_project)
    run_module(sdk_env, own_project, "mlops", "compile")
    done = run_module(sdk_env, own_project, "mlops", "check", check=False)
    assert done.returncode == 1
    rules = {line.rpartition("[")[2].rstrip("]") for line in done.stderr.splitlines() if line.endswith("]")}
    assert {"gate", "approval", "champion", "test-rows"} <= rules, done.stderr


def test_a_rule_is_broken_on_purpose_with_a_reason(own_project: Path, run_in: RunIn) -> None:
    settings = own_project / "mlops.toml"
    text("mlops.toml", "min_improvement = 0.0", "min_improvement = -0.001")(own_project)
    before = settings.read_text(encoding="utf-8")

    def check(waivers: str) -> tuple[int, str]:
        settings.write_text(f"{before}\n[waivers]\n{waivers}\n", encoding="utf-8")
        done = run_in(own_project, "mlops", "check", check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = check('min-improvement = "a smaller model may be a little worse"')
    assert code == 0 and "waived: min-improvement: a smaller model" in said
    code, said = check('min-improvement = ""')
    assert code == 2 and "waivers.min-improvement" in said
    code, said = check('min-improvment = "a smaller model may be a little worse"')
    assert code == 2 and "there is no such rule" in said and "min-improvement" in said
    code, said = check('approval = "we approve by hand, in another tool"\nmin-improvement = "a little worse is fine"')
    assert code == 2 and "waivers.approval: nothing breaks this rule" in said
