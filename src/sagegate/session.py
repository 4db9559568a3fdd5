"""AWS clients for one environment.

The environment `local` gets local clients with the same methods, requests and responses as boto3's, so that commands
are written once; `is_local` is asked where there is a real difference. On AWS, boto3 takes its credentials from the
profile `PROJECT-ENV` if it exists, else as usual.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings, load_environment, load_settings
from sagegate.errors import SagegateError
from sagegate.files import Json, split_uri
from sagegate.local.storage import Store
from sagegate.names import Names

CUT_OFF = "sagegate-cut-off"  # a header that marks an answer with fewer bytes than its Content-Length


class Session:
    """The project in `root`, and the clients and resource names of one of its environments."""

    def __init__(self, root: Path, settings: Settings, environment: Environment) -> None:
        self.root = root
        self.settings = settings
        self.environment = environment
        self.names = Names(settings.project.name, environment.name, environment.account_id, environment.region)
        self.store = Store(root / ".mlops" / "s3")  # the local S3; on AWS only its cache of digests is used
        self.profile: str | None = None  # of boto3

    @cached_property
    def sagemaker(self) -> Any:
        """The SageMaker client."""
        return self.client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        """The S3 client."""
        return self.client("s3")

    def digest(self, file: Path) -> str:
        """Return the SHA-256 of a local file; a local run keeps it for the next."""
        return self.store.file_digest(file)

    @property
    def option(self) -> str:
        """The option that selects this environment, with a leading space: ` --env dev`; empty for `local`."""
        return "" if self.environment.is_local else f" --env {self.environment.name}"

    def client(self, service: str) -> Any:
        """Return the client of an AWS service."""
        raise NotImplementedError

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait up to `seconds` for an execution; return True if it has ended."""
        raise NotImplementedError

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other commands on this machine from changing the champion or what a run has uploaded; not on AWS."""
        yield

    def close(self) -> None:
        """Stop local executions of this process."""


class LocalSession(Session):
    """A session with local SageMaker and S3."""

    def __init__(self, root: Path, settings: Settings, environment: Environment, launcher: Any) -> None:
        super().__init__(root, settings, environment)
        from sagegate.local.client import LocalSageMaker
        from sagegate.pipeline.code import library_finder

        region, account_id = environment.region, environment.account_id
        self.s3 = self.store
        self.sagemaker = LocalSageMaker(root, self.store, region, account_id, library_finder(root), launcher)

    def client(self, service: str) -> Any:
        """Raise SagegateError: only SageMaker and S3 exist locally."""
        raise SagegateError(f"the environment local has no {service}: choose an environment of AWS, such as --env dev")

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait up to `seconds` for an execution; one of another process is checked once."""
        return bool(self.sagemaker.wait(arn, seconds))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock of the project's local state."""
        from sagegate.local.state import locked

        file = self.root / ".mlops" / "registry" / ".lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file):
            yield

    def close(self) -> None:
        """Stop local executions of this process."""
        self.sagemaker.close()


