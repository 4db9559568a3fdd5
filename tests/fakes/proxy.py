"""A reverse proxy that makes a network bad, in the same way each time for the same seed.

Some calls it answers itself as AWS does when it throttles; of some it resets the connection, before or after the
backend has done what was asked. (After: the caller cannot know that it was done, and will ask again.) A test may also
let credentials be expired, by a `fate` of its own.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# By protocol: JSON's code, query's code, S3's status and code; the message.
THROTTLED = ("ThrottlingException", "Throttling", (503, "SlowDown"), "Rate exceeded")
EXPIRED = ("ExpiredTokenException", "ExpiredToken", (400, "ExpiredToken"), "The security token has expired")
HOPS = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH")


@dataclass(frozen=True)
class Weather:
    """How often each thing happens, as fractions of all calls."""

    throttle: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0

    def draw(self, chance: random.Random) -> str:
        """What happens to a call: `throttle`, `reset_before`, `reset_after` or `pass`."""
        drawn = chance.random()
        for name in ("throttle", "reset_before", "reset_after"):
            drawn -= float(getattr(self, name))
            if drawn < 0:
                return name
        return "pass"


class Proxy:
    """A proxy before `backend`, at `.url`. `.counts` is what it did, `.calls` what it did by operation."""

    def __init__(self, backend: str, weather: Weather, seed: int = 0) -> None:
        """Start on a free loopback port."""
        self.weather = weather
        self.counts: Counter[str] = Counter()
        self.calls: Counter[tuple[str, str]] = Counter()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._backend = urlsplit(backend)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fate(self, operation: str) -> str:
        """What happens to the next call; counted."""
        with self._lock:
            drawn = self.weather.draw(self._chance)
            self.counts[drawn] += 1
            self.calls[operation, drawn] += 1
            return drawn

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the backend: status, headers and body of its answer."""
        connection = http.client.HTTPConnection(str(self._backend.hostname), self._backend.port, timeout=600)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed is not an error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection: with FIN, or with RST if it was made to linger for no time."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER):
            request.close()
        else:
            super().shutdown_request(request)


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One call."""

        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            """Pass the call on, or do to it what was drawn."""
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            body = _body(self)
            target = self.headers.get("X-Amz-Target", "")
            fate = proxy.fate(_operation(self, target, body))
            is_json = bool(target) or self.path.endswith("/invocations")
            if fate == "throttle":
                return self.answer(*_refused(self, is_json, *THROTTLED))
            if fate == "expired":
                return self.answer(*_refused(self, is_json, *EXPIRED))
            if fate == "reset_before":
                return self.reset()
            sent = {
                k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding", "expect")
            }
            sent["Content-Length"] = str(len(body))
            answered = proxy.forward(self.command, self.path, sent, body)
            if fate == "reset_after":
                return self.reset()
            return self.answer(*answered)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            """Send an answer."""
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOPS:
                    self.send_header(name, value)
            length = next((v for k, v in headers if k.lower() == "content-length"), str(len(content)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def reset(self) -> None:
            """End the connection with RST: closing one with a linger time of zero sends it."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    for method in METHODS:
        setattr(Handler, f"do_{method}", Handler.relay)
    return Handler


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    while handler.rfile.readline().strip():  # trailers
        pass
    return b"".join(parts)


def _operation(handler: BaseHTTPRequestHandler, target: str, body: bytes) -> str:
    """The call's operation as far as its form tells: by header, in a form's body, by path; else as in `PUT s3`."""
    if target:
        return target.rpartition(".")[2]
    if handler.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode())["Action"][0]
    if handler.path.endswith("/invocations"):
        return "InvokeEndpoint"
    return f"{handler.command} {_service(handler)}"


def _service(handler: BaseHTTPRequestHandler) -> str:
    """The service that a call is signed for."""
    scope = handler.headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    return scope[3] if len(scope) > 3 else "unsigned"


def _refused(
    handler: BaseHTTPRequestHandler, is_json: bool, json_code: str, query_code: str, s3: tuple[int, str], message: str
) -> tuple[int, list[tuple[str, str]], bytes]:
    """An error in the form of the service's protocol."""
    if is_json:
        content = json.dumps({"__type": json_code, "message": message}).encode()
        return 400, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", json_code)], content
    if _service(handler) == "s3":
        content = f"<Error><Code>{s3[1]}</Code><Message>{message}</Message></Error>".encode()
        return s3[0], [("Content-Type", "application/xml")], content
    told = f"<Code>{query_code}</Code><Message>{message}</Message>"
    return 400, [("Content-Type", "text/xml")], f"<ErrorResponse><Error>{told}</Error></ErrorResponse>".encode()
