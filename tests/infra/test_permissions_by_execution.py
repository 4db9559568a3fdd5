"""Least privilege, proven by execution: the verbs run with one role's session alone, and each role is refused elsewhere.

`mlops bootstrap` makes the roles from infra/platform.yaml in a stand-in that enforces IAM, all environments in one
account, where nothing but the policies keeps them apart. moto's own enforcement knows no resources, so who is asked is
tests/stand_in/enforcement.py. Not enforced here: resource policies, permissions boundaries, the execution role.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import Bake, RunIn
from setup_lab import REGION, SetupLab
from stand_in.aws_lab import client
from stand_in.github_oidc import identity_token
from stand_in.remote import Remote

ACCOUNT, REPOSITORY = "123456789012", "acme/my-model"
BUCKET = f"my-model-{ACCOUNT}-{REGION}"
ENVIRONMENT_OF = {"train": "dev", "approve": "staging", "deploy-staging": "staging", "deploy-prod": "prod"}
SM = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
pytestmark = pytest.mark.xdist_group("permissions")


class World:
    """A project whose platform stands, and sessions of its roles."""

    def __init__(self, lab: SetupLab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.said: dict[str, str] = {}
        self._sessions: dict[str, dict[str, str]] = {}

    def session(self, role: str) -> dict[str, str]:
        """The credentials that a job of GitHub's gets for a role."""
        if role not in self._sessions:
            given = self.assume(role, ENVIRONMENT_OF[role])["Credentials"]
            names = {"AccessKeyId": "ACCESS_KEY_ID", "SecretAccessKey": "SECRET_ACCESS_KEY", "SessionToken": "SESSION_TOKEN"}
            self._sessions[role] = {f"AWS_{name}": given[key] for key, name in names.items()}
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
        done = self.lab._run_in(self.lab.project, "mlops", *args, check=False, env=env)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def _profile(self, environment: str, role: str) -> str:
        keys = "\n".join(f"{key.lower()} = {value}" for key, value in self.session(role).items())
        return f"[my-model-{environment}]\n{keys}\n"

    def client(self, role: str, service: str) -> Any:
        """boto3's client of a role's session."""
        make: Any = boto3.client
        key = {name.lower(): value for name, value in self.session(role).items()}
        return make(service, REGION, endpoint_url=self.lab.stand_in.url, **key)


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
        made = World(lab, folder)
        made.said["run"] = made.mlops({"dev": "train"}, "run", "--env", "dev")
        yield made
    finally:
        stand_in.close()


def test_train_runs_and_follows_the_pipeline(world: World) -> None:
    assert "model 1 registered" in world.said["run"]
