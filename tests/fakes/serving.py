"""Containers and fleets: a model artifact served by a process of its own, and requests shared out among them.

A variant has one process, whatever its instance count. The process is the generated project's own server
(sagegate.local.server) around the artifact's own inference code, run by the Python at STAND_IN_PYTHON (this one unless
set), which must have what the model imports. It must answer /ping within STAND_IN_PING_SECONDS (60).
"""

from __future__ import annotations

import http.client
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from . import objects

SOURCE = Path(__file__).parents[2] / "src"
SERVE = "import sys; from pathlib import Path; from sagegate.local.server import serve_folder as serve; "
SERVE += "serve(Path(sys.argv[1]), 0, sys.argv[2])"
INVOCATION_SECONDS = 60  # the longest that a real-time endpoint waits for its container


class StartFailed(Exception):
    """The container never answered /ping."""


@dataclass(frozen=True)
class Answer:
    """What a container answered."""

    status: int
    body: bytes
    content_type: str
    attributes: str | None = None  # X-Amzn-SageMaker-Custom-Attributes


@dataclass(frozen=True)
class Image:
    """What a container is made from: a resolved container definition."""

    model_data_url: str
    environment: dict[str, str]


class Container:
    """One process that serves one artifact."""

    def __init__(self, image: Image, variant: str) -> None:
        self.image = image
        self.variant = variant
        self.folder = Path(tempfile.mkdtemp(prefix="container-"))
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.lines: list[str] = []
        self._said = threading.Event()  # that it serves, or that it ended

    def start(self) -> None:
        """Download, unpack, run, wait for /ping. Raises StartFailed; the caller stops it then, too."""
        failed = f"The primary container for production variant {self.variant} did not pass the ping health check."
        failed += " Please check CloudWatch logs for this endpoint."
        model = self.folder / "model"
        model.mkdir()
        try:
            with tarfile.open(fileobj=io.BytesIO(objects.read(self.image.model_data_url))) as tar:
                tar.extractall(model, filter="data")
        except (objects.NoSuchObject, tarfile.TarError) as error:
            raise StartFailed(
                f"Failed to download model data for container from URL: {self.image.model_data_url}. {error}"
            ) from None
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"PYTHONPATH": str(SOURCE), "SM_MODEL_DIR": str(model), "PYTHONUNBUFFERED": "1"}
        environment |= self.image.environment
        program = environment.get("SAGEMAKER_PROGRAM", "inference.py")
        if program != "inference.py":
            self.lines.append(f"SAGEMAKER_PROGRAM is {program}: the server of this project loads inference.py only")
            raise StartFailed(failed)
        self.process = subprocess.Popen(
            [os.environ.get("STAND_IN_PYTHON", sys.executable), "-c", SERVE, str(model), self.variant],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=self.folder,
        )  # fmt: skip
        threading.Thread(target=self._read, name=f"log of {self.variant}", daemon=True).start()
        deadline = monotonic() + float(os.environ.get("STAND_IN_PING_SECONDS", "60"))
        if not self._said.wait(deadline - monotonic()) or not self.port or not self._ping():
            raise StartFailed(failed)

    def abandon(self) -> None:
        """Do not wait for its start any more."""
        self._said.set()

    def _read(self) -> None:
        """Collect the process's output; its first line of the form "... http://127.0.0.1:PORT (..." names the port."""
        assert self.process and self.process.stdout
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip())
                if not self.port and line.startswith("serving "):
                    self.port = int(line.partition("127.0.0.1:")[2].split()[0])
                    self._said.set()
        self._said.set()

    def _ping(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        """POST /invocations; a container that is gone or too slow answers 500, as SageMaker's own front does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=INVOCATION_SECONDS)
        try:
            connection.request("POST", "/invocations", body, headers)
            response = connection.getresponse()
            kind = response.getheader("Content-Type") or "application/octet-stream"
            attributes = response.getheader("X-Amzn-SageMaker-Custom-Attributes")
            return Answer(response.status, response.read(), kind, attributes)
        except (OSError, http.client.HTTPException) as error:
            return Answer(500, f"the container did not answer: {error}".encode(), "text/plain")
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process and remove its folder."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Fleet:
    """The running variants of one endpoint configuration."""

    config_name: str
    config: dict[str, Any]  # as DescribeEndpointConfig gives it
    images: dict[str, Image]  # by variant
    containers: dict[str, Container] = field(default_factory=dict)
    _busy: int = 0
    _owed: dict[str, float] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        """Start every variant; raises StartFailed (the caller stops what had started)."""
        for variant, image in self.images.items():
            self.containers[variant] = Container(image, variant)
            self.containers[variant].start()

    def abandon(self) -> None:
        """Do not wait for its start any more."""
        for container in list(self.containers.values()):
            container.abandon()

    def choose(self, target: str | None) -> str:
        """The variant that takes the next request: `target`, or by weight, exactly in proportion."""
        if target:
            return target
        variants = self.config["ProductionVariants"]
        weights = {v["VariantName"]: float(v.get("InitialVariantWeight", 1.0)) for v in variants}
        total = sum(weights.values()) or 1.0
        with self._changed:
            for name, weight in weights.items():
                self._owed[name] = self._owed.get(name, 0.0) + weight / total
            chosen = max(weights, key=lambda name: self._owed[name])
            self._owed[chosen] -= 1.0
        return str(chosen)

    def enter(self) -> None:
        """A request begins."""
        with self._changed:
            self._busy += 1

    def leave(self) -> None:
        """A request has been answered."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def stop(self, drain: float = INVOCATION_SECONDS) -> None:
        """Wait at most `drain` seconds for requests in flight, then end the processes."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, drain)
        for container in self.containers.values():
            container.stop()

    @property
    def logs(self) -> dict[str, list[str]]:
        """What each variant's process printed."""
        return {variant: list(container.lines) for variant, container in self.containers.items()}
