"""The one session to a backend: clients of an environment, all with boto3's methods, requests and responses.

For `local` they are this machine's (sagegate/local), for the others boto3's; every verb has one code path, whichever
session it went through. Credentials are boto3's business: of the profile `PROJECT-ENV` where there is one, else its usual
chain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.storage import Store
from sagegate.names import Names


class Session:
    """An environment's clients, and the names of what is there."""

    def __init__(self, environment: Environment, names: Names, digest: Callable[[Path], str]) -> None:
        self.environment = environment
        self.names = names
        self.digest = digest  # SHA-256 of a file of this machine, remembered between runs

    @cached_property
    def sagemaker(self) -> Any:
        """boto3's SageMaker client, or what answers like it."""
        return self.client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        """boto3's S3 client, or what answers like it."""
        return self.client("s3")

    @property
    def option(self) -> str:
        """What a command needs to act here too: ` --env dev`, or nothing for this machine."""
        return "" if self.environment.is_local else f" --env {self.environment.name}"

    def client(self, service: str) -> Any:
        """The client of an AWS service."""
        raise NotImplementedError

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait up to `seconds` for an execution; whether it has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop what runs on this machine."""


class LocalSession(Session):
    """This machine."""

    def __init__(self, environment: Environment, names: Names, store: Store, sagemaker: Any) -> None:
        super().__init__(environment, names, store.file_digest)
        self.s3 = store
        self.sagemaker = sagemaker

    def client(self, service: str) -> Any:
        """Raises SagegateError: of AWS's services this machine has only SageMaker and S3."""
        raise SagegateError(f"this machine has no {service}: choose an environment of AWS, such as --env dev")

    def wait(self, arn: str, seconds: float) -> bool:
        """As above; an execution of another process is looked at, not waited for."""
        return bool(self.sagemaker.wait(arn, seconds))

    def close(self) -> None:
        """Stop what runs."""
        self.sagemaker.close()


class AwsSession(Session):
    """An AWS account. Opening it checks that the credentials belong to that account."""

    def __init__(self, environment: Environment, names: Names, digest: Callable[[Path], str]) -> None:
        super().__init__(environment, names, digest)
        import boto3

        self._clients: dict[str, Any] = {}
        profile = f"{names.project}-{environment.name}"
        found = boto3.Session()
        known = profile in found.available_profiles
        self._session = boto3.Session(profile_name=profile if known else None, region_name=environment.region)
        _check_account(self.client("sts").get_caller_identity()["Account"], environment)

    def client(self, service: str) -> Any:
        """boto3's client; calls that are throttled or lose their connection are tried AWS_MAX_ATTEMPTS (10) times."""
        from botocore.config import Config

        make: Callable[..., Any] = self._session.client

        if service not in self._clients:
            attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", 10))
            config = Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=10,
                read_timeout=60,
                tcp_keepalive=True,
                user_agent_extra="sagegate",
            )
            self._clients[service] = make(service, config=config)
        return self._clients[service]

    def wait(self, arn: str, seconds: float) -> bool:
        """As above; looks once, after the wait."""
        time.sleep(seconds)
        described = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        return described["PipelineExecutionStatus"] in ("Succeeded", "Failed", "Stopped")


def open_session(root: Path, settings: Settings, environment: Environment, launcher: Any = None) -> Session:
    """The clients of an environment of the project in `root`.

    Raises SagegateError if the account is still the placeholder, or is not the one that the credentials belong to.
    """
    names = Names(settings.project.name, environment.name, environment.account_id, environment.region)
    store = Store(root / ".mlops" / "s3")
    if not environment.is_local:
        if environment.account_id == PLACEHOLDER_ACCOUNT:
            file = f"environments/{environment.name}.toml"
            raise SagegateError(
                f"{file}: account_id is still the placeholder {PLACEHOLDER_ACCOUNT}: put your account there"
            )
        return AwsSession(environment, names, store.file_digest)
    from sagegate.local.client import LocalSageMaker
    from sagegate.pipeline.code import library_finder

    region, account_id = environment.region, environment.account_id
    client = LocalSageMaker(root, store, region, account_id, library_finder(root), launcher)
    return LocalSession(environment, names, store, client)


def pages(call: Callable[..., Json], key: str, **request: Any) -> Iterator[Json]:
    """The items under `key` of all pages of a List* call, whichever name its token has."""
    while True:
        page = call(**request)
        yield from page.get(key, [])
        token = page.get("NextContinuationToken") or page.get("NextToken") or page.get("nextToken")
        if not token:
            return
        name = next(n for n in ("NextContinuationToken", "NextToken", "nextToken") if n in page)
        request[{"NextContinuationToken": "ContinuationToken"}.get(name, name)] = token


def is_missing(session: Session, error: Exception) -> bool:
    """Whether a SageMaker call failed because what it names does not exist: AWS has two ways to say so."""
    if isinstance(error, session.sagemaker.exceptions.ResourceNotFound):
        return True
    said = getattr(error, "response", {}).get("Error", {})
    return said.get("Code") == "ValidationException" and "does not exist" in said.get("Message", "")


def _check_account(found: str, environment: Environment) -> None:
    if found != environment.account_id:
        raise SagegateError(
            f"environments/{environment.name}.toml says account {environment.account_id}, but your credentials are of "
            f"account {found}: log in to the right one, or correct account_id"
        )
