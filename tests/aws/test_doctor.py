"""`sagegate doctor` before and after a set-up and after deliberate damage; `sagegate bootstrap --github`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clean_copy import ROOT
from conftest import Bake, RunIn
from fakes.github import Failure, FakeGitHub
from setup_lab import DEV, PLATFORM, PROD, STAGING, SUBJECT, SetupLab

if TYPE_CHECKING:
    from fakes.remote import Remote

QUOTA = 'instance_type = "ml.c5.xlarge"\ninstance_count = 3'


@pytest.fixture
def fresh(baked: Bake, tmp_path: Path, fake_aws: Remote, run_in: RunIn, project_env: Path) -> SetupLab:
    """Return a project as it is generated."""
    lab = SetupLab(baked(), tmp_path, fake_aws, run_in, project_env)
    lab.edit("mlops.toml", "acme/my-model", "my-org/my-model")
    return lab


@pytest.fixture
def lab(fresh: SetupLab) -> SetupLab:
    """Return a project with its repository and three accounts filled in."""
    fresh.edit("mlops.toml", "my-org/my-model", "acme/my-model")
    fresh.edit(".github/CODEOWNERS", "@my-org", "@acme")
    fresh.accounts()
    return fresh


@pytest.fixture
def github(lab: SetupLab, tmp_path: Path) -> Iterator[FakeGitHub]:
    """The project's repository on GitHub, with a first commit on main."""
    bare = tmp_path / "bare.git"

    def git(*args: str) -> None:
        who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        subprocess.run(["git", *who, *args], cwd=lab.project, check=True, capture_output=True)

    git("init", "-q", "--bare", "-b", "main", str(bare))
    git("init", "-q", "-b", "main")
    git("add", "mlops.toml", ".github/CODEOWNERS")
    git("commit", "-qm", "first")
    git("push", "-q", str(bare), "main")
    git("remote", "add", "origin", "git@github.com:acme/my-model.git")
    with FakeGitHub(bare, "acme/my-model") as started:
        lab.extra = {"GITHUB_API_URL": started.url, "GITHUB_TOKEN": started.token}
        yield started


def found(said: str, state: str) -> list[str]:
    """Return the findings of one state."""
    return [line.removeprefix(state).strip() for line in said.splitlines() if line.startswith(state + " ")]


def test_a_new_project_has_placeholders_to_fill_in(fresh: SetupLab) -> None:
    said = fresh.sagegate("doctor", account=None, code=1)
    problems = found(said, "problem")
    assert any("project.repository is the placeholder my-org/my-model" in line for line in problems)
    assert any("CODEOWNERS names the placeholder" in line for line in problems)
    assert [line.split()[0] for line in problems if "account_id is still the placeholder" in line] == [
        "dev",
        "staging",
        "prod",
    ]
    assert len(problems) == 5
    good = "\n".join(found(said, "ok"))
    for text in ("settings are valid", "definition.json is up to date", "deployments/ is empty"):
        assert text in good
    assert "GITHUB_TOKEN is not set" in "\n".join(found(said, "warning"))


def test_an_account_without_credentials_is_a_warning(lab: SetupLab) -> None:
    said = lab.sagegate("doctor", "dev", account=None)
    assert f"account {DEV} cannot be checked: there are no AWS credentials" in said and "problem: 0" in said


def test_before_and_after_the_set_up(lab: SetupLab) -> None:
    before = lab.sagegate("doctor", "dev", code=1)
    problems = "\n".join(found(before, "problem"))
    for text in (
        f"there is no stack {PLATFORM}: `sagegate bootstrap dev`",
        "no OIDC provider for GitHub",
    ):
        assert text in problems

    lab.sagegate("bootstrap", "dev", "--yes")
    after = lab.sagegate("doctor", "dev")
    good = "\n".join(found(after, "ok"))
    assert found(after, "problem") == []
    assert f"stack {PLATFORM} is CREATE_COMPLETE" in good
    assert f"role my-model-github-train trusts {SUBJECT}:environment:dev only" in good
    assert "quota 'ml.m5.xlarge for training job usage' is 2, 1 needed" in good


