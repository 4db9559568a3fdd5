"""The one door to a backend: clients of an environment, all with boto3's methods, requests and responses.

For `local` they are this machine's (mlops/local); every verb has one code path, whichever door it went through.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlops.code import library_finder
from mlops.local.launcher import Launcher
from mlops.local.sagemaker import LocalSageMaker
from mlops.local.store import Store
from mlops.settings import Environment, Settings


@dataclass(frozen=True)
class Names:
    """What a project's resources in an environment are called; all follow from project, account and region."""

    project: str
    account_id: str
    region: str

    @property
    def pipeline(self) -> str:
        """The pipeline."""
        return self.project

    @property
    def group(self) -> str:
        """The model package group."""
        return self.project

    @property
    def bucket(self) -> str:
        """The artifact bucket."""
        return f"{self.project}-{self.account_id}-{self.region}"

    @property
    def artifacts(self) -> str:
        """The S3 prefix under which all of the project's objects are."""
        return f"s3://{self.bucket}/{self.project}"

    @property
    def role(self) -> str:
        """The role that jobs run with."""
        partition = "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if "gov" in self.region else "aws"
        return f"arn:{partition}:iam::{self.account_id}:role/{self.project}-execution"

    def execution(self, name: str) -> str:
        """The ARN of an execution, known by the last part of its ARN or by all of it."""
        pipeline = f"arn:aws:sagemaker:{self.region}:{self.account_id}:pipeline/{self.pipeline}"
        return f"{pipeline}/execution/{name.rpartition('/')[2]}"

    def package(self, version: int) -> str:
        """The ARN of a version of the model."""
        return f"arn:aws:sagemaker:{self.region}:{self.account_id}:model-package/{self.group}/{version}"


@dataclass(frozen=True)
class Door:
    """An environment's clients, and the names of what is there."""

    environment: Environment
    sagemaker: LocalSageMaker
    s3: Store
    names: Names

    def close(self) -> None:
        """Stop what runs on this machine."""
        self.sagemaker.close()


def open_door(root: Path, settings: Settings, environment: Environment, launcher: Launcher | None = None) -> Door:
    """The clients of an environment of the project in `root`."""
    names = Names(settings.project.name, environment.account_id, environment.region)
    store = Store(root / ".mlops" / "s3")
    client = LocalSageMaker(root, store, environment.region, environment.account_id, library_finder(root), launcher)
    return Door(environment, client, store, names)
