"""The server: moto's, with the fake's operations, in threads of this process, on a loopback port.

`POST /fake/faults`, `/fake/prepare`, `/fake/settings`, `/fake/forget` and `/fake/reset` let another
process (a test, by remote.py) do what a test in this process does by method.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from fakes import accounts, calls, enforcement, policies, prepare, quotas
from fakes.accounts import DEFAULT_ACCOUNT, DEFAULT_REGION
from fakes.faults import Fault, Faults
from fakes.service import Service
from sagegate.files import Json

EXTENSIONS = ("fakes.endpoints",)  # each has install(fake_aws) and close()
HOST = "127.0.0.1"


class Handler(MotoRequestHandler):
    """Says nothing about requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


class FakeAws:
    """A running fake for AWS. One at a time in a process, because moto's state is the process's."""

    _running: FakeAws | None = None

    def __init__(self, port: int = 0) -> None:
        """Start on `port`, a free one by default; raises OSError for a port that is taken."""
        if FakeAws._running:
            raise RuntimeError("a fake runs in this process: close it before starting another")
        os.environ.pop("MOTO_ACCOUNT_ID", None)  # it would make all accounts one
        self.faults = Faults()
        self.check_roles = self.enforce = False
        self._services: dict[tuple[str, str], Service] = {}
        self._lock = threading.Lock()
        moto = DomainDispatcherApplication(create_backend_app)

        def application(environ: Json, start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"].startswith("/fake/"):
                return self._control(environ, start_response)
            answer: Iterable[bytes] = moto(environ, start_response)
            return answer

        with socket.create_server((HOST, port)) as bound:  # werkzeug ends the process where a port is taken
            number, fd = bound.getsockname()[1], bound.fileno()
            self._server = make_server(HOST, number, application, threaded=True, request_handler=Handler, fd=fd)
        self.url = f"http://{HOST}:{number}"
        self.folder = Path(tempfile.mkdtemp(prefix="fake-"))
        self._undo = [accounts.install(), calls.install(self), policies.install(), quotas.install()]
        self._undo.append(enforcement.install(self))
        self._extensions = [import_module(name) for name in EXTENSIONS if find_spec(name)]
        for extension in self._extensions:
            extension.install(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake")
        self._thread.start()
        FakeAws._running = self

    def environment(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
        """The variables to export to talk to it as an account."""
        return accounts.environment(self.url, account_id, region)

    def service(self, account_id: str, region: str) -> Service:
        """The pipelines of an account and region."""
        with self._lock:
            if (account_id, region) not in self._services:
                folder = self.folder / account_id / region
                environment = self.environment(account_id, region)
                self._services[account_id, region] = Service(folder, account_id, region, environment, self.faults)
            service = self._services[account_id, region]
        service.check_roles = self.check_roles
        return service

    def add_fault(self, step: str, reason: str, **more: Any) -> None:
        """Let the next attempt of a step fail; the fields are those of faults.Fault."""
        self.faults.add(Fault.of({"step": step, "reason": reason, **more}))

    def prepare(self, project: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> str:
        """Make what a project's platform stack makes before a run: the bucket and the roles; the bucket's name."""
        return prepare.project(project, account_id, region)

    def set_check_roles(self, check: bool) -> None:
        """Whether jobs need roles that exist and trust SageMaker."""
        self.check_roles = check

    def set_enforce(self, enforce: bool) -> None:
        """Whether sessions of roles may do only what the roles' policies allow (enforcement.py)."""
        self.enforce = enforce

    def forget(self, pipeline: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> None:
        """Delete a pipeline although it runs, as someone who stops its executions first would."""
        self.service(account_id, region).forget(pipeline)

    def reset(self) -> None:
        """End what runs and forget everything."""
        self._end_services()
        for extension in self._extensions:
            extension.close()
            extension.install(self)
        self.faults.clear()
        self.check_roles = self.enforce = False
        BackendDict.reset()

    def close(self) -> None:
        """End what runs, then the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for extension in self._extensions:
            extension.close()
        self._end_services()
        for undo in reversed(self._undo):
            undo()
        shutil.rmtree(self.folder)
        FakeAws._running = None

    def _end_services(self) -> None:
        with self._lock:
            services, self._services = list(self._services.values()), {}
        for service in services:
            service.close()
            shutil.rmtree(service.state.parent)

    def _control(self, environ: Json, start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
            answer = self._do(environ["PATH_INFO"].removeprefix("/fake/"), asked)
            status, body = "200 OK", {"result": answer}
        except Exception as error:  # the test that asked must see it, whatever it is
            status, body = "400 Bad Request", {"error": f"{type(error).__name__}: {error}"}
        content = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    def _do(self, what: str, asked: Json) -> Any:
        if what == "faults":
            return self.add_fault(**asked)
        if what == "prepare":
            return self.prepare(**asked)
        if what == "forget":
            return self.forget(**asked)
        if what == "settings":
            self.set_check_roles(bool(asked.get("check_roles", self.check_roles)))
            return self.set_enforce(bool(asked.get("enforce", self.enforce)))
        if what == "reset":
            return self.reset()
        raise ValueError(f"there is no /fake/{what}: there are faults, prepare, forget, settings and reset")
