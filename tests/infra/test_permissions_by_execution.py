"""Least privilege, proven by execution: verbs run with one role's session alone, and each role is refused elsewhere.

`mlops bootstrap` makes the roles from infra/platform.yaml in a stand-in that enforces IAM, all environments in one
account, where nothing but the policies keeps them apart. moto's own enforcement knows no resources, so who is asked is
tests/stand_in/enforcement.py. Not enforced here: resource policies, permissions boundaries, the execution role.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import Bake, RunIn
from setup_lab import REGION, SetupLab
from stand_in.aws_lab import client
from stand_in.github_oidc import identity_token
from stand_in.remote import Remote

ACCOUNT, REPOSITORY = "123456789012", "acme/my-model"
BUCKET = f"my-model-{ACCOUNT}-{REGION}"
ENVIRONMENT_OF = {"train": "dev", "approve": "staging", "deploy-staging": "staging", "deploy-prod": "prod"}
SM = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
# Which session is whose profile, in the job that trains and in the one that deploys to staging (mlops credentials).
TRAINS = {"dev": "train"}
DEPLOYS = {"dev": "approve", "staging": "deploy-staging"}
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
        sts = client("sts", self.lab.stand_in.environment(ACCOUNT, REGION))
        arn = f"arn:aws:iam::{ACCOUNT}:role/my-model-github-{role}"
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="github", WebIdentityToken=token)

    def mlops(self, profiles: dict[str, str], *args: str, code: int = 0) -> str:
        """What a verb prints that has nothing but these roles' sessions, as the profiles of these environments."""
        file = self.folder / "credentials"
        file.write_text("\n".join(self._profile(name, role) for name, role in profiles.items()), encoding="utf-8")
        given = self.lab.environment(ACCOUNT)
        kept = {key: value for key, value in given.items() if key not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        env = kept | {"AWS_SHARED_CREDENTIALS_FILE": str(file), "GITHUB_ACTOR": "ada"}
        done = self._run_in(self.lab.project, "mlops", *args, check=False, env=env)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def _profile(self, environment: str, role: str) -> str:
        keys = "\n".join(f"{key} = {value}" for key, value in self.session(role).items())
        return f"[my-model-{environment}]\n{keys}\n"

    def client(self, role: str, service: str) -> Any:
        """boto3's client of a role's session."""
        make: Any = boto3.client
        return make(service, REGION, endpoint_url=self.lab.stand_in.url, **self.session(role))


@pytest.fixture(scope="module")
def world(
    baked: Bake, tmp_path_factory: pytest.TempPathFactory, stand_in_env: Path, run_in: RunIn, project_env: Path
) -> Iterator[World]:
    """The platform made by an administrator, then a model trained with the train role and pinned."""
    stand_in = Remote(stand_in_env)
    try:
        folder = tmp_path_factory.mktemp("permissions")
        lab = SetupLab(baked(), folder, stand_in, run_in, project_env)
        lab.accounts(ACCOUNT, ACCOUNT, ACCOUNT)
        lab.edit("environments/staging.toml", "wait_in_seconds = 120", "wait_in_seconds = 0")
        lab.mlops("bootstrap", "dev", "--yes", account=ACCOUNT)
        stand_in.set_enforce(True)
        made = World(lab, folder, run_in)
        made.said["run"] = made.mlops(TRAINS, "run", "--env", "dev")
        made.said["promote"] = made.mlops(TRAINS, "promote", "staging")
        yield made
    finally:
        stand_in.close()


def test_train_runs_follows_and_promotes(world: World) -> None:
    assert "model 1 registered" in world.said["run"]
    assert "pins model 1" in world.said["promote"]
    for verb in (("status",), ("models",), ("models", "1"), ("plan",), ("explain",)):
        world.mlops(TRAINS, *verb, "--env", "dev")


def test_deploy_and_approve_put_a_model_behind_staging_s_endpoint(world: World) -> None:
    said = world.mlops(DEPLOYS, "deploy", "staging")
    assert "staging: model 1 is live: smoke test passed" in said or "healthy already" in said
    again = world.mlops(DEPLOYS, "deploy", "staging")
    assert "model 1 is deployed and healthy already" in again


def test_approve_approves_and_rejects(world: World) -> None:
    approver = {"dev": "approve"}
    assert "model 1 approved" in world.mlops(approver, "approve", "1", "--reason", "by hand", "--env", "dev")
    assert "Approved · champion" in world.mlops(approver, "models", "--env", "dev")


# (profiles, verb, the action that is refused)
REFUSED: list[tuple[dict[str, str], tuple[str, ...], str]] = [
    (TRAINS, ("approve", "1", "--reason", "mine", "--env", "dev"), "sagemaker:UpdateModelPackage"),
    (TRAINS, ("reject", "1", "--reason", "mine", "--env", "dev"), "sagemaker:UpdateModelPackage"),
    (TRAINS | {"staging": "train"}, ("deploy", "staging"), ""),
    ({"dev": "approve"}, ("run", "--env", "dev"), ""),
    ({"dev": "deploy-staging"}, ("run", "--env", "dev"), ""),
    ({"dev": "approve", "staging": "approve"}, ("deploy", "staging"), ""),
    ({"dev": "approve", "staging": "deploy-prod"}, ("deploy", "staging"), ""),
    ({"dev": "deploy-prod"}, ("approve", "1", "--reason", "mine", "--env", "dev"), "sagemaker:UpdateModelPackage"),
    (TRAINS, ("bootstrap", "dev", "--yes"), ""),
]


@pytest.mark.parametrize(("profiles", "verb", "action"), REFUSED, ids=[f"{p}-{v[0]}" for p, v, _ in REFUSED])
def test_a_verb_is_refused_in_one_line(
    world: World, profiles: dict[str, str], verb: tuple[str, ...], action: str
) -> None:
    said = world.mlops(profiles, *verb, code=1)
    last = said.strip().splitlines()[-1]
    print(last)
    assert last.startswith(f"mlops: you may not do {action}"), said
