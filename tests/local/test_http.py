"""The local server's HTTP: each wrong request gets its status, and no connection is reset."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from sagegate.local.server import MAX_BODY_BYTES, Handler, Model, Server

ECHO = """
def model_fn(folder): return None
def transform_fn(model, body, content_type, accept): return body, content_type
"""
ROW = b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\n1,2"


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve a model that answers with the request."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(ECHO, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "inference", raising=False)
    monkeypatch.setattr(Handler, "timeout", 1)
    server = Server(0, Model(tmp_path))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
    sys.modules.pop("inference", None)


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def post(*headers: str, path: str = "/invocations", body: bytes = b"1,2", method: str = "POST") -> bytes:
    """Return a request as bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post("Content-Length: 3", "Connection: close"), 200),
        (post("Content-Length: 3", "Content-Length: 3", "Connection: close"), 200),
        (post("Content-Length: 3 ", "Connection: close"), 200),
        (post("Content-Length: 3", "Connection: close", "Content-Type: text/csv\r\n X: y"), 200),
        (post("Content-Length: 3", method="GET", path="/ping"), 400),
        (b"HELLO\r\n\r\n", 400),
        (post("Content-Length: 5000000", method="PUT", body=b"x" * 5_000_000), 501),
        (post("Content-Length: 3", path="/other"), 404),
        (post("Content-Length: -1"), 400),
        (post("Content-Length: +3"), 400),
        (post("Content-Length: 1.5"), 400),
        (post("Content-Length: \xb2"), 400),
        (post("Content-Length: 3, 3"), 400),
        (post("Content-Length: 3", "Content-Length: 4"), 400),
        (post("Content-Length: "), 400),
        (post(), 411),
        (post("Transfer-Encoding: chunked", body=b"3\r\n1,2\r\n0\r\n\r\n"), 411),
        (post("Transfer-Encoding: chunked", "Content-Length: 3"), 411),
        (post(f"Content-Length: {10**400}"), 413),
        (post(f"Content-Length: {MAX_BODY_BYTES + 1}", body=b"x" * (MAX_BODY_BYTES + 1)), 413),
        (post("Content-Length: 3", "X: " + "x" * 70000), 431),
        (b"DELETE /invocations HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_each_request_gets_its_status(port: int, capfd: pytest.CaptureFixture[str], sent: bytes, status: int) -> None:
    assert exchange(port, sent).startswith(b"HTTP/1.1 %d " % status)
    assert "Traceback" not in capfd.readouterr().err


def test_requests_in_one_packet_are_answered_in_order_until_one_is_wrong(port: int) -> None:
    received = exchange(port, ROW + ROW.replace(b"1,2", b"3,4") + post("Content-Length: x") + ROW)
    assert received.count(b"HTTP/1.1 200") == 2 and received.count(b"HTTP/1.1 400") == 1
    assert received.index(b"1,2") < received.index(b"3,4") < received.index(b"HTTP/1.1 400")


def test_a_client_that_waits_for_a_100_gets_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(post("Content-Length: 3", "Expect: 100-continue", body=b""))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_silent_client_is_let_go(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert exchange(port, ROW[:-1]) == b""
    assert exchange(port, b"POST /invoc") == b""
    assert "Traceback" not in capfd.readouterr().err


def test_two_hundred_clients_at_once_all_get_their_answer(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    def ask(number: int) -> bytes:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/invocations", str(number).encode(), {"Content-Type": "text/csv"})
        answer = connection.getresponse().read()
        connection.close()
        return answer

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(1000))) == [str(number).encode() for number in range(1000)]
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_stops_however_many_signals_arrive(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(ECHO, encoding="utf-8")
    code = "import sys; from pathlib import Path; from sagegate.local import server; "
    command = [sys.executable, "-c", code + "server.serve_folder(Path(sys.argv[1]), 0, 'a model')", str(tmp_path)]
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and "serving a model" in process.stdout.readline()
            for number in [signal.SIGTERM, signal.SIGINT] * 500:
                process.send_signal(number)
            try:
                assert process.communicate(timeout=20)[0] == "stopped\n"
            finally:
                process.kill()
        assert process.returncode == 0
