"""A project with trained models in an emptied fake, its verbs through a proxy that keeps a list of all calls."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from clean_copy import ROOT
from conftest import without_shell_settings
from fakes.proxy import Proxy, Weather
from fakes.remote import client
from places import ACCOUNT

from sagegate.files import Json, archive

if TYPE_CHECKING:
    from fakes.remote import Remote

PROJECT, REGION = "my-model", "us-east-1"
BUCKET = f"{PROJECT}-{ACCOUNT}-{REGION}"
READS = ("Describe", "List", "Get", "Invoke", "HEAD ", "GET ")
GOOD, OTHER, SKEWED = 1, 2, 3  # the versions: two good models, and one that answers differently once it is served


@dataclass
class Snapshot:
    """What training left in dev's account: objects by key, packages in the order of their versions, and the pins."""

    project: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    packages: list[Json] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)  # by version, what deployments/staging.json says

    def take(self, environment: dict[str, str]) -> None:
        """Fill it from an account."""
        s3, sagemaker = client("s3", environment), client("sagemaker", environment)
        for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
            self.objects[item["Key"]] = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        members = sagemaker.meta.service_model.operation_model("CreateModelPackage").input_shape.members
        found = sagemaker.list_model_packages(ModelPackageGroupName=PROJECT, SortOrder="Ascending")
        for summary in found["ModelPackageSummaryList"]:
            package = sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
            kept = {key: value for key, value in package.items() if key in members and key != "ModelPackageName"}
            self.packages.append(kept)

    def restore(self, environment: dict[str, str]) -> None:
        """Put it into an account that has the bucket."""
        s3, sagemaker = client("s3", environment), client("sagemaker", environment)
        for key, content in self.objects.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        sagemaker.create_model_package_group(ModelPackageGroupName=PROJECT)
        for package in self.packages:
            sagemaker.create_model_package(**package)

    def sample(self, version: int) -> tuple[bytes, Json]:
        """A model's sample request and the answer that its training recorded."""
        uri = self.packages[version - 1]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        with tarfile.open(fileobj=io.BytesIO(self.objects[uri.removeprefix(f"s3://{BUCKET}/")])) as tar:
            request, response = (tar.extractfile(f"sample_{name}.json") for name in ("request", "response"))
            assert request and response
            return request.read(), json.load(response)


class Recorder(Proxy):
    """A proxy that keeps the operations in order, and can do something once the n-th call of one has been answered."""

    def __init__(self, backend: str, weather: Weather | None = None) -> None:
        super().__init__(backend, weather or Weather(), seed=11)
        self.operations: list[str] = []
        self._then: tuple[str, int, Callable[[], str | None]] | None = None

    def on(self, operation: str, number: int, then: Callable[[], str | None]) -> None:
        """Call `then` before the `number`-th call of an operation; inject the fault that it returns, if any."""
        self._then = (operation, len([o for o in self.operations if o == operation]) + number, then)

    def fate(self, operation: str) -> str:
        """As of every proxy."""
        self.operations.append(operation)
        if self._then and self._then[:2] == (operation, self.operations.count(operation)):
            then, self._then = self._then[2], None
            return then() or super().fate(operation)
        return super().fate(operation)

    @property
    def writes(self) -> list[str]:
        """The calls that change something."""
        return [name for name in self.operations if not name.startswith(READS)]