class AwsSession(Session):
    """A session with an AWS account. Raises SagegateError if the credentials belong to another account."""

    def __init__(self, root: Path, settings: Settings, environment: Environment) -> None:
        super().__init__(root, settings, environment)
        import boto3

        self._clients: dict[str, Any] = {}
        profile = f"{settings.project.name}-{environment.name}"
        self.profile = profile if profile in boto3.Session().available_profiles else None
        self._session: Any = boto3.Session(profile_name=self.profile, region_name=environment.region)
        account = self.client("sts").get_caller_identity()["Account"]
        if account != environment.account_id:
            raise SagegateError(
                f"environments/{environment.name}.toml says account {environment.account_id}, but your credentials are "
                f"of account {account}: log in to the right one, or correct account_id"
            )

    def client(self, service: str) -> Any:
        """Return boto3's client. It tries throttled calls and lost connections AWS_MAX_ATTEMPTS (10) times."""
        from botocore.config import Config

        if service not in self._clients:
            attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", 10))
            config = Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=10,
                read_timeout=60,
                tcp_keepalive=True,
                user_agent_extra="sagegate",
            )
            self._clients[service] = self._session.client(service, config=config)
            events = self._clients[service].meta.events
            events.register("before-parse", _empty_if_cut_off)
            events.register("needs-retry", _repeat_if_cut_off)
        return self._clients[service]

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait `seconds`, then return True if the execution has ended."""
        time.sleep(seconds)
        described = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        return described["PipelineExecutionStatus"] in ("Succeeded", "Failed", "Stopped")


def _empty_if_cut_off(operation_model: Any, response_dict: Any, **_: Any) -> None:
    """Let botocore parse an empty answer in place of one that was cut off, and mark it for `_repeat_if_cut_off`.

    botocore takes what there is of such an answer: of JSON that is an answer without any field, of XML an error of its
    parser. It has not read the body of HEAD, which is empty, and of an object, which is read later.
    """
    headers, body = response_dict["headers"], response_dict["body"]
    if operation_model.http.get("method") == "HEAD" or not isinstance(body, bytes) or "Content-Encoding" in headers:
        return
    if len(body) < (length := int(headers.get("Content-Length", 0))):
        wrapper = getattr(operation_model.output_shape, "serialization", {}).get("resultWrapper")
        xml = f"<Empty><{wrapper}/></Empty>" if wrapper else "<Empty/>"
        is_json = "json" in operation_model.service_model.protocol
        response_dict |= {"status_code": 200, "body": b"{}" if is_json else xml.encode()}
        headers[CUT_OFF] = f"{len(body)} {length}"


def _repeat_if_cut_off(response: Any, attempts: int, **_: Any) -> float | None:
    """Return in how many seconds to repeat a call whose answer was cut off, else None.

    Raises botocore's IncompleteReadError after ten attempts.
    """
    headers = response[1]["ResponseMetadata"].get("HTTPHeaders", {}) if response else {}
    if CUT_OFF not in headers:
        return None
    if attempts >= 10:
        from botocore.exceptions import IncompleteReadError

        actual, expected = map(int, headers[CUT_OFF].split())
        raise IncompleteReadError(actual_bytes=actual, expected_bytes=expected)
    return float(min(0.05 * 2**attempts, 5))


def open_session(root: Path, name: str, launcher: Any = None) -> Session:
    """Return a session with environment `name` of the project in `root`; `launcher` starts local jobs.

    Raises SagegateError if a setting is wrong, or the account is the placeholder or not that of the credentials.
    """
    settings, environment = load_settings(root), load_environment(root, name)
    if environment.is_local:
        return LocalSession(root, settings, environment, launcher)
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        file = f"environments/{name}.toml"
        raise SagegateError(
            f"{file}: account_id is still the placeholder {PLACEHOLDER_ACCOUNT}: put your account there"
        )
    return AwsSession(root, settings, environment)


def paginate(client: Any, operation: str, key: str, **request: Any) -> Iterator[Json]:
    """Yield the items under `key` from all pages of a List* call, such as `list_objects_v2`."""
    for page in client.get_paginator(operation).paginate(**request):
        yield from page.get(key, [])


def is_missing(session: Session, error: Exception) -> bool:
    """Return True if a SageMaker call failed because a resource does not exist. AWS has two codes for that."""
    if isinstance(error, session.sagemaker.exceptions.ResourceNotFound):
        return True
    details = _error_of(error)
    return details.get("Code") == "ValidationException" and "does not exist" in details.get("Message", "")


def _error_of(error: Exception) -> Json:
    """Return code and message of an answer of AWS that is an error; a lost connection has None as its response."""
    response: Json = getattr(error, "response", None) or {}
    return dict(response.get("Error", {}))


def read_object(session: Session, uri: str) -> bytes | None:
    """Return an S3 object's content, or None if it does not exist.

    Raises SagegateError if S3 does not say which: it answers 403 for a missing object to whoever may not list the
    bucket, as another account that deploys dev's models. Source: "GetObject", Amazon S3 API reference.
    """
    bucket, key = split_uri(uri)
    try:
        return _read_body(session, bucket, key)
    except session.s3.exceptions.NoSuchKey:
        return None
    except Exception as error:  # botocore's ClientError; importing botocore would slow down every local run
        if _error_of(error).get("Code") != "AccessDenied":
            raise
        raise SagegateError(
            f"{uri} is missing or not readable with these credentials: run the pipeline again if it is missing, else"
            " `sagegate bootstrap dev` lets the accounts in environments/ read it"
        ) from None


def _read_body(session: Session, bucket: str, key: str, attempts: int = 4) -> bytes:
    """Return an object's content. boto3 repeats a call that failed, but not one whose body was cut off."""
    body = session.s3.get_object(Bucket=bucket, Key=key)["Body"]
    try:
        content: bytes = body.read()
        return content
    except Exception as error:
        from sagegate.aws_errors import is_temporary

        if attempts == 1 or not is_temporary(error):
            raise
    return _read_body(session, bucket, key, attempts - 1)
