"""Containers: a process for each endpoint, which serves the model artifact's own inference code.

The process is the package's server (sagegate.local.server), run by this Python, whatever the instance count.
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
from dataclasses import dataclass
from pathlib import Path

from fakes import storage
from sagegate.files import Json

SOURCE = Path(__file__).parents[2] / "src"
SERVE = "import sys; from pathlib import Path; from sagegate.local.server import serve_folder as serve; "
SERVE += "serve(Path(sys.argv[1]), 0, sys.argv[2])"
PING_SECONDS = 60
INVOCATION_SECONDS = 60  # SageMaker's limit for a real-time endpoint


class StartFailed(Exception):
    """The container does not answer /ping."""


@dataclass(frozen=True)
class Answer:
    """A container's answer."""

    status: int
    body: bytes
    content_type: str


@dataclass(frozen=True)
class Definition:
    """A container definition, with a model package's values filled in."""

    model_data_url: str
    environment: dict[str, str]


class Container:
    """A process that serves one artifact for one endpoint configuration."""

    def __init__(self, definition: Definition, config_name: str, config: Json) -> None:
        self.definition = definition
        self.config_name = config_name
        self.config = config  # in the shape of DescribeEndpointConfig
        self.lines: list[str] = []
        self._variant = str(config["ProductionVariants"][0]["VariantName"])
        self._folder = Path(tempfile.mkdtemp(prefix="container-"))
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._started = threading.Event()  # it serves, or has ended
        self._requests = 0
        self._changed = threading.Condition()

    @property
    def variant(self) -> str:
        """The name of the configuration's variant."""
        return self._variant

    def start(self) -> None:
        """Unpack the artifact, start the process and wait for /ping. Raises StartFailed; call `stop` then, too."""
        failed = f"The primary container for production variant {self._variant} did not pass the ping health check. "
        failed += "Please check CloudWatch logs for this endpoint."
        model = self._folder / "model"
        model.mkdir()
        url = self.definition.model_data_url
        try:
            with tarfile.open(fileobj=io.BytesIO(storage.read(url))) as tar:
                tar.extractall(model, filter="data")
        except (storage.NoSuchObject, tarfile.TarError) as error:
            raise StartFailed(f"Failed to download model data for container from URL: {url}. {error}") from None
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"PYTHONPATH": str(SOURCE), "SM_MODEL_DIR": str(model), "PYTHONUNBUFFERED": "1"}
        environment |= self.definition.environment
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(model), self._variant],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=self._folder,
        )
        threading.Thread(target=self._read_output, name=f"log of {self._variant}", daemon=True).start()
        if not self._started.wait(PING_SECONDS) or not self._port or not self._ping():
            raise StartFailed(failed)

    def _read_output(self) -> None:
        assert self._process and self._process.stdout
        with self._process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip())
                if not self._port and line.startswith("serving "):
                    self._port = int(line.partition("127.0.0.1:")[2].split()[0])
                    self._started.set()
        self._started.set()

    def _ping(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def enter(self) -> None:
        """Count a request, so that `stop` waits for its end."""
        with self._changed:
            self._requests += 1

    def leave(self) -> None:
        """Note the end of a request."""
        with self._changed:
            self._requests -= 1
            self._changed.notify_all()

    def invoke(self, body: bytes, headers: dict[str, str]) -> Answer:
        """POST /invocations. The answer is 500 if the container is gone or too slow, as SageMaker's is."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=INVOCATION_SECONDS)
        try:
            connection.request("POST", "/invocations", body, headers)
            response = connection.getresponse()
            kind = response.getheader("Content-Type") or "application/octet-stream"
            return Answer(response.status, response.read(), kind)
        except (OSError, http.client.HTTPException) as error:
            return Answer(500, f"the container did not answer: {error}".encode(), "text/plain")
        finally:
            connection.close()

    def stop(self) -> None:
        """Wait for requests in flight, then end the process."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests == 0, INVOCATION_SECONDS)
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
