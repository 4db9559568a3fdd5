"""A fork server: a process that imports the libraries of the jobs once and runs each command in a fork of itself.

Usage: `python fork_server.py FD LIBRARY...`. FD is a Unix socket; each message on it carries one end of a socket pair,
and that pair serves one command: the request comes in as a JSON line; the process id, then the exit code go out.
A script's exit code is known before its process is gone: the kernel takes milliseconds to free the libraries' memory.
When the other end of a pair closes, its process is killed, or does not start. When the other end of FD closes, the
server kills every process that it started and ends; SIGTERM makes it do so in the middle of an import.

The file runs as a script and imports only the standard library, so that jobs see nothing of the package.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil  # noqa: F401 - runpy imports it when a script starts; here it is imported once
import runpy
import select
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

Json = dict[str, Any]
NUMBER = struct.Struct("=i")  # a process id or an exit code
ENDED = struct.Struct("=ii")  # both, which a fork writes when its script has ended


def end_group(leader: int) -> None:
    """Kill a process and all that it started, if they are still there."""
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids to signal a group that has only a dead leader
        os.killpg(leader, signal.SIGKILL)


def serve(server: socket.socket, libraries: list[str]) -> tuple[Json, int] | None:
    """Answer requests until the other end closes. Return None then.

    In each fork, return its request and the file descriptor on which it says that its script has ended.

    A job starts as soon as the libraries of its own script are imported; the others follow while it runs.
    """
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # see `_import`
    ended, ended_write = os.pipe()
    inputs: list[socket.socket | int] = [server, wake, ended]
    running: dict[int, socket.socket] = {}

    def end(*_: object) -> None:
        for pid in running:
            end_group(pid)
        os._exit(0)

    while True:
        ready, _, _ = select.select([*inputs, *running.values()], [], [], 0 if libraries else None)
        for pid in [pid for pid, connection in running.items() if connection in ready]:
            end_group(pid)
            running.pop(pid).close()
        if ended in ready:
            for pid, code in ENDED.iter_unpack(os.read(ended, ENDED.size * 64)):
                _report(running, pid, code)
        if wake in ready:
            os.read(wake, 4096)
            for pid, code in _reap():
                _report(running, pid, code)
        if server in ready:
            _, descriptors, _, _ = socket.recv_fds(server, 1, 1)
            connection = socket.socket(fileno=descriptors[0]) if descriptors else None
            line = connection.makefile("rb").readline() if connection else b""
            if not connection or not line.endswith(b"\n"):  # the other end was killed
                break
            request: Json = json.loads(line)
            for library in request["libraries"]:
                _import(library, end)
            if _is_closed(connection):
                connection.close()
                continue
            gc.freeze()
            # Python 3.12 warns if a library has started threads; those of the container's libraries survive a fork.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGCHLD, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                for descriptor in (wake, wake_write, ended):
                    os.close(descriptor)
                for other in (server, connection, *running.values()):
                    other.close()
                return request, ended_write
            with suppress(PermissionError, ProcessLookupError):  # the fork does the same: whichever comes first
                os.setpgid(pid, pid)
            running[pid] = connection
            _send(connection, pid)
        elif libraries:
            _import(libraries.pop(0), end)
    for pid in running:
        end_group(pid)
    return None


def _reap() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):  # no child is left
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            yield child[0], os.waitstatus_to_exitcode(child[1])


def _report(running: dict[int, socket.socket], pid: int, code: int) -> None:
    if pid in running:  # else its script has said so already
        end_group(pid)  # what the job left running in the background ends with it, as in a container
        with running.pop(pid) as connection:
            _send(connection, code)


def _send(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the other end may be gone; then `serve` ends
        connection.sendall(NUMBER.pack(number))


def _is_closed(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return False


def _import(library: str, end: Callable[..., None]) -> None:
    """Import a library. SIGTERM calls `end` only here: elsewhere `serve` sees that the other end has closed."""
    signal.signal(signal.SIGTERM, end)
    with suppress(Exception):  # the script that needs the library then fails with the message, in its own log
        importlib.import_module(library)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(request: Json) -> int:
    """Turn this fork into the command of a request and run it. Return the exit code."""
    os.setpgid(0, 0)
    gc.enable()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    argv = request["argv"]
    if not request["is_script"]:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; a command expects the default
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
            return 127
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # or prints would follow a traceback
    sys.argv = argv
    sys.path[:0] = [os.path.dirname(argv[0]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return _run_script(argv[0])


def _run_script(script: str) -> int:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != script:  # leave out the frames of this file and of runpy
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1
    return 0


def flush_files() -> bool:
    """Write out the buffers of standard output, and of every file that the script left open.

    Return False if standard output could not be written. `gc.get_objects` lists only what was made since `gc.freeze`.
    """
    for thing in [sys.__stdout__, sys.__stderr__, *gc.get_objects()]:
        if issubclass(type(thing), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(Exception):
                thing.flush()
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream and not stream.closed:
                stream.flush()
        except Exception:
            whole = False
    return whole


def main() -> None:
    """Serve; in a fork, run the command and leave with its exit code.

    A fork ends by `os._exit` after all exit handlers, because taking down the imported libraries takes a tenth of a
    second. The first handler that is registered runs last.
    """
    exit_code, ended, pid = 1, -1, 0

    def leave() -> None:
        code = exit_code if flush_files() else 120  # 120 is what Python gives when it cannot write its output
        if pid == os.getpid():  # not in a fork that the script made
            with suppress(OSError):  # the server may be gone
                os.write(ended, ENDED.pack(pid, code))
        os._exit(code)

    atexit.register(leave)
    del sys.path[0]  # this file's folder: a library must not import a module of the package by accident
    gc.disable()  # imports allocate many long-lived objects: collecting among them only takes time
    if fork := serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]):
        request, ended = fork
        pid = os.getpid()
        exit_code = run(request)
    else:
        exit_code = 0


if __name__ == "__main__":
    main()
