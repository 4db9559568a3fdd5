"""A process that has the heavy libraries imported and forks one child per job.

Importing pandas, scikit-learn and XGBoost takes most of the time of a run on small data. The zygote imports them once;
each job is a fork of it, with its own memory, environment, folder, output and process group. It starts a job as soon
as the libraries that this job's script needs are in, and imports the rest while jobs run. A job says itself how its
script ended, so that the next step starts while the kernel still takes back this one's gigabytes.

Runs as `python -m sagegate.local.zygote FD`; requests and answers are JSON lines on that socket. When the other end
closes, it ends its jobs and itself. The other end names its plain child processes too, so that they end with it even
when it was killed.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil  # noqa: F401  # what runpy imports when a job starts: here it is imported once
import runpy
import select
import signal
import socket
import stat
import struct
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from sagegate.local.groups import end_group
from sagegate.local.namespace import enter

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
ENDED = struct.Struct("=ii")  # process id and exit code, which a job writes when its script has ended


class Closed(Exception):
    """The other end of the connection has closed."""


class Zygote:
    """Imports, forks and reports until the other end closes; then ends every job."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._wake, wake_write = os.pipe()
        self._ended, self._ended_write = os.pipe()
        for end in (self._wake, wake_write, self._ended):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._to_close = [connection.fileno(), self._wake, wake_write, self._ended]  # in a job
        self._running: dict[int, int] = {}
        self._leaving: set[int] = set()  # jobs whose end is reported, whose process is not yet gone
        self._guarded: set[int] = set()  # process groups of the other end's own, to end if it cannot any more
        self._pending: list[str] = []
        self._buffer = b""

    def serve(self) -> None:
        """Work until the other end closes, also if it does so in the middle of an answer."""
        try:
            while True:
                self._turn()
        except Closed:
            pass
        finally:
            for leader in [*self._running, *self._guarded]:
                end_group(leader)

    def _turn(self) -> None:
        readable: list[socket.socket | int] = [self._connection, self._wake, self._ended]
        ready, _, _ = select.select(readable, [], [], 0 if self._pending else None)
        if self._connection in ready:
            self._receive()
        elif self._pending:
            _import([self._pending.pop(0)])
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._ended in ready:
            self._note_reports()
        self._note_deaths()

    def _receive(self) -> None:
        try:
            received = self._connection.recv(1 << 16)
        except OSError:
            received = b""
        if not received:
            raise Closed
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            self._answer(json.loads(line))

    def _answer(self, request: dict[str, Any]) -> None:
        if "preload" in request:
            self._pending += request["preload"]
        elif "guard" in request:
            self._guarded.add(request["guard"])
        elif "unguard" in request:
            self._guarded.discard(request["unguard"])
        else:
            _import(request["modules"])
            pid = fork(request, self._to_close, self._ended_write)
            self._running[pid] = request["id"]
            self._send({"id": request["id"], "pid": pid})

    def _note_reports(self) -> None:
        """What jobs say themselves: the script has ended. Its exit code is known, so the kill below does not count."""
        for pid, code in ENDED.iter_unpack(os.read(self._ended, ENDED.size * 64)):
            if pid in self._running:
                self._leaving.add(pid)
                self._end(pid, code)

    def _note_deaths(self) -> None:
        for pid in [*self._running, *self._leaving]:
            finished, status = os.waitpid(pid, os.WNOHANG)
            if finished:
                self._leaving.discard(pid)
            if finished and pid in self._running:
                self._end(pid, os.waitstatus_to_exitcode(status))

    def _end(self, pid: int, code: int) -> None:
        number = self._running.pop(pid)
        end_group(pid)  # what the script left running in the background ends with it, as in a container
        self._send({"id": number, "exit": code})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise Closed from None


def _import(modules: list[str]) -> None:
    for module in modules:
        if module not in sys.modules:
            try:
                importlib.import_module(module)
            except ImportError:
                continue  # the script that needs it fails with its own message, in its own log


def fork(request: dict[str, Any], to_close: list[int], ended: int) -> int:
    """A job as a fork of this process, which leads its group from the start: whoever knows its id can end it."""
    gc.freeze()
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(request, to_close, ended, zygote)
    with suppress(OSError):  # the fork does it as well: whichever comes first
        os.setpgid(pid, pid)
    return pid


def _become(request: dict[str, Any], to_close: list[int], ended: int, zygote: int) -> NoReturn:
    """Turn this fork into the job: nothing of the zygote's state, only its imported libraries, is left."""
    code = 1
    try:
        os.setpgid(0, 0)
        gc.enable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in to_close:
            os.close(descriptor)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        for descriptor in (nothing, log):
            if descriptor > 2:  # it is one of these where sagegate was started with its output closed
                os.close(descriptor)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # or prints would follow a traceback
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        script, *arguments = request["argv"]
        sys.argv = [script, *arguments]
        sys.path[:] = [os.path.dirname(script), *(p for p in sys.path if p and p not in request["hide"])]
        if request["mount"]:
            _mount(request["mount"])
        _die_with(zygote)
        for name in [n for n in sys.modules if n.partition(".")[0] == "sagegate"]:
            del sys.modules[name]
        code = _run(script)
        os.write(ended, ENDED.pack(os.getpid(), code & 0xFF))
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when `parent` ends, however that is; only Linux can."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(1)


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
    return code if _flush() else 120


def _flush() -> bool:
    """Write out what was printed, also if the script closed or replaced its output; whether that went well.

    If it did not, say on a full disk, a process ends with 120, as any of Python's does.
    """
    whole = all([_is_written(stream) for stream in (sys.stdout, sys.stderr)])
    for stream in [sys.__stdout__, sys.__stderr__, *_open_files()]:
        _is_written(stream)  # Python does not mind if it is not
    return whole


def _is_written(stream: Any) -> bool:
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
    except Exception:
        return False
    return True


def _open_files() -> list[Any]:
    """The files that the script has not closed, texts before the bytes below them.

    The end of an interpreter writes them; os._exit does not. Looking at every object takes milliseconds, so it is done
    only if there is a file.
    """
    if not _has_open_file():
        return []
    made = gc.get_objects()
    kinds = ((io.TextIOWrapper,), (io.BufferedWriter, io.BufferedRandom))
    return [thing for kind in kinds for thing in made if issubclass(type(thing), kind)]


def _has_open_file() -> bool:
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # a system that does not list them: there may be one
        return True
    for descriptor in descriptors:
        with suppress(OSError):  # the one that listed them is closed by now
            if descriptor > 2 and stat.S_ISREG(os.fstat(descriptor).st_mode):
                return True
    return False


def _print_traceback() -> None:
    kind, error, trace = sys.exc_info()
    while trace and trace.tb_frame.f_code.co_filename.endswith(("zygote.py", "runpy.py", "<frozen runpy>")):
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


if __name__ == "__main__":
    gc.disable()  # imports make much that lives and little that dies: collecting only costs time
    Zygote(socket.socket(fileno=int(sys.argv[1]))).serve()
    os._exit(0)  # an interpreter's orderly end takes all that was imported apart, which is for nothing here
