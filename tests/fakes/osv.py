"""A fake of OSV, the database of vulnerabilities that `uv audit` queries.

Source: osv.dev's API, "POST /v1/querybatch" and "GET /v1/vulns/ID".
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sagegate.files import Json


class Osv:
    """A running fake. `known` maps a package to a vulnerability; `asked` are the packages that were queried."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked: list[str] = []
        osv = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                names = [query["package"]["name"] for query in body["queries"]]
                osv.asked += names
                self._say({"results": [osv.result(name) for name in names]})

            def do_GET(self) -> None:
                identifier = self.path.rpartition("/")[2]
                self._say({"id": identifier, "summary": "planted", "modified": "2026-01-01T00:00:00Z", "affected": []})

            def _say(self, body: Json) -> None:
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def result(self, name: str) -> Json:
        """Return the result for a package."""
        return {"vulns": [{"id": self.known[name], "modified": "2026-01-01T00:00:00Z"}]} if name in self.known else {}

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
