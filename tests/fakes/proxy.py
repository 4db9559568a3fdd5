"""A reverse proxy that makes the network unreliable, in the same way each time for the same seed.

It throttles some calls as AWS does, and resets the connection of others before or after the backend has answered. After
a reset the caller cannot know whether the call was carried out, and repeats it. A test may override `fate`, for example
to let credentials expire.
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

Response = tuple[int, list[tuple[str, str]], bytes]  # status, headers, body
# By fate: the code of JSON services, of query services, status and code of S3, and the message.
ERRORS = {
    "throttle": ("ThrottlingException", "Throttling", (503, "SlowDown"), "Rate exceeded"),
    "expired": ("ExpiredTokenException", "ExpiredToken", (400, "ExpiredToken"), "The security token has expired"),
}
NOT_SENT = ("connection", "transfer-encoding", "content-length", "expect")
NOT_ANSWERED = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")


@dataclass(frozen=True)
class Weather:
    """The share of the calls that are throttled or reset, or whose answer is cut off."""

    throttle: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0
    truncate: float = 0.0

    def draw(self, chance: random.Random) -> str:
        """Return the fate of a call: `throttle`, `reset_before`, `reset_after`, `truncate` or `pass`."""
        drawn = chance.random()
        for name in ("throttle", "reset_before", "reset_after", "truncate"):
            drawn -= float(getattr(self, name))
            if drawn < 0:
                return name
        return "pass"


class Proxy:
    """A proxy at `url` in front of `backend`. `counts` has the number of calls by fate."""

    def __init__(self, backend: str, weather: Weather, seed: int = 0) -> None:
        self.weather = weather
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._backend = urlsplit(backend)
        self._server = Server(("127.0.0.1", 0), handler_class(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop the proxy."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fate(self, operation: str) -> str:
        """Return the fate of the next call, which is `expired` or one of Weather.draw's, and count it."""
        with self._lock:
            drawn = self.weather.draw(self._chance)
            self.counts[drawn] += 1
            return drawn

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        """Send a call to the backend, and return its answer."""
        connection = http.client.HTTPConnection(str(self._backend.hostname), self._backend.port, timeout=600)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class Server(ThreadingHTTPServer):
    """The HTTP server."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a caller that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection: with RST if its linger time was set, else with FIN."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER):
            request.close()
        else:
            super().shutdown_request(request)


def handler_class(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    """Return the handler of a proxy's connections."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            body = read_body(self)
            fate = proxy.fate(operation_of(self, body))
            if fate in ERRORS:
                return self.answer(error(self, fate))
            if fate == "reset_before":
                return self.reset()
            headers = {key: value for key, value in self.headers.items() if key.lower() not in NOT_SENT}
            headers["Content-Length"] = str(len(body))
            answer = proxy.forward(self.command, self.path, headers, body)
            return self.reset() if fate == "reset_after" else self.answer(answer, is_whole=fate != "truncate")

        def answer(self, answer: Response, is_whole: bool = True) -> None:
            status, headers, content = answer
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in NOT_ANSWERED:
                    self.send_header(name, value)
            length = next((v for k, v in headers if k.lower() == "content-length"), str(len(content)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content if is_whole else content[: len(content) // 2])
            self.close_connection = self.close_connection or not is_whole

        def reset(self) -> None:
            # Closing a connection with a linger time of zero sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = relay

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """Read a request's body, which may be chunked."""
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    while handler.rfile.readline().strip():  # trailers
        pass
    return b"".join(parts)


def operation_of(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    """Return a call's operation, or its method and service, such as `PUT s3`."""
    if target := handler.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if handler.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode())["Action"][0]
    if handler.path.endswith("/invocations"):
        return "InvokeEndpoint"
    return f"{handler.command} {service_of(handler)}"


def service_of(handler: BaseHTTPRequestHandler) -> str:
    """Return the service that a call is signed for."""
    scope = handler.headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    return scope[3] if len(scope) > 3 else "unsigned"


def error(handler: BaseHTTPRequestHandler, fate: str) -> Response:
    """Return an error in the form of the service's protocol."""
    json_code, query_code, s3, message = ERRORS[fate]
    if handler.headers.get("X-Amz-Target") or handler.path.endswith("/invocations"):
        content = json.dumps({"__type": json_code, "message": message}).encode()
        return 400, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", json_code)], content
    if service_of(handler) == "s3":
        content = f"<Error><Code>{s3[1]}</Code><Message>{message}</Message></Error>".encode()
        return s3[0], [("Content-Type", "application/xml")], content
    xml = f"<ErrorResponse><Error><Code>{query_code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return 400, [("Content-Type", "text/xml")], xml.encode()
