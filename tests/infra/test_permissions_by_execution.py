"""Least privilege, proven by execution: verbs run with one role's session alone, and each role is refused elsewhere.

`sagegate bootstrap` makes the roles from infra/platform.yaml in a fake that enforces IAM, all environments in one
account, where nothing but the policies keeps them apart. moto's own enforcement knows no resources, so who is asked is
tests/fakes/enforcement.py. Not enforced here: resource policies, permissions boundaries, the execution role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import Bake, RunIn
from fakes.aws_lab import client
from fakes.github_oidc import identity_token
from fakes.remote import Remote
from setup_lab import REGION, SetupLab

ACCOUNT, REPOSITORY = "123456789012", "acme/my-model"
BUCKET = f"my-model-{ACCOUNT}-{REGION}"
ENVIRONMENT_OF = {"train": "dev", "approve": "staging", "deploy-staging": "staging", "deploy-prod": "prod"}
SM = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
# Which session is whose profile, in the job that trains and in the one that deploys to staging (sagegate credentials).
TRAINS = {"dev": "train"}
DEPLOYS = {"dev": "approve", "staging": "deploy-staging"}
GOES_LIVE = {"dev": "approve", "prod": "deploy-prod"}
pytestmark = pytest.mark.xdist_group("permissions")


class World:
    """A project whose platform stands, and sessions of its roles."""

    def __init__(self, lab: SetupLab, folder: Path, run_in: RunIn) -> None:
        self.lab, self.folder, self._run_in = lab, folder, run_in
        self.said: dict[str, str] = {}
        self._sessions: dict[str, dict[str, str]] = {}

    def session(self, role: str) -> dict[str, str]:
        """The credentials that a job of GitHub's gets for a role."""
        if role not in self._sessions:
            given = self.assume(role, ENVIRONMENT_OF[role])["Credentials"]
            self._sessions[role] = {
                "aws_access_key_id": given["AccessKeyId"],
                "aws_secret_access_key": given["SecretAccessKey"],
                "aws_session_token": given["SessionToken"],
            }
        return self._sessions[role]

    def assume(self, role: str, environment: str | None, repository: str = REPOSITORY) -> Any:
        """AssumeRoleWithWebIdentity with the token of a job."""
        token = identity_token(repository, environment, "sts.amazonaws.com", "refs/heads/main", "c0ffee")
        sts = client("sts", self.lab.fake_aws.environment(ACCOUNT, REGION))
        arn = f"arn:aws:iam::{ACCOUNT}:role/my-model-github-{role}"
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="github", WebIdentityToken=token)

    def sagegate(self, profiles: dict[str, str], *args: str, code: int = 0) -> str:
        """What a verb prints that has nothing but these roles' sessions, as the profiles of these environments."""
        file = self.folder / "credentials"
        file.write_text("\n".join(self._profile(name, role) for name, role in profiles.items()), encoding="utf-8")
        given = self.lab.environment(ACCOUNT)
        kept = {key: value for key, value in given.items() if key not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        env = kept | {"AWS_SHARED_CREDENTIALS_FILE": str(file), "GITHUB_ACTOR": "ada"}
        done = self._run_in(self.lab.project, "sagegate", *args, check=False, env=env)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def _profile(self, environment: str, role: str) -> str:
        keys = "\n".join(f"{key} = {value}" for key, value in self.session(role).items())
        return f"[my-model-{environment}]\n{keys}\n"

    def client(self, role: str, service: str) -> Any:
        """boto3's client of a role's session."""
        make: Any = boto3.client
        once = Config(retries={"total_max_attempts": 1})
        return make(service, REGION, endpoint_url=self.lab.fake_aws.url, config=once, **self.session(role))


@pytest.fixture(scope="module")
def world(
    baked: Bake, tmp_path_factory: pytest.TempPathFactory, fake_aws_env: Path, run_in: RunIn, project_env: Path
) -> Iterator[World]:
    """The platform made by an administrator, then a model trained with the train role and pinned."""
    fake_aws = Remote(fake_aws_env)
    try:
        folder = tmp_path_factory.mktemp("permissions")
        lab = SetupLab(baked(), folder, fake_aws, run_in, project_env)
        lab.accounts(ACCOUNT, ACCOUNT, ACCOUNT)
        lab.edit("environments/staging.toml", "wait_in_seconds = 120", "wait_in_seconds = 0")
        lab.sagegate("bootstrap", "dev", "--yes", account=ACCOUNT)
        fake_aws.set_enforce(True)
        made = World(lab, folder, run_in)
        made.said["run"] = made.sagegate(TRAINS, "run", "--env", "dev")
        made.said["promote"] = made.sagegate(TRAINS, "promote", "staging")
        yield made
    finally:
        fake_aws.close()


@pytest.fixture(scope="module")
def staged(world: World) -> World:
    """The model deployed to staging, with that job's roles."""
    world.said["deploy"] = world.sagegate(DEPLOYS, "deploy", "staging")
    return world


def test_train_runs_follows_and_promotes(world: World) -> None:
    assert "model 1 registered" in world.said["run"]
    assert "pins model 1" in world.said["promote"]
    for verb in (("status",), ("models",), ("models", "1"), ("plan",)):
        world.sagegate(TRAINS, *verb, "--env", "dev")


def test_staging_s_job_deploys_there_and_promotes_to_prod_s(staged: World) -> None:
    assert "staging: model 1 is live: smoke test passed" in staged.said["deploy"]
    assert "model 1 is deployed and healthy already" in staged.sagegate(DEPLOYS, "deploy", "staging")
    assert "pins model 1" in staged.sagegate(DEPLOYS, "promote", "prod")
    said = staged.sagegate(GOES_LIVE, "deploy", "prod")
    assert "prod: model 1 is live: smoke test passed" in said


def test_train_sees_where_models_are_deployed(staged: World) -> None:
    assert "staging" in staged.sagegate(TRAINS, "models", "1", "--env", "dev")


def test_a_permission_that_is_taken_away_stops_the_verb(world: World) -> None:
    """What allows is the role's policy, too: without it the same verb ends."""
    iam = client("iam", world.lab.fake_aws.environment(ACCOUNT, REGION))
    role = {"RoleName": "my-model-github-train", "PolicyName": "train"}
    kept = json.dumps(iam.get_role_policy(**role)["PolicyDocument"])
    assert "sagemaker:ListPipelineExecutions" in kept
    iam.put_role_policy(**role, PolicyDocument=kept.replace("sagemaker:ListPipelineExecutions", "sagemaker:ListTags"))
    try:
        said = world.sagegate(TRAINS, "status", "--env", "dev", code=1)
    finally:
        iam.put_role_policy(**role, PolicyDocument=kept)
    assert "you may not do sagemaker:ListPipelineExecutions" in said


def test_approve_approves(world: World) -> None:
    approver = {"dev": "approve"}
    assert "model 1 approved" in world.sagegate(approver, "approve", "1", "--reason", "by hand", "--env", "dev")
    assert "Approved · champion" in world.sagegate(approver, "models", "--env", "dev")


# What a job with these sessions tries, and the action that stops it.
REFUSED = {
    "train-approves": (TRAINS, "approve 1 --reason mine --env dev", "sagemaker:UpdateModelPackage"),
    "train-rejects": (TRAINS, "reject 1 --reason mine --env dev", "sagemaker:UpdateModelPackage"),
    "train-deploys": (TRAINS | {"staging": "train"}, "deploy staging", "cloudformation:DescribeStacks"),
    "train-sets-up": (TRAINS, "bootstrap dev --yes", "cloudformation:DescribeStacks"),
    "approve-trains": ({"dev": "approve"}, "run --env dev", "sagemaker:DescribePipeline"),
    "approve-deploys": ({"dev": "approve", "staging": "approve"}, "deploy staging", "cloudformation:DescribeStacks"),
    "staging-trains": ({"dev": "deploy-staging"}, "run --env dev", "sagemaker:DescribePipeline"),
    "staging-approves": (
        {"dev": "deploy-staging"}, "approve 1 --reason mine --env dev", "sagemaker:UpdateModelPackage"
    ),
    "prod-deploys-to-staging": ({"dev": "approve", "staging": "deploy-prod"}, "deploy staging", "s3:GetObject"),
    "staging-sets-up": ({"staging": "deploy-staging"}, "bootstrap staging --yes", "cloudformation:DescribeStacks"),
}  # fmt: skip


@pytest.mark.parametrize(("profiles", "verb", "action"), REFUSED.values(), ids=REFUSED.keys())
def test_a_verb_is_refused_in_one_line(staged: World, profiles: dict[str, str], verb: str, action: str) -> None:
    said = staged.sagegate(profiles, *verb.split(), code=1).strip()
    assert said.splitlines()[-1].startswith(f"sagegate: you may not do {action} (User: "), said


ENDPOINT = {"EndpointConfigName": "my-model-prod-1"}
RECORD = {"Bucket": BUCKET, "Key": "my-model/deployments/staging/forged.json", "Body": b"{}"}
PACKAGE = f"{SM}:model-package/my-model/1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/my-model-execution"
CONTAINER = {"PrimaryContainer": {"ModelPackageName": PACKAGE}}
# (role, service, method, request): what no job of that role has any business with.
CALLS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("train", "sagemaker", "create_endpoint", ENDPOINT | {"EndpointName": "my-model-prod"}),
    ("train", "sagemaker", "update_model_package", {"ModelPackageArn": PACKAGE, "ModelApprovalStatus": "Approved"}),
    ("train", "sagemaker", "create_model", {"ModelName": "my-model-staging-9", "ExecutionRoleArn": ROLE} | CONTAINER),
    ("train", "sagemaker", "start_pipeline_execution", {"PipelineName": "other"}),
    ("train", "s3", "put_object", RECORD),
    ("train", "s3", "put_object", RECORD | {"Key": "my-model/champion/model.tar.gz"}),
    ("train", "s3", "list_objects_v2", {"Bucket": BUCKET, "Prefix": "other/"}),
    ("approve", "sagemaker", "start_pipeline_execution", {"PipelineName": "my-model"}),
    ("approve", "sagemaker", "delete_model_package", {"ModelPackageName": PACKAGE}),
    ("approve", "s3", "put_object", RECORD | {"Key": "my-model/executions/x/model.tar.gz"}),
    ("deploy-staging", "sagemaker", "update_endpoint", ENDPOINT | {"EndpointName": "my-model-prod"}),
    ("deploy-staging", "sagemaker", "delete_endpoint", {"EndpointName": "my-model-prod"}),
    ("deploy-staging", "sagemaker-runtime", "invoke_endpoint", {"EndpointName": "my-model-prod", "Body": b"1"}),
    ("deploy-staging", "cloudformation", "delete_stack", {"StackName": "my-model-endpoint-prod"}),
    ("deploy-staging", "cloudformation", "delete_stack", {"StackName": "my-model-platform"}),
    ("deploy-staging", "cloudwatch", "delete_alarms", {"AlarmNames": ["my-model-prod-5xx"]}),
    ("deploy-staging", "sagemaker", "start_pipeline_execution", {"PipelineName": "my-model"}),
    ("deploy-staging", "s3", "put_object", RECORD | {"Key": "my-model/deployments/prod/forged.json"}),
    (
        "deploy-staging",
        "sagemaker",
        "create_model",
        {"ModelName": "my-model-staging-9", "ExecutionRoleArn": ROLE} | CONTAINER,
    ),
    ("deploy-prod", "sagemaker", "delete_endpoint", {"EndpointName": "my-model-staging"}),
    ("deploy-prod", "cloudformation", "delete_stack", {"StackName": "my-model-endpoint-staging"}),
]
NOBODY: list[tuple[str, str, dict[str, Any]]] = [
    ("iam", "put_role_policy", {"RoleName": "my-model-github-train", "PolicyName": "p", "PolicyDocument": "{}"}),
    ("iam", "attach_role_policy", {"RoleName": "my-model-endpoint", "PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/p"}),
    ("iam", "create_user", {"UserName": "mallory"}),
    ("iam", "update_assume_role_policy", {"RoleName": "my-model-github-train", "PolicyDocument": "{}"}),
    ("s3", "delete_bucket", {"Bucket": BUCKET}),
    ("s3", "put_bucket_policy", {"Bucket": BUCKET, "Policy": "{}"}),
    ("s3", "delete_object", {"Bucket": BUCKET, "Key": "my-model/executions/x/model.tar.gz"}),
    ("cloudformation", "delete_stack", {"StackName": "my-model-platform"}),
    ("sagemaker", "delete_model_package_group", {"ModelPackageGroupName": "my-model"}),
    ("sagemaker", "delete_pipeline", {"PipelineName": "my-model", "ClientRequestToken": "t" * 32}),
]
CALLS += [(role, *call) for role in ENVIRONMENT_OF for call in NOBODY]