def test_a_quota_that_is_too_small(lab: SetupLab) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    lab.edit("environments/dev.toml", 'instance_type = "ml.m5.xlarge"\ninstance_count = 1', QUOTA)
    problems = found(lab.sagegate("doctor", "dev", code=1), "problem")
    assert len(problems) == 1 and "'ml.c5.xlarge for training job usage' is 2, the settings need 3" in problems[0]
    lab.edit("environments/dev.toml", "ml.c5.xlarge", "ml.p99.xlarge")
    warnings = found(lab.sagegate("doctor", "dev"), "warning")
    assert any("there is no quota 'ml.p99.xlarge for training job usage'" in line for line in warnings)
    # During a deployment the old and the new instances run side by side: prod's maximum of four needs eight.
    lab.sagegate("bootstrap", "prod", "--yes", account=PROD)
    problems = found(lab.sagegate("doctor", "prod", account=PROD, code=1), "problem")
    assert len(problems) == 1 and "'ml.m5.large for endpoint usage' is 2, the settings need 8" in problems[0]


def test_a_role_that_was_widened_by_hand(lab: SetupLab) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    iam = lab.client("iam")
    trust = iam.get_role(RoleName="my-model-github-train")["Role"]["AssumeRolePolicyDocument"]
    wider = json.loads(json.dumps(trust).replace(f"{SUBJECT}:environment:dev", f"{SUBJECT}:*"))
    wider["Statement"][0]["Condition"]["StringLike"] = wider["Statement"][0]["Condition"].pop("StringEquals")
    iam.update_assume_role_policy(RoleName="my-model-github-train", PolicyDocument=json.dumps(wider))
    wider["Statement"] = [{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}]
    iam.update_assume_role_policy(RoleName="my-model-github-approve", PolicyDocument=json.dumps(wider))
    problems = found(lab.sagegate("doctor", "dev", code=1), "problem")
    assert f"GitHub sends {SUBJECT}:environment:dev, but role my-model-github-train trusts {SUBJECT}:*" in problems[0]
    assert "role my-model-github-approve trusts no subject" in problems[1]


def test_a_stack_of_another_template_or_without_the_environment(lab: SetupLab) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    lab.edit("infra/platform.yaml", 'TemplateVersion: {Value: "1"}', 'TemplateVersion: {Value: "2"}')
    lab.accounts(DEV, STAGING, DEV)
    problems = "\n".join(found(lab.sagegate("doctor", "dev", code=1), "problem"))
    assert "has template version 1, infra/platform.yaml has 2" in problems
    problems = "\n".join(found(lab.sagegate("doctor", "prod", code=1), "problem"))
    assert f"stack {PLATFORM} does not serve prod" in problems

    lab.sagegate("bootstrap", "dev", "--yes")
    lab.edit("infra/platform.yaml", "Description: One project's resources", "Description: A project's resources")
    said = lab.sagegate("doctor", "dev")
    assert "was created from another infra/platform.yaml" in "\n".join(found(said, "warning"))


def test_credentials_of_another_account(lab: SetupLab) -> None:
    said = lab.sagegate("doctor", "dev", account=PROD, code=1)
    assert f"your credentials are of account {PROD}" in "\n".join(found(said, "problem"))


def test_a_stale_definition_a_bad_pin_and_a_wrong_remote(lab: SetupLab) -> None:
    lab.add("pipeline/pipeline.py", "\nMORE = 1\n")
    (lab.project / "deployments" / "staging.json").write_text("{}", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=lab.project, check=True)
    remote = ["git", "remote", "add", "origin", "git@github.com:other/thing.git"]
    subprocess.run(remote, cwd=lab.project, check=True)
    said = lab.sagegate("doctor", "dev", account=None, code=1)
    problems = "\n".join(found(said, "problem"))
    assert "definition.json is stale: `sagegate compile`" in problems and "deployments/staging.json" in problems
    assert "git's origin is git@github.com:other/thing.git, not acme/my-model" in "\n".join(found(said, "warning"))

    lab.add("environments/prod.toml", "\n[endpiont]\n")
    said = lab.sagegate("doctor", "dev", account=None, code=1)
    assert "prod.toml: endpiont" in said and "correct the settings first" in said
    assert "choose dev, staging, prod" in lab.sagegate("doctor", "local", account=None, code=2)


# --- GitHub --------------------------------------------------------------------------------------------------------
def test_bootstrap_creates_a_github_environment_with_reviewers(lab: SetupLab, github: FakeGitHub) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    said = lab.sagegate("doctor", "staging", account=None, code=1)
    assert "GitHub environment staging is missing: `sagegate bootstrap staging --github --reviewer" in said
    assert "branch main is not protected" in said

    args = ("bootstrap", "staging", "--yes", "--github")
    assert "staging has no reviewers" in lab.sagegate(*args, account=STAGING)
    assert "has no reviewers" in "\n".join(found(lab.sagegate("doctor", "staging", account=None), "warning"))
    said = lab.sagegate(*args, "--reviewer", "reviewer", "--reviewer", "acme/ml-platform", account=STAGING)
    assert "GitHub environment staging: updated; from main only; reviewers: ml-platform, reviewer" in said
    assert "sagegate bootstrap staging --github" not in said
    assert [p["name"] for p in github.actions.branch_policies["staging"]] == ["main"]
    assert list(github.actions.environments) == ["staging"]

    github.requests.clear()
    assert "unchanged; from main only; reviewers: ml-platform, reviewer" in lab.sagegate(*args, account=STAGING)
    assert {method for method, _ in github.requests} == {"GET"}

    github.actions.protected.add("main")
    said = lab.sagegate("doctor", "staging", account=None)
    assert "GitHub environment staging: from main only; reviewers: ml-platform, reviewer" in said
    assert "branch main is protected" in said and "workflows may open pull requests" in said


