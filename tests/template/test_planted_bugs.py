"""Known bugs of public templates, planted in a generated project as a careless person would: its own checks fail.

Each case edits files of a baked project and names what must see it: a rule of `sagegate check`, or a test of the project.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import RunIn, run_module
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
    workflow,
)

CANDIDATE = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
TEST_ROWS = {"Get": "Steps.Preprocess.ProcessingOutputConfig.Outputs['test'].S3Output.S3Uri"}
SUBJECT = '!Sub "repo:${GitHubRepository}:environment:dev"'
TRUSTED = f"token.actions.githubusercontent.com:sub: {SUBJECT}"
ACTIONS = "Action: [sagemaker:CreateModelPackage, sagemaker:DescribeModelPackage, sagemaker:AddTags]"
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
KEY = "AKIA" + "IOSFODNN7" + "EXAMPLE"  # the one of AWS's documentation


@dataclass(frozen=True)
class Bug:
    """A bug, how it gets in, and what `sagegate check` has to say: the rule's name and where it looks."""

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
        "exit-code", workflow("- run: uv run sagegate run --env dev || true"), ".github/workflows/planted.yml, line 7"
    ),
    "rejection-ignored-where-models-are-trained": Bug(
        "exit-code",
        text(
            ".github/workflows/train.yml",
            "run: uv run sagegate run --env dev",
            "run: uv run sagegate run --env dev || :",
        ),
        ".github/workflows/train.yml, line",
    ),
    "failures-ignored-in-a-workflow": Bug(
        "exit-code", workflow("- run: uv run sagegate run\n        continue-on-error: true"), "planted.yml, line 8"
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
    done = run_in(own_project, "sagegate", "check", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    reported = [line for line in done.stderr.splitlines() if bug.where in line]
    assert reported, done.stderr
    assert all(line.endswith(f"[{bug.rule}]") for line in reported), done.stderr


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
    run_module(sdk_env, own_project, "sagegate", "compile")
    done = run_module(sdk_env, own_project, "sagegate", "check", check=False)
    assert done.returncode == 1
    rules = {line.rpartition("[")[2].rstrip("]") for line in done.stderr.splitlines() if line.endswith("]")}
    assert {"gate", "approval", "champion", "test-rows"} <= rules, done.stderr


def test_a_rule_is_broken_on_purpose_with_a_reason(own_project: Path, run_in: RunIn) -> None:
    settings = own_project / "mlops.toml"
    text("mlops.toml", "min_improvement = 0.0", "min_improvement = -0.001")(own_project)
    before = settings.read_text(encoding="utf-8")

    def check(waivers: str) -> tuple[int, str]:
        settings.write_text(f"{before}\n[waivers]\n{waivers}\n", encoding="utf-8")
        done = run_in(own_project, "sagegate", "check", check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = check('min-improvement = "a smaller model may be a little worse"')
    assert code == 0 and "waived: min-improvement: a smaller model" in said
    code, said = check('min-improvement = ""')
    assert code == 2 and "waivers.min-improvement" in said
    code, said = check('min-improvment = "a smaller model may be a little worse"')
    assert code == 2 and "there is no such rule" in said and "min-improvement" in said
    code, said = check('approval = "we approve by hand, in another tool"\nmin-improvement = "a little worse is fine"')
    assert code == 2 and "waivers.approval: nothing breaks this rule" in said