class Lab:
    """The project, clients that go round the proxy, and the proxy that the verbs go through."""

    def __init__(self, project: Path, python: Path, fake_aws: Remote, snapshot: Snapshot) -> None:
        self.project, self.python, self.snapshot, self.fake_aws = project, python, snapshot, fake_aws
        self.direct = fake_aws.environment(ACCOUNT)
        self.sagemaker, self.s3 = client("sagemaker", self.direct), client("s3", self.direct)
        self.formation, self.cloudwatch = client("cloudformation", self.direct), client("cloudwatch", self.direct)
        self.runtime = client("sagemaker-runtime", self.direct)
        self.proxy = Recorder(self.direct["AWS_ENDPOINT_URL"])

    # --- what a user does ------------------------------------------------------------------------------------------
    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Start a verb."""
        return self._start(args, env, subprocess.DEVNULL)

    def _start(self, args: tuple[str, ...], env: dict[str, str], stdin: int) -> subprocess.Popen[str]:
        own = self.direct | {"AWS_ENDPOINT_URL": self.proxy.url, "SAGEGATE_POLL_SECONDS": "0.1", "GITHUB_ACTOR": "ada"}
        return subprocess.Popen(
            [str(self.python), "-m", "sagegate", *args],
            cwd=self.project,
            env=without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | own | env),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def answered(self, answer: str, *args: str) -> tuple[int, str]:
        """The exit code and output of a verb whose question is answered on a terminal."""
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        process = self._start(args, {"CI": ""}, theirs)
        said, _ = process.communicate(timeout=120)
        os.close(ours)
        os.close(theirs)
        return process.returncode, said

    def sagegate(self, *args: str, code: int = 0, **env: str) -> str:
        """What a verb prints; its exit code must be `code`."""
        process = self.start(*args, **env)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, f"sagegate {' '.join(args)}: exit code {process.returncode}\n{said}"
        assert "Traceback" not in said, said
        return said

    def killed(self, operation: str, number: int, *args: str) -> None:
        """Run a verb that is killed (SIGKILL) once the `number`-th call of an operation has been carried out."""
        process: list[subprocess.Popen[str]] = []
        ready = threading.Event()

        def kill() -> str:
            ready.wait()
            process[0].kill()
            return "reset_after"  # what was asked for is still done

        self.proxy.on(operation, number, kill)
        process.append(self.start(*args, WARM_PYTHON=""))  # the process itself is to be killed, not one that waits
        ready.set()
        said, _ = process[0].communicate(timeout=120)
        assert process[0].returncode == -9, f"it was to be killed at {operation} {number}, and said\n{said}"

    def pin(self, environment: str, version: int) -> None:
        """Pin a version, as a merged pull request does."""
        folder = self.project / "deployments"
        folder.mkdir(exist_ok=True)
        (folder / f"{environment}.json").write_text(self.snapshot.pins[version], encoding="utf-8")

    def replace_artifact(self, version: int, files: dict[str, bytes]) -> str:
        """Let a version's artifact in S3 hold other files; its new SHA-256."""
        uri = self.snapshot.packages[version - 1]["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        content = archive(files)
        self.s3.put_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"), Body=content)
        return hashlib.sha256(content).hexdigest()

    # --- what can be seen of it ------------------------------------------------------------------------------------
    def records(self, environment: str) -> list[Json]:
        """The deployment records, the oldest first."""
        prefix = f"{PROJECT}/deployments/{environment}/"
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        keys = sorted(item["Key"] for item in found)
        return [json.load(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"]) for key in keys]

    def results(self, environment: str) -> list[tuple[int, str]]:
        """(version, result) of each deployment record, the oldest first."""
        return [(record["version"], record["result"]) for record in self.records(environment)]

    def package(self, version: int) -> Json:
        """A model package."""
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{PROJECT}/{version}"
        found: Json = self.sagemaker.describe_model_package(ModelPackageName=arn)
        return found

    def champion(self) -> int | None:
        """The champion's version."""
        try:
            body = self.s3.get_object(Bucket=BUCKET, Key=f"{PROJECT}/champion/champion.json")["Body"]
        except self.s3.exceptions.NoSuchKey:
            return None
        version: int = json.load(body)["version"]
        return version

    def stack(self, environment: str) -> str | None:
        """The endpoint stack's status, or None."""
        try:
            found = self.formation.describe_stacks(StackName=f"{PROJECT}-endpoint-{environment}")["Stacks"]
        except ClientError:
            return None
        return str(found[0]["StackStatus"])

    def answers(self, environment: str, version: int) -> bool:
        """Return True if the endpoint gives the recorded answer to a version's sample request."""
        request, expected = self.snapshot.sample(version)
        return same(self.ask(environment, request), expected)

    def ask(self, environment: str, request: bytes, runtime: Any = None) -> Json:
        """The endpoint's answer."""
        answer = (runtime or self.runtime).invoke_endpoint(
            EndpointName=f"{PROJECT}-{environment}", Body=request, ContentType="application/json"
        )
        found: Json = json.load(answer["Body"])
        return found

    @contextmanager
    def hammer(self, *environments: str) -> Iterator[Counter[tuple[str, str]]]:
        """Ask endpoints without rest, without trying again; counts (environment, "model N" or the error)."""
        answers: Counter[tuple[str, str]] = Counter()
        end = threading.Event()
        samples = {v: self.snapshot.sample(v) for v in range(1, len(self.snapshot.packages) + 1)}
        samples[SKEWED][1]["predictions"][0]["label"] = "skewed"  # as it answers where it is served

        def ask(environment: str) -> None:
            runtime = client("sagemaker-runtime", self.direct)
            while not end.is_set():
                try:
                    found = self.ask(environment, samples[GOOD][0], runtime)
                    who = next((f"model {v}" for v, s in samples.items() if same(found, s[1])), "another")
                    answers[environment, who] += 1
                except (ClientError, BotoCoreError) as error:
                    answers[environment, str(error)[:300]] += 1
                end.wait(0.1)  # two slow cores have other things to do as well

        threads = [threading.Thread(target=ask, args=(name,)) for name in environments]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            end.set()
            for thread in threads:
                thread.join()


def same(found: Any, expected: Any) -> bool:
    """Return True if two answers are equal except for the last digits of their numbers."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float) and isinstance(found, int | float):
        return abs(found - expected) <= 1e-6
    return bool(found == expected)


def failures(answers: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Those answers that no model of ours gave."""
    return {who: count for who, count in answers.items() if not who[1].startswith("model ")}