def test_the_page_about_several_accounts_works_as_written(lab: SetupLab, github: FakeGitHub, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "several-accounts.md").read_text(encoding="utf-8")
    profiles = re.findall(r"\[profile (\S+)\]\s+sso_session = .*\s+sso_account_id = (\d+)", page)
    assert [account for _, account in profiles] == [DEV, STAGING, PROD]
    lines = []
    for name, account in profiles:
        keys = lab.fake_aws.environment(account)
        secret = f"aws_secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}"
        lines += [f"[profile {name}]", f"aws_access_key_id = {keys['AWS_ACCESS_KEY_ID']}", secret]
    (tmp_path / "config").write_text("\n".join(lines), encoding="utf-8")
    lab.extra |= {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    elsewhere = "999999999999"  # the account of the shell's own credentials, which no profile names
    (block,) = re.findall(r"(?s)```sh\n(.*?)```", page)
    *made, doctor = (line.split()[3:] for line in block.splitlines() if "uv run" in line)
    for command in made:
        people = {"YOUR_LOGIN": "reviewer", "YOUR_ORG/YOUR_TEAM": "acme/ml-platform"}
        said = lab.sagegate(*(people.get(word, word) for word in command), "--yes", account=elsewhere)
        assert "CREATE_COMPLETE" in said
    assert lab.stacks(DEV) == lab.stacks(STAGING) == lab.stacks(PROD) == [PLATFORM]
    assert lab.parameters(DEV)["DeployingAccountIds"] == f"{STAGING},{PROD}"
    good = "\n".join(found(lab.sagegate(*doctor, account=elsewhere, code=1), "ok"))  # main is not protected
    for _, account in profiles:
        assert f"credentials of account {account}" in good
    for environment in ("staging", "prod"):
        assert f"role my-model-github-deploy-{environment} trusts {SUBJECT}:environment:{environment} only" in good


def test_the_rules_of_the_branch_and_errors_in_codeowners(lab: SetupLab, github: FakeGitHub) -> None:
    github.actions.protected.add("main")
    said = lab.sagegate("doctor", "dev", account=None, code=1)
    missing = (
        "no ruleset requires a pull request, a review of code owners, the status check ci on main: Settings > Rules"
    )
    assert missing in "\n".join(found(said, "warning"))
    owner = {"required_approving_review_count": 1, "require_code_owner_review": False}
    check = {"required_status_checks": [{"context": "ci"}], "strict_required_status_checks_policy": False}
    github.actions.rules = [
        {"type": "deletion"},
        {"type": "pull_request", "parameters": owner},
        {"type": "required_status_checks", "parameters": check},
    ]
    said = lab.sagegate("doctor", "dev", account=None, code=1)
    assert "no ruleset requires a review of code owners on main" in "\n".join(found(said, "warning"))
    owner["require_code_owner_review"] = True
    error = {"line": 7, "column": 3, "kind": "Unknown owner", "path": ".github/CODEOWNERS", "suggestion": None}
    github.actions.codeowners_errors = [error | {"source": "* @gone", "message": "Unknown owner on line 7"}]
    github.actions.can_approve_pull_request_reviews = False
    said = lab.sagegate("doctor", "dev", account=None, code=1)
    assert "requires a pull request, a review of code owners and the status check ci" in "\n".join(found(said, "ok"))
    assert ".github/CODEOWNERS, line 7: Unknown owner: GitHub ignores the line" in "\n".join(found(said, "problem"))
    assert "workflows may not open pull requests: use a GitHub App" in "\n".join(found(said, "warning"))


def test_bootstrap_keeps_other_settings_of_a_github_environment(lab: SetupLab, github: FakeGitHub) -> None:
    own = {"type": "User", "reviewer": {"id": 11, "login": "reviewer"}}
    rules = [
        {"type": "required_reviewers", "prevent_self_review": True, "reviewers": [own]},
        {"type": "wait_timer", "wait_timer": 30},
    ]
    made: dict[str, Any] = {"name": "dev", "protection_rules": rules, "deployment_branch_policy": None}
    github.actions.environments["dev"] = made
    github.actions.branch_policies["dev"] = [{"id": 5, "name": "release/*"}]
    problems = "\n".join(found(lab.sagegate("doctor", "dev", code=1), "problem"))
    assert "takes deployments from any branch, not from main only" in problems
    assert "dev: updated; from main only; reviewers: reviewer" in lab.sagegate("bootstrap", "dev", "--yes", "--github")
    now = {rule["type"]: rule for rule in github.actions.environments["dev"]["protection_rules"]}
    assert now["required_reviewers"]["prevent_self_review"] and now["wait_timer"]["wait_timer"] == 30
    assert [p["name"] for p in github.actions.branch_policies["dev"]] == ["main"]


def test_the_roles_trust_the_subject_that_github_sends(lab: SetupLab, github: FakeGitHub) -> None:
    assert f"trusts {SUBJECT}" in lab.sagegate("bootstrap", "dev", "--yes", "--github")
    assert lab.parameters()["GitHubSubject"] == SUBJECT
    assert github.actions.variables == {"AWS_READY": "true"}
    lab.sagegate("bootstrap", "dev", "--yes", "--github")
    assert found(lab.sagegate("doctor", "dev"), "problem") == []

    # A repository made before 2026-07-15 sends no ids, and starts to when it is renamed or transferred.
    github.actions.has_immutable_subject = False
    problems = found(lab.sagegate("doctor", "dev", code=1), "problem")
    old, new = "repo:acme/my-model:environment:dev", f"{SUBJECT}:environment:dev"
    assert f"GitHub sends {old}, but role my-model-github-train trusts {new}: `sagegate bootstrap dev`" in problems[0]
    lab.sagegate("bootstrap", "dev", "--yes")
    assert lab.parameters()["GitHubSubject"] == "repo:acme/my-model"
    assert found(lab.sagegate("doctor", "dev"), "problem") == []

    # A token without the permission gets 404, and an earlier server names no prefix. Neither means the former form.
    github.failures.append(Failure("GET .*/oidc/customization/sub", 404, "Not Found"))
    said = lab.sagegate("bootstrap", "dev", "--yes", code=1)
    assert "the token, which needs `actions: read`" in said
    github.actions.has_immutable_subject = None
    said = lab.sagegate("bootstrap", "dev", "--yes", code=1)
    assert "GitHub does not say how the subject" in said and "--subject-prefix repo:OWNER@OWNER_ID/" in said

    github.actions.subject_claims = ["repo", "job_workflow_ref"]
    said = lab.sagegate("bootstrap", "dev", "--yes", code=1)
    assert "have a subject made of repo, job_workflow_ref, but the roles trust environments" in said
    assert "-F use_default=true" in said


def test_the_environment_is_protected_before_a_role_trusts_it(lab: SetupLab, github: FakeGitHub) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    lab.client("iam").create_role(RoleName="my-model-github-train", AssumeRolePolicyDocument=json.dumps(trust))
    said = lab.sagegate("bootstrap", "dev", "--yes", "--github", code=1)
    assert said.index("GitHub environment dev: created; from main only") < said.index("ROLLBACK_COMPLETE")
    assert "dev" in github.actions.environments


def test_an_error_of_github_is_one_line(lab: SetupLab, github: FakeGitHub) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    args = ("bootstrap", "dev", "--yes", "--github")
    said = lab.sagegate(*args, "--reviewer", "nobody", code=2)
    assert said.splitlines()[-1].startswith("sagegate: --reviewer nobody: GitHub has no such user")
    said = lab.sagegate(*args, "--reviewer", "acme/none", code=2)
    assert "GitHub has no such team" in said.splitlines()[-1]
    github.failures.append(Failure("PUT .*/environments/dev", 422, "Failed to create the environment protection rule"))
    said = lab.sagegate(*args, "--reviewer", "reviewer", code=1)
    assert "a GitHub plan with required reviewers" in said.splitlines()[-1]

    github.tokens["weak"] = {"contents": "read"}
    lab.extra["GITHUB_TOKEN"] = "weak"
    said = lab.sagegate("doctor", "dev", code=1)
    assert "GitHub rejected GET" in said and "problem: " in said  # each error is the text of a finding
    del lab.extra["GITHUB_TOKEN"]
    lab.extra["GITHUB_TOKEN"] = ""
    assert "GITHUB_TOKEN is not set" in lab.sagegate(*args, code=2)
