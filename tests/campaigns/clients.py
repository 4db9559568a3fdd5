"""Many clients at once, right and wrong: each request gets its status, and no connection of a right one is reset."""

import io
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from campaigns.campaign import Campaign, Case
from sagegate.local.server import MAX_BODY_BYTES, Handler, Model, Server

ECHO = """
def model_fn(folder): return None
def transform_fn(model, body, content_type, accept): return body, content_type
"""
BODIES = [b"1,2", b"", b"\0", b"\xff\xfe", b"[" * 20_000, b"1" + b"0" * 400, b'{"a": NaN}', b"GET /x HTTP/1.1\r\n\r\n"]
KINDS = ["text/csv", "application/json", "x", "text/csv\r\n X: folded", "text/csv; charset=\xfc", ""]
ANSWER = re.compile(rb"HTTP/1\.1 (\d+) [^\r\n]+\r\n(?:[^\r\n]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")


def post(*headers: str, path: str = "/invocations", body: bytes = b"1,2", method: str = "POST") -> bytes:
    """Return a request as bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("latin-1") + body


def right(chance: random.Random, body: bytes, *headers: str) -> bytes:
    """Return a right request, written in one of several ways."""
    length = chance.choice(["Content-Length: {}", "content-length:{}", "Content-Length: {} ", "Content-Length: 0{}"])
    fields = [length.format(len(body)), f"Content-Type: {chance.choice(KINDS)}", *headers]
    fields += [fields[0]] * chance.randrange(2)
    chance.shuffle(fields)
    return post(*fields, body=body)


def wrong(chance: random.Random) -> tuple[bytes, int]:
    """Return a request after which the server closes the connection, and the status of its answer."""
    length = chance.choice(["-1", "+3", "1.5", "\xb2", "3, 3", "", "0x3", "3_0", "3\r\nContent-Length: 4", "3 3"])
    size = chance.choice([10, 1_000_000, 5_000_000])
    long = "x" * 70_000
    return chance.choice(
        [
            (post(f"Content-Length: {length}"), 400),
            (post(), 411),
            (post("Transfer-Encoding: chunked", body=b"3\r\n1,2\r\n0\r\n\r\n"), 411),
            (post("Transfer-Encoding: chunked", "Content-Length: 3"), 411),
            (post(f"Content-Length: {10 ** chance.choice([12, 400])}"), 413),
            (post(f"Content-Length: {MAX_BODY_BYTES + 1}", body=b"x" * size), 413),
            (post("Content-Length: 3", f"X: {long}"), 431),
            (post("Content-Length: 3", *[f"X{number}: 1" for number in range(200)]), 431),
            (post("Content-Length: 3", path=f"/{long}"), 414),
            (post(f"Content-Length: {size}", method=chance.choice(["PUT", "DELETE", "FOO"]), body=b"x" * size), 501),
            (post("Content-Length: 3", method="GET", path="/ping"), 400),
            (b"HELLO\r\n\r\n", 400),
            (b"POST /invocations HTP/1.1\r\n\r\n", 400),
            (b"POST /invocations HTTP/3.0\r\n\r\n", 505),
            (b"\xff\xfe\0\0\r\n\r\n", 400),
        ]
    )


def receive(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Return status and body of each answer until the server closes the connection."""
    received, answers, at = io.BytesIO(), [], 0
    while part := connection.recv(65536):
        received.write(part)
    content = received.getvalue()
    while at < len(content):
        head = ANSWER.match(content, at)
        assert head, f"no answer of HTTP: {content[at : at + 200]!r}"
        at = head.end() + int(head[2])
        assert at <= len(content), "an answer is cut"
        answers.append((int(head[1]), content[head.end() : at]))
    return answers


def talk(port: int, chance: random.Random) -> None:
    """Send requests over one connection, and compare the answers."""
    requests, expected = [], []
    for _ in range(chance.choice([0, 0, 1, 3])):  # before the last one
        body = chance.choice(BODIES)
        requests.append(right(chance, body))
        expected.append((200, body))
        if chance.random() < 0.2:
            requests.append(post("Content-Length: 3", path="/other"))
            expected.append((404, b""))
    is_wrong = chance.random() < 0.5
    if is_wrong:
        request, status = wrong(chance)
        requests.append(request)
        expected.append((status, b""))
        if chance.random() < 0.5:
            requests.append(right(chance, b"never answered"))
    else:
        body = chance.choice([*BODIES, chance.randbytes(300_000), b"x" * MAX_BODY_BYTES])
        requests.append(right(chance, body, "Connection: close"))
        expected.append((200, body))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sent, end = b"".join(requests), chance.random()
        if end < 0.2:  # the client goes away, with or without a reset
            connection.sendall(sent[: chance.randrange(len(sent))])
            if end < 0.1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if end < 0.3:  # a slow client
            cut = sorted(chance.sample(range(len(sent)), 3))
            for start, stop in zip([0, *cut], [*cut, len(sent)], strict=True):
                connection.sendall(sent[start:stop])
                time.sleep(0.05)
        elif end < 0.4 and not is_wrong and len(requests) == 1:
            head, _, body = sent.partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
        else:
            connection.sendall(sent)
        answers = receive(connection)
    found = [(status, body if status == 200 else b"") for status, body in answers]
    assert [status for status, _ in found] == [status for status, _ in expected], (expected[-1][0], sent[:300])
    assert found == expected, "another body"


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: up to 200 clients at once."""
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(ECHO, encoding="utf-8")
    path, timeout, module = list(sys.path), Handler.timeout, sys.modules.pop("inference", None)
    Handler.timeout = 20
    server = Server(0, Model(folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def case(chance: random.Random) -> None:
        clients = [random.Random(chance.getrandbits(64)) for _ in range(chance.choice([1, 5, 20, 200]))]
        with redirect_stderr(io.StringIO()) as printed, ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda client: talk(server.server_port, client), clients))
        assert not printed.getvalue(), printed.getvalue()

    yield case
    server.shutdown()
    thread.join()
    server.server_close()
    sys.path[:], Handler.timeout = path, timeout
    sys.modules.pop("inference")
    sys.modules.update({"inference": module} if module else {})


CAMPAIGN = Campaign("http", "200 clients at once: each gets its status, and no right one is reset", 100, 4, prepare)
