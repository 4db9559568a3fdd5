"""The server: moto's, with the fake's operations, on a loopback port.

`POST /fake/METHOD` with keyword arguments as JSON calls one of CONTROLS, for tests in another process (remote.py).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from fakes import accounts, cloudformation, endpoints, runtime, sagemaker, trust
from fakes.jobs import Fault, Faults
from fakes.pipelines import Service
from fakes.remote import DEFAULT_ACCOUNT, DEFAULT_REGION
from sagegate.files import Json

HOST = "127.0.0.1"
CONTROLS = ("add_fault", "prepare", "forget", "reset")


class Handler(MotoRequestHandler):
    """A handler that logs nothing."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


class FakeAws:
    """The fake AWS of this process: one only, because moto's state belongs to the process."""

    def __init__(self, port: int = 0) -> None:
        """Start on `port`, by default a free one; exits the process if the port is taken."""
        os.environ.pop("MOTO_ACCOUNT_ID", None)  # with it, moto has a single account
        self._faults = Faults()
        self._services: dict[tuple[str, str], Service] = {}
        self._lock = threading.Lock()
        self._server = make_server(HOST, port, self._answer, threaded=True, request_handler=Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._folder = Path(tempfile.mkdtemp(prefix="fake-aws-"))
        accounts.install()
        trust.install()
        sagemaker.install(self)
        endpoints.install()
        runtime.install()
        cloudformation.install(self.url)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake AWS")
        self._thread.start()

    def environment(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
        """Return the variables with which boto3 talks to the fake as an account's administrator."""
        return accounts.credentials(self.url, account_id, region)

    def service(self, account_id: str, region: str) -> Service:
        """Return the pipelines of an account and region."""
        with self._lock:
            if (account_id, region) not in self._services:
                folder, environment = self._folder / account_id / region, self.environment(account_id, region)
                self._services[account_id, region] = Service(folder, account_id, region, environment, self._faults)
            return self._services[account_id, region]

    # --- controls --------------------------------------------------------------------------------------------------
    def add_fault(self, *, log: Iterable[str] = (), **fields: Any) -> None:
        """Make the next attempts of a step fail; `fields` are those of jobs.Fault."""
        self._faults.add(Fault(log=tuple(log), **fields))

    def prepare(self, project: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> str:
        """Create the resources of a project's platform, and return the bucket's name."""
        return accounts.prepare(project, account_id, region)

    def forget(self, pipeline: str, account_id: str, region: str) -> None:
        """Stop a pipeline's executions and delete it."""
        self.service(account_id, region).forget(pipeline)

    def reset(self) -> None:
        """Stop everything that runs, and delete everything."""
        self._stop()
        self._faults = Faults()
        BackendDict.reset()

    def close(self) -> None:
        """Stop the server and everything that runs."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._stop()
        shutil.rmtree(self._folder)

    def _stop(self) -> None:
        endpoints.reset()  # first, so that no stack waits for an endpoint
        cloudformation.wait()
        endpoints.reset()
        with self._lock:
            services, self._services = list(self._services.values()), {}
        for service in services:
            service.close()
            shutil.rmtree(service.state.parent)

    def _answer(self, environ: Json, start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = str(environ["PATH_INFO"]).removeprefix("/fake/")
        if method not in CONTROLS:
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer
        try:
            arguments = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
            status, body = "200 OK", {"result": getattr(self, method)(**arguments)}
        except Exception as error:  # the test must see it, whatever it is
            status, body = "400 Bad Request", {"error": f"{type(error).__name__}: {error}"}
        content = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]
