"""Serve a model's artifact over HTTP, like SageMaker's container: GET /ping and POST /invocations.

The inference code inside the artifact loads the model by `model_fn` and answers by `transform_fn`, or by `input_fn`,
`predict_fn` and `output_fn`. Source: the container's own `serving.py`, and "Use Your Own Inference Code with Hosting
Services" in the SageMaker developer guide.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sagegate.errors import USAGE, SagegateError

MAX_BODY_BYTES = 6 * 1024 * 1024  # the largest body that a SageMaker real-time endpoint accepts
SECONDS_OF_SILENCE = 30  # after these without a byte from a client its connection is closed


class Model:
    """A loaded model with its inference code."""

    def __init__(self, folder: Path) -> None:
        code = folder / "code"
        if not (code / "inference.py").is_file():
            raise SagegateError("the artifact has no code/inference.py: model/train.py must put it there")
        os.environ["SM_MODEL_DIR"] = str(folder)
        sys.path.insert(0, str(code))
        self.code: ModuleType = import_module("inference")
        self.model = self.code.model_fn(str(folder))

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the body and content type of the response to a request."""
        if hasattr(self.code, "transform_fn"):
            output = self.code.transform_fn(self.model, body, content_type, accept)
        else:
            rows = self.code.input_fn(body, content_type)
            output = self.code.output_fn(self.code.predict_fn(rows, self.model), accept)
        content, kind = output if isinstance(output, tuple) else (output, accept)
        return content.encode() if isinstance(content, str) else bytes(content), kind


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    timeout = SECONDS_OF_SILENCE
    # Buffered: in two parts, the second waits 40 ms for the client's delayed acknowledgement of the first.
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer /ping: the model is loaded."""
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            self._refuse(400, "send a GET without a body")
        elif self.path == "/ping":
            self._send(200, b"", "text/plain")
        else:
            self._send_error(404, f"{self.path}: there are /ping and /invocations")

    def do_POST(self) -> None:
        """Answer /invocations with predictions."""
        lengths = [length.strip(" \t") for length in self.headers.get_all("Content-Length", [])]
        if self.headers.get("Transfer-Encoding") or not lengths:
            self._refuse(411, "send the body's Content-Length, and no Transfer-Encoding")
        elif len(set(lengths)) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            self._refuse(400, f"Content-Length is {', '.join(lengths)[:100]!r}: send one number")
        elif len(lengths[0]) > 12 or int(lengths[0]) > MAX_BODY_BYTES:
            self._refuse(413, f"the body has {lengths[0][:100]} bytes: an endpoint accepts at most {MAX_BODY_BYTES}")
        elif len(body := self.rfile.read(int(lengths[0]))) < int(lengths[0]):
            self.close_connection = True  # the client went away
        elif self.path != "/invocations":
            self._send_error(404, f"{self.path}: there are /ping and /invocations")
        else:
            self._predict(body)

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to send the body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not a request. The base class answers a broken first line without a status."""
        self.request_version = self.protocol_version
        self._refuse(code, message or HTTPStatus(code).phrase)

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request whose body is not read, and close the connection: what follows on it is not a request."""
        self.close_connection = True
        self._send_error(status, message)
        # The client may still send. Closing at once would reset the connection before it has read the answer.
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(1000):
                if not self.rfile.read1(65536):
                    break

    def _predict(self, body: bytes) -> None:
        accept = self._media_type("Accept", "application/json")
        accept = "application/json" if accept == "*/*" else accept
        try:
            content, kind = self.server.model.answer(body, self._media_type("Content-Type", "application/json"), accept)
        except Exception as error:  # an error of the inference code must not end the server, as in the container
            status = getattr(error, "status", None)
            if isinstance(status, int) and 400 <= status < 500:  # other libraries' errors have one of other kinds
                self._send_error(status, str(error))
            else:
                self._send_error(500, f"{type(error).__name__}: {error}")
        else:
            self._send(200, content, kind)

    def _media_type(self, header: str, default: str) -> str:
        value = " ".join(self.headers.get(header, "").partition(";")[0].split())  # it may be folded into two lines
        return value or default

    def _send_error(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: a request's answer says what is wrong with it."""


class Server(ThreadingHTTPServer):
    """An HTTP server for one model, on the loopback interface."""

    daemon_threads = True
    request_queue_size = 512  # connections that wait to be accepted

    def __init__(self, port: int, model: Model) -> None:
        self.model = model
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error's traceback, unless it is only that the client went away or is silent."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def serve_folder(folder: Path, port: int, title: str, test: Callable[[str], bool] | None = None) -> None:
    """Serve the unpacked artifact in `folder` until SIGINT or SIGTERM; port 0 picks a free one.

    `test` gets the URL of the running server and returns False to end it. Raises SagegateError if the port is taken.
    """
    model = Model(folder)
    try:
        server = Server(port, model)
    except OSError as error:
        raise SagegateError(f"port {port}: {error.strerror}: choose another with --port", USAGE) from None
    # Python itself writes to the pipe when a signal comes. A handler runs in this thread only, which would not wake up
    # if another thread got the signal; nor may one take a lock that the interrupted code holds, as Event.set does.
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="serve")
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        if test is None or test(url):
            print(f"serving {title} on {url} (Ctrl-C stops)", flush=True)
            os.read(wake, 1)
            print("stopped")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
