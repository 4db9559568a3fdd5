"""A fake of OSV, the database of vulnerabilities that `uv audit` queries.

Source: osv.dev's API, "POST /v1/querybatch" and "GET /v1/vulns/ID".
"""

from __future__ import annotations

from fakes.json_server import Json, JsonServer

MODIFIED = "2026-01-01T00:00:00Z"


class Osv(JsonServer):
    """A running fake. `known` maps a package to a vulnerability; `asked` are the packages that were queried."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, str] = {}
        self.asked: list[str] = []

    def answer(self, method: str, url: str, authorization: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        """Return status, body and headers for a request."""
        if method == "GET":
            identifier = url.rpartition("/")[2]
            return 200, {"id": identifier, "summary": "planted", "modified": MODIFIED, "affected": []}, {}
        names = [query["package"]["name"] for query in body["queries"]]
        self.asked += names
        found = [{"vulns": [{"id": self.known[n], "modified": MODIFIED}]} if n in self.known else {} for n in names]
        return 200, {"results": found}, {}