@pytest.mark.parametrize(
    ("role", "service", "method", "request_"), CALLS, ids=[f"{r}-{m}-{i}" for i, (r, _, m, _) in enumerate(CALLS)]
)
def test_a_call_outside_its_purpose_is_refused(
    world: World, role: str, service: str, method: str, request_: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(world.client(role, service), method)(**request_)
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
    assert f"assumed-role/my-model-github-{role}/" in str(refused.value)


def test_an_administrator_is_not_refused(world: World) -> None:
    """What refuses is the role's policy, and not the fake."""
    given = world.lab.fake_aws.environment(ACCOUNT, REGION)
    client("iam", given).create_user(UserName="somebody")
    client("s3", given).put_object(**RECORD | {"Key": "my-model/raw/note.txt"})
    client("cloudformation", given).delete_stack(StackName="my-model-endpoint-none")


@pytest.mark.parametrize("role", ENVIRONMENT_OF)
def test_only_a_job_of_its_environment_gets_a_role_s_session(world: World, role: str) -> None:
    own = ENVIRONMENT_OF[role]
    assert world.assume(role, own)["Credentials"]["SessionToken"]
    other = "staging" if own == "dev" else "dev"
    for environment, repository in (
        (other, REPOSITORY),
        (None, REPOSITORY),
        (own, "someone/my-model"),
        (own, "acme/my-model-2"),
    ):
        with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"):
            world.assume(role, environment, repository)
