"""A fork server: a process that imports the libraries of the jobs once and runs each command in a fork of itself.

Usage: `python fork_server.py FD LIBRARY...`. FD is a Unix socket; each message on it carries one end of a socket pair,
and that pair serves one command: the request comes in as a JSON line; the process id, then the exit code go out.
When the other end of FD closes, the server kills every process that it started and ends.

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
from contextlib import suppress
from typing import Any

Json = dict[str, Any]
NUMBER = struct.Struct("=i")  # a process id or an exit code


def end_group(leader: int) -> None:
    """Kill a process and all that it started, if they are still there."""
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids to signal a group that has only a dead leader
        os.killpg(leader, signal.SIGKILL)


def serve(server: socket.socket, libraries: list[str]) -> Json | None:
    """Answer requests until the other end closes. Return None then, and return the request in each fork.

    A job starts as soon as the libraries of its own script are imported; the others follow while it runs.
    """
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    inputs: list[socket.socket | int] = [server, wake]
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select(inputs, [], [], 0 if libraries else None)
        if wake in ready:
            os.read(wake, 4096)
            _report_exits(running)
        if server in ready:
            _, descriptors, _, _ = socket.recv_fds(server, 1, 1)
            connection = socket.socket(fileno=descriptors[0]) if descriptors else None
            line = connection.makefile("rb").readline() if connection else b""
            if not connection or not line:
                break
            request: Json = json.loads(line)
            for library in request["libraries"]:
                _import(library)
            gc.freeze()
            # Python 3.12 warns if a library has started threads; those of the container's libraries survive a fork.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (wake, wake_write):
                    os.close(descriptor)
                for other in (server, connection, *running.values()):
                    other.close()
                return request
            with suppress(PermissionError, ProcessLookupError):  # the fork does the same: whichever comes first
                os.setpgid(pid, pid)
            running[pid] = connection
            _send(connection, pid)
        elif libraries:
            _import(libraries.pop(0))
    for pid in running:
        end_group(pid)
    return None


def _report_exits(running: dict[int, socket.socket]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            end_group(pid)  # what the job left running in the background ends with it, as in a container
            with running.pop(pid) as connection:
                _send(connection, os.waitstatus_to_exitcode(status))


def _send(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the other end may be gone; then `serve` ends
        connection.sendall(NUMBER.pack(number))


def _import(library: str) -> None:
    with suppress(Exception):  # the script that needs the library then fails with the message, in its own log
        importlib.import_module(library)


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
    sys.path.insert(0, os.path.dirname(argv[0]))
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
    exit_code = 1

    def leave() -> None:
        os._exit(exit_code if flush_files() else 120)  # 120 is what Python gives when it cannot write its output

    atexit.register(leave)
    del sys.path[0]  # this file's folder: a library must not import a module of the package by accident
    gc.disable()  # imports allocate many long-lived objects: collecting among them only takes time
    request = serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
    exit_code = run(request) if request else 0


if __name__ == "__main__":
    main()
