"""`sagegate bootstrap` creates and updates an account's platform in the fake AWS; `sagegate credentials`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Bake, RunIn
from setup_lab import DEV, PLATFORM, PROD, REGION, STAGING, SetupLab

if TYPE_CHECKING:
    from fakes.remote import Remote

BUCKET = f"my-model-{DEV}-{REGION}"


@pytest.fixture
def lab(baked: Bake, tmp_path: Path, fake_aws: Remote, run_in: RunIn, project_env: Path) -> SetupLab:
    """Return a project with three empty accounts."""
    lab = SetupLab(baked(), tmp_path, fake_aws, run_in, project_env)
    lab.accounts()
    return lab


def test_a_second_bootstrap_changes_nothing_and_leaves_no_change_set(lab: SetupLab) -> None:
    said = lab.sagegate("bootstrap", "dev", "--yes")
    assert f"platform of dev · stack {PLATFORM} · account {DEV}, {REGION}" in said
    assert re.search(r"Add +Bucket +AWS::S3::Bucket", said)
    assert "CREATE_COMPLETE" in said and "next:" in said and "sagegate run --env dev" in said
    assert lab.stack()["StackStatus"] == "CREATE_COMPLETE"
    assert {"my-model-execution", "my-model-github-train", "my-model-github-approve"} <= lab.roles()
    assert not {"my-model-endpoint", "my-model-github-deploy-staging"} & lab.roles()
    assert lab.parameters()["DeployingAccountIds"] == f"{STAGING},{PROD}"
    assert lab.client("s3").get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"

    again = lab.sagegate("bootstrap", "dev", "--yes")
    assert f"{PLATFORM}: no changes" in again
    left = lab.client("cloudformation").list_change_sets(StackName=PLATFORM)["Summaries"]
    assert {change["ExecutionStatus"] for change in left} <= {"EXECUTE_COMPLETE"}


def test_three_accounts_read_dev_models(lab: SetupLab) -> None:
    lab.sagegate("bootstrap", "dev", "--yes")
    said = lab.sagegate("bootstrap", "staging", "--yes", account=STAGING)
    assert "sagegate bootstrap dev" in said
    assert lab.parameters(STAGING)["TrainingAccountId"] == DEV
    assert lab.parameters(STAGING)["DeployingAccountIds"] == ""
    assert {"my-model-endpoint", "my-model-github-deploy-staging"} <= lab.roles(STAGING)
    assert not {"my-model-execution", "my-model-github-train", "my-model-github-deploy-prod"} & lab.roles(STAGING)
    policy = lab.client("sagemaker").get_model_package_group_policy(ModelPackageGroupName="my-model")["ResourcePolicy"]
    assert STAGING in policy and PROD in policy


def test_a_new_platform_serves_all_environments_of_the_account(lab: SetupLab) -> None:
    lab.accounts(DEV, DEV, DEV)
    assert "platform of dev, staging, prod ·" in lab.sagegate("bootstrap", "dev", "--yes")
    assert lab.parameters()["DeployingAccountIds"] == ""
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "prod", "--yes")


def test_an_environment_that_moved_away_is_no_longer_served(lab: SetupLab) -> None:
    lab.accounts(DEV, DEV, DEV)
    lab.sagegate("bootstrap", "dev", "--yes")
    lab.accounts(DEV, DEV, PROD)
    said = lab.sagegate("bootstrap", "dev", "--yes")
    assert re.search(r"Remove +DeployProdRole", said)
    assert lab.parameters()["DeployingAccountIds"] == PROD


def test_a_platform_adopts_what_a_deleted_stack_left(lab: SetupLab) -> None:
    """The bucket, the models and the OIDC provider survive `aws cloudformation delete-stack`."""
    lab.sagegate("bootstrap", "dev", "--yes")
    lab.client("s3").put_object(Bucket=BUCKET, Key="my-model/raw/rows.csv", Body=b"1")
    formation = lab.client("cloudformation")
    formation.delete_stack(StackName=PLATFORM)
    formation.get_waiter("stack_delete_complete").wait(StackName=PLATFORM, WaiterConfig={"Delay": 0.1})
    assert lab.stacks() == [] and not {r for r in lab.roles() if r.startswith("my-model")}

    lab.sagegate("bootstrap", "dev", "--yes")
    assert lab.client("s3").head_object(Bucket=BUCKET, Key="my-model/raw/rows.csv")
    assert lab.parameters()["CreateModelPackageGroup"] == lab.parameters()["CreateOidcProvider"] == "false"
    policy = lab.client("sagemaker").get_model_package_group_policy(ModelPackageGroupName="my-model")["ResourcePolicy"]
    assert STAGING in policy
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "dev", "--yes")


def test_it_asks_before_it_changes_anything(lab: SetupLab) -> None:
    said = lab.sagegate("bootstrap", "dev", code=2)
    assert re.search(r"Add +Bucket ", said) and "run this again with --yes" in said
    assert lab.stacks() == []
    assert "Deploy this?" in lab.at_terminal("bootstrap", "dev", answer="n", code=130)
    assert lab.stacks() == []
    assert "CREATE_COMPLETE" in lab.at_terminal("bootstrap", "dev", answer="y")
    assert lab.stacks() == [PLATFORM]


def test_the_oidc_provider_of_another_project_is_used(lab: SetupLab) -> None:
    iam = lab.client("iam")
    url = "https://token.actions.githubusercontent.com"
    arn = iam.create_open_id_connect_provider(Url=url, ClientIDList=["elsewhere"])["OpenIDConnectProviderArn"]
    said = lab.sagegate("bootstrap", "dev", "--yes", code=1)
    assert f"--open-id-connect-provider-arn {arn} --client-id sts.amazonaws.com" in said and lab.stacks() == []
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)  # (moto cannot add an audience)
    iam.create_open_id_connect_provider(Url=url, ClientIDList=["elsewhere", "sts.amazonaws.com"])
    lab.sagegate("bootstrap", "dev", "--yes")
    assert lab.parameters()["CreateOidcProvider"] == "false"
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "dev", "--yes")


def test_the_settings_reach_the_stack(lab: SetupLab) -> None:
    boundary = lab.client("iam").create_policy(
        PolicyName="boundary",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        ),
    )["Policy"]["Arn"]
    lab.add(
        "environments/dev.toml",
        '\n[platform]\nnotification_email = "team@example.org"\nschedule = "cron(0 5 ? * MON *)"\ndata_arrival = true\n'
        f'create_kms_key = true\npermissions_boundary_arn = "{boundary}"\n',
    )
    lab.sagegate("bootstrap", "dev", "--yes")
    given = lab.parameters()
    assert given["NotificationEmail"] == "team@example.org"
    assert (given["ScheduleTrigger"], given["ScheduleExpression"]) == ("ENABLED", "cron(0 5 ? * MON *)")
    assert given["DataArrivalTrigger"] == "ENABLED" and given["CreateKmsKey"] == "true"
    role = lab.client("iam").get_role(RoleName="my-model-github-train")["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    assert lab.client("events").describe_rule(Name="my-model-schedule")["State"] == "ENABLED"
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "dev", "--yes")

    # The jobs may use the stack's key; it remains the stack's.
    outputs = {o["OutputKey"]: o["OutputValue"] for o in lab.stack()["Outputs"]}
    lab.add("environments/dev.toml", f'\n[encryption]\nkms_key_arn = "{outputs["KmsKeyArn"]}"\n')
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "dev", "--yes")
    lab.sagegate("bootstrap", "staging", "--yes", account=STAGING)
    assert lab.parameters(STAGING)["TrainingKmsKeyArn"] == outputs["KmsKeyArn"]


def test_a_failed_creation_is_reported_and_can_be_repeated(lab: SetupLab) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    iam = lab.client("iam")
    iam.create_role(RoleName="my-model-trigger", AssumeRolePolicyDocument=json.dumps(trust))
    said = lab.sagegate("bootstrap", "dev", "--yes", code=1)
    assert "ended as ROLLBACK_COMPLETE" in said and "TriggerRole" in said.splitlines()[-1]
    iam.delete_role(RoleName="my-model-trigger")
    assert "CREATE_COMPLETE" in lab.sagegate("bootstrap", "dev", "--yes")


def test_without_github_the_subject_is_given_once(lab: SetupLab) -> None:
    lab.extra = {"GITHUB_TOKEN": ""}
    said = lab.sagegate("bootstrap", "dev", "--yes", code=2)
    assert "set GITHUB_TOKEN" in said and "--subject-prefix repo:OWNER@OWNER_ID/NAME@REPOSITORY_ID" in said
    for wrong in ("acme/my-model", "repo:acme@101/*", "repo:acme/my-model:environment:dev"):
        said = lab.sagegate("bootstrap", "dev", "--yes", "--subject-prefix", wrong, code=2)
        assert f"--subject-prefix {wrong}: write repo:OWNER@OWNER_ID/NAME@REPOSITORY_ID" in said
    assert lab.stacks() == []
    lab.sagegate("bootstrap", "dev", "--yes", "--subject-prefix", "repo:acme@7/my-model@8")
    assert f"{PLATFORM}: no changes" in lab.sagegate("bootstrap", "dev", "--yes"), "it keeps what the stack has"
    assert lab.parameters()["GitHubSubject"] == "repo:acme@7/my-model@8"


def test_mistakes_are_one_line(lab: SetupLab) -> None:
    def error(*args: str, account: str | None = DEV, code: int = 1) -> str:
        said = lab.sagegate("bootstrap", *args, "--yes", account=account, code=code).strip()
        assert len(said.splitlines()) == 1, said
        return said

    assert f"your credentials are of account {PROD}" in error("dev", account=PROD)
    assert "there are no AWS credentials here" in error("dev", account=None)
    assert "'local' has no platform" in error("local", code=2)
    assert "'test' has no platform" in error("test", code=2)

    dev = lab.project / "environments" / "dev.toml"
    text = dev.read_text(encoding="utf-8")
    lab.edit("environments/dev.toml", DEV, "000000000000")
    assert "dev.toml: account_id is still the placeholder" in error("dev")
    assert "staging deploys the models that dev registers" in error("staging", account=STAGING)
    dev.write_text(text.replace(REGION, "eu-west-1"), encoding="utf-8")
    assert "in its own region only" in error("dev")
    dev.write_text(text, encoding="utf-8")

    lab.edit("mlops.toml", "acme/", "my-org/")
    assert "still the placeholder my-org/my-model" in error("dev")
    lab.edit("mlops.toml", "my-org/", "acme/")

    staging = (lab.project / "environments" / "staging.toml").read_text(encoding="utf-8")
    lab.add("environments/staging.toml", '\n[platform]\nschedule = "rate(1 day)"\n')
    assert "only dev.toml can have it" in error("dev", code=2)
    (lab.project / "environments" / "staging.toml").write_text(staging, encoding="utf-8")

    lab.accounts(DEV, DEV, PROD)
    for name in ("dev", "staging"):
        lab.add(f"environments/{name}.toml", f'\n[platform]\nnotification_email = "{name}@example.org"\n')
    assert "dev.toml dev@example.org and staging.toml staging@example.org" in error("dev", code=2)
    lab.accounts()

    template = lab.project / "infra" / "platform.yaml"
    template.write_text(template.read_text(encoding="utf-8") + "#" * 20_000, encoding="utf-8")
    assert "CloudFormation takes 51200" in error("dev", code=2)
    assert lab.stacks() == []


@pytest.mark.parametrize(
    ("args", "role"),
    [
        (("dev",), f"{DEV}:role/my-model-github-train"),
        (("staging",), f"{STAGING}:role/my-model-github-deploy-staging"),
        (("prod", "--purpose", "deploy"), f"{PROD}:role/my-model-github-deploy-prod"),
        (("prod", "--purpose", "approve"), f"{DEV}:role/my-model-github-approve"),
    ],
)
def test_credentials_follow_from_the_settings(lab: SetupLab, args: tuple[str, ...], role: str) -> None:
    account = role.partition(":")[0]
    name = {DEV: "dev", STAGING: "staging", PROD: "prod"}[account]
    said = lab.sagegate("credentials", *args, account=None)
    assert said == f"role-arn=arn:aws:iam::{role}\nregion={REGION}\nprofile=my-model-{name}\n"


def test_credentials_without_a_role_or_an_account(lab: SetupLab) -> None:
    assert "pipelines run in dev" in lab.sagegate("credentials", "prod", "--purpose", "train", account=None, code=2)
    assert "not to dev" in lab.sagegate("credentials", "dev", "--purpose", "deploy", account=None, code=2)
    assert "local needs no role" in lab.sagegate("credentials", "local", account=None, code=2)
    lab.edit("environments/dev.toml", DEV, "000000000000")
    said = lab.sagegate("credentials", "dev", account=None, code=1)
    assert "account_id is still the placeholder" in said and len(said.splitlines()) == 1
