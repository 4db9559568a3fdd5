"""An S3 endpoint on loopback for the boto3 of local jobs: it reads and writes the objects in `.mlops/s3/`.

Only who knows the access key, which is new for each process of sagegate, gets an answer.
"""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import suppress
from typing import Any

from sagegate.local.storage import Store


class S3Endpoint:
    """The endpoint, which starts when a job first asks for its `variables`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.access_key = secrets.token_hex(10)
        self.uploads: dict[str, dict[int, bytes]] = {}  # the parts of multipart uploads
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which boto3 finds the endpoint."""
        with self._lock:
            if self._socket is None:
                self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
                threading.Thread(target=self._serve, args=[self._socket], daemon=True).start()
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._socket.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # else boto3 sends chunks with a trailer
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def close(self) -> None:
        """Stop answering."""
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # ends a waiting accept()
            self._socket.close()

    def _serve(self, listening: socket.socket) -> None:
        # Imported in this thread: it takes longer than the start of a job, and most jobs use no S3.
        from sagegate.local.s3_handler import handler_class

        handler = handler_class(self)

        def answer(connection: socket.socket, address: Any) -> None:
            with connection, suppress(OSError):  # a client may go away
                handler(connection, address, None)  # type: ignore[arg-type]  # the handler uses no server

        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=listening.accept(), daemon=True).start()
