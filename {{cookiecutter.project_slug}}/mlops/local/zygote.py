"""A process that has the heavy libraries imported and forks one child per job.

Importing pandas, scikit-learn and XGBoost takes most of the time of a run on small data. The zygote imports them once;
each job is a fork of it, with its own memory, environment, folder, output and process group. It starts a job as soon
as the libraries that this job's script needs are in, and imports the rest while jobs run. A job says itself how its
script ended, so that the next step starts while the kernel still takes back this one's gigabytes.

Runs as `python -m mlops.local.zygote FD`; requests and answers are JSON lines on that socket. When the other end
closes, it ends its jobs and itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil  # noqa: F401  # what runpy imports when a job starts: here it is imported once
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from typing import Any, NoReturn

from mlops.local.namespace import enter

ENDED = struct.Struct("=ii")  # process id and exit code, which a job writes when its script has ended


def serve(connection: socket.socket) -> None:
    """Import, fork and report until the other end closes."""
    wake_read, wake_write = os.pipe()
    ended_read, ended_write = os.pipe()
    for end in (wake_read, wake_write, ended_read):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    readable: list[socket.socket | int] = [connection, wake_read, ended_read]
    gc.disable()  # imports make much that lives and little that dies: collecting only costs time
    running: dict[int, int] = {}
    leaving: set[int] = set()  # jobs whose end is reported, whose process is not yet gone
    pending: list[str] = []
    buffer = b""
    while True:
        ready, _, _ = select.select(readable, [], [], 0 if pending else None)
        if connection in ready:
            received = connection.recv(1 << 16)
            if not received:
                break
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if "preload" in request:
                    pending += request["preload"]
                    continue
                _import(request["modules"])
                pid = _fork(request, [connection.fileno(), wake_read, wake_write, ended_read], ended_write)
                running[pid] = request["id"]
                _send(connection, {"id": request["id"], "pid": pid})
        elif pending:
            _import([pending.pop(0)])
        if wake_read in ready:
            os.read(wake_read, 4096)
        if ended_read in ready:
            for pid, code in ENDED.iter_unpack(os.read(ended_read, ENDED.size * 64)):
                if pid in running:
                    _send(connection, {"id": running.pop(pid), "exit": code})
                    leaving.add(pid)
        for pid in [*running, *leaving]:
            finished, status = os.waitpid(pid, os.WNOHANG)
            if finished and pid in running:
                _send(connection, {"id": running.pop(pid), "exit": os.waitstatus_to_exitcode(status)})
            if finished:
                leaving.discard(pid)
    for pid in running:
        os.killpg(pid, signal.SIGKILL)
    os._exit(0)  # an interpreter's orderly end takes all that was imported apart, which is for nothing here


def _import(modules: list[str]) -> None:
    for module in modules:
        if module not in sys.modules:
            try:
                importlib.import_module(module)
            except ImportError:
                continue  # the script that needs it fails with its own message, in its own log


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _fork(request: dict[str, Any], to_close: list[int], ended: int) -> int:
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        _become(request, to_close, ended)
    return pid


def _become(request: dict[str, Any], to_close: list[int], ended: int) -> NoReturn:
    """Turn this fork into the job: nothing of the zygote's state, only its imported libraries, is left."""
    code = 1
    try:
        os.setsid()
        gc.enable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in to_close:
            os.close(descriptor)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # or prints would follow a traceback
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        script, *arguments = request["argv"]
        sys.argv = [script, *arguments]
        sys.path[:] = [os.path.dirname(script), *(p for p in sys.path if p and p not in request["hide"])]
        if request["mount"]:
            _mount(request["mount"])
        for name in [n for n in sys.modules if n.partition(".")[0] == "mlops"]:
            del sys.modules[name]
        code = _run(script)
        os.write(ended, ENDED.pack(os.getpid(), code & 0xFF))
    finally:
        os._exit(code)


def _mount(opt_ml: str) -> None:
    try:
        enter(opt_ml)
    except SystemExit as end:
        print(end.code, file=sys.stderr, flush=True)
        os._exit(1)


def _run(script: str) -> int:
    code = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException:
        _print_traceback()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # the script's own threads end their work, as at any end of Python
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _print_traceback() -> None:
    kind, error, trace = sys.exc_info()
    while trace and trace.tb_frame.f_code.co_filename.endswith(("zygote.py", "runpy.py", "<frozen runpy>")):
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
