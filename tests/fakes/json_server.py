"""A server of JSON on a loopback port, for the fakes of GitHub and OSV."""

from __future__ import annotations

import json
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Json = Any


class JsonServer:
    """A running server; a subclass answers its requests."""

    def __init__(self) -> None:
        """Start on a free port."""
        answer = self.answer
        self.headers: list[Message] = []  # of each request
        seen = self.headers

        class Handler(BaseHTTPRequestHandler):
            def any(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(content) if content else None
                seen.append(self.headers)
                status, result, headers = answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                text = b"" if result is None else json.dumps(result).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = any

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def answer(self, method: str, url: str, authorization: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        """Return status, body and headers for a request."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
