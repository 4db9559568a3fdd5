"""A model's artifact behind HTTP, as SageMaker's container serves it: GET /ping and POST /invocations.

The model is loaded by the inference code inside the artifact, through its four functions. Source: "Use Your Own
Inference Code with Hosting Services" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sagegate.errors import USAGE, SagegateError

LIMIT = 6 * 1024 * 1024  # bytes; the largest body that a SageMaker real-time endpoint takes


class BadRequest(Exception):
    """The request cannot be read, or asks for an answer that is not to be had."""


class Model:
    """A loaded model and the functions that answer for it."""

    def __init__(self, folder: Path) -> None:
        code = folder / "code"
        if not (code / "inference.py").is_file():
            raise SagegateError("the artifact has no code/inference.py: model/train.py must put it there")
        os.environ["SM_MODEL_DIR"] = str(folder)
        sys.path.insert(0, str(code))
        self.code: ModuleType = import_module("inference")
        self.model = self.code.model_fn(str(folder))

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """A request's body -> the response's body and content type; raises BadRequest if it cannot be read."""
        try:
            rows = self.code.input_fn(body, content_type)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        predicted = self.code.predict_fn(rows, self.model)  # a ValueError here is the model's fault, not the caller's
        try:
            output = self.code.output_fn(predicted, accept)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        content, kind = output if isinstance(output, tuple) else (output, accept)
        return content.encode() if isinstance(content, str) else bytes(content), kind


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """/ping: the model is loaded."""
        if self.path == "/ping":
            self._send(200, b"", "text/plain")
        else:
            self._error(404, f"{self.path}: there are /ping and /invocations")

    def do_POST(self) -> None:
        """/invocations: predict."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/invocations":
            self._error(404, f"{self.path}: there are /ping and /invocations")
        elif length > LIMIT:
            self.close_connection = True
            self._error(413, f"the body has {length} bytes: an endpoint takes at most {LIMIT}")
        else:
            self._predict(self.rfile.read(length))

    def _predict(self, body: bytes) -> None:
        content_type = (self.headers.get("Content-Type") or "text/csv").partition(";")[0].strip()
        accept = (self.headers.get("Accept") or "application/json").partition(";")[0].strip()
        accept = "application/json" if accept == "*/*" else accept
        try:
            content, kind = self.server.model.answer(body, content_type, accept)
        except BadRequest as error:
            self._error(400, str(error))
        except Exception as error:  # a fault in the user's inference code is answered, not fatal, as in the container
            self._error(500, f"{type(error).__name__}: {error}")
        else:
            self._send(200, content, kind)

    def _error(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """One line per request, on standard error."""
        if not self.server.is_quiet:
            print(f"{self.address_string()} {format % args}", file=sys.stderr)


class Server(ThreadingHTTPServer):
    """Serves one model on the loopback interface."""

    daemon_threads = True

    def __init__(self, port: int, model: Model) -> None:
        self.model = model
        self.is_quiet = True
        super().__init__(("127.0.0.1", port), Handler)


def serve_folder(folder: Path, port: int, title: str, test: Callable[[str], bool] | None = None) -> None:
    """Serve the unpacked artifact in `folder` until SIGINT or SIGTERM; port 0 takes a free one.

    `test` is called with the URL once it answers; it raises, or returns whether to go on serving.
    """
    model = Model(folder)
    try:
        server = Server(port, model)
    except OSError as error:
        raise SagegateError(f"port {port}: {error.strerror}: choose another with --port", USAGE) from None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="serve")
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        if test is None or test(url):
            server.is_quiet = False
            print(f"serving {title} on {url} (Ctrl-C stops)", flush=True)
            ended.wait()
            print("stopped")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
