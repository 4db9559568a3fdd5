"""A Python with the heavy libraries imported already: processes of generated projects start as forks of it.

Importing pandas, scikit-learn, XGBoost and boto3 took most of the tests' time. `python warm_python.py FD PID MODULE...`
imports modules once, and listens on the socket FD until the process PID, pytest, ends. The environments of generated
projects (tests/conftest.py) run this file at each start of Python, as `sitecustomize`: it hands the process's command
line, variables, folder and open files to that Python, which runs them in a fork. Then it forwards signals, and ends as
the fork ends; if it is killed, so is the fork. Nothing of the package is imported beforehand.

A process starts cold if WARM_PYTHON, the folder of the sockets, is not set; with options of Python's; and on macOS.
A test of a process's end, or of what the hash seed could change, sets it to nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KNOWN = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")  # variables that a fork can follow
NUMBER = struct.Struct("=i")  # a process id or an exit code


def socket_path(folder: str, prefix: str) -> str:
    """Return the path of the socket of an environment's warm Python."""
    return str(Path(folder) / Path(prefix).name)


# --- the process that wants to be a fork ---------------------------------------------------------------------------
def become_fork() -> None:
    """Let the warm Python run what this process is to run, and end as it ends; return if that is impossible."""
    folder, argv = os.environ.get("WARM_PYTHON"), sys.orig_argv[1:]
    options = not argv or (argv[0].startswith("-") and argv[0] not in ("-m", "-c"))
    if not folder or options or any(k.startswith("PYTHON") and k not in KNOWN for k in os.environ):
        return
    files = [number for number in map(int, os.listdir("/proc/self/fd")) if Path(f"/proc/self/fd/{number}").exists()]
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(socket_path(folder, sys.prefix))
        socket.send_fds(connection, [b"."], files)
        own = {name: getattr(sys, name) for name in ("path", "executable", "prefix", "exec_prefix")}
        request = {"argv": argv, "env": dict(os.environ), "folder": os.getcwd(), "files": files, "sys": own}
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.recv(NUMBER.size, socket.MSG_WAITALL)
    except OSError:
        return
    if not answer:  # the warm Python has ended
        return
    pid = NUMBER.unpack(answer)[0]

    def forward(number: int, _: Any) -> None:
        with suppress(ProcessLookupError):  # the fork has just ended: its exit code is on the way
            os.kill(pid, number)

    for forwarded in FORWARDED:
        signal.signal(forwarded, forward)
    for number in files:
        os.close(number)
    code = NUMBER.unpack(connection.recv(NUMBER.size, socket.MSG_WAITALL))[0]
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# --- the warm Python -----------------------------------------------------------------------------------------------
def serve(listener: socket.socket, pytest: int) -> Any:
    """Fork for each request until pytest, a process, ends; return the request in a fork, and None at the end."""
    import select

    end = os.pidfd_open(pytest)
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        inputs: list[Any] = [listener, wake, end, *running.values()]
        ready, _, _ = select.select(inputs, [], [])
        if end in ready:
            break
        if wake in ready:
            os.read(wake, 4096)
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    with suppress(OSError), running.pop(ended[0]) as connection:
                        connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(ended[1])))
        for pid, connection in running.items():
            if connection in ready:  # its process was killed: nothing else makes it readable
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if listener in ready:
            connection, _ = listener.accept()
            files, request = receive(connection)
            if request and (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (listener, connection, *running.values()):
                    each.detach()
                take_files(files, request["files"])
                return request
            for number in files:
                os.close(number)
            if request:
                running[pid] = connection
                with suppress(OSError):  # the process was killed meanwhile
                    connection.sendall(NUMBER.pack(pid))
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    return None


def receive(connection: socket.socket) -> tuple[list[int], Any]:
    """Return the files and the request of a process; no request if it was killed while it sent them."""
    files: list[int] = []
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, 250)
        return files, json.loads(connection.makefile("rb").readline())
    except (OSError, ValueError):
        return files, None


def take_files(files: list[int], numbers: list[int]) -> None:
    """Give file descriptors their numbers, and close all others.

    The listening socket, left open in a fork, would let processes wait for ever for a warm Python that has ended.
    """
    import fcntl

    highest = max(map(int, os.listdir("/proc/self/fd")))
    high = max(highest, *numbers) + 1
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD, high) for number in files]
    os.closerange(0, high)
    for number, target in zip(moved, numbers, strict=True):
        os.dup2(number, target)
    os.closerange(high, max(moved) + 1)


def run(request: Any) -> int:
    """Do what Python does for a command line; return the exit code."""
    import builtins
    import io
    import runpy
    import time
    import traceback

    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["folder"])
    os.setpgid(0, 0)
    eager = "PYTHONUNBUFFERED" in os.environ
    own: Any = sys
    own.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8")
    own.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8", line_buffering=eager)
    own.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w")), "utf-8", "backslashreplace", None, True)
    own.__stdin__, own.__stdout__, own.__stderr__ = own.stdin, own.stdout, own.stderr
    own.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    own.orig_argv[1:] = request["argv"]
    for name, value in request["sys"].items():  # of a copy of the environment, too
        setattr(sys, name, value)
    what, *rest = request["argv"]
    try:
        if what == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.path.insert(0, "")
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__", "__builtins__": builtins})
        elif what == "-m":
            sys.argv = rest
            sys.path.insert(0, os.getcwd())
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [what, *rest]
            sys.path.insert(0, str(Path(what).resolve().parent))
            runpy.run_path(what, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def import_all(names: list[str]) -> None:
    """Import modules, and read the files of botocore's service models: SageMaker's takes a quarter of a second."""
    import functools
    import gc
    import importlib

    import boto3
    from botocore.loaders import JSONFileLoader

    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
    # The SageMaker SDK makes clients when it is imported, and looks for credentials.
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "no", "AWS_SECRET_ACCESS_KEY": "no"}
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)
    for name in ("cloudformation", "cloudwatch", "logs", "s3", "sagemaker", "sagemaker-runtime", "sts"):
        boto3.Session("no", "no").client(name, "us-east-1")
    boto3.DEFAULT_SESSION = None
    # The SDK checks the schema of its own settings ten times in a compile, in a quarter second each. Here it checks the
    # settings only; test_compile.py compiles once without a fork.
    with suppress(ImportError):
        import jsonschema

        jsonschema.validate = lambda value, schema: jsonschema.validators.validator_for(schema)(schema).validate(value)
    gc.freeze()


def main() -> None:
    """Import the modules, serve, and in a fork run the request; a fork takes no time to take modules down."""
    import atexit
    import threading

    del sys.path[0]  # this file's folder
    import_all(sys.argv[3:])
    if request := serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])):
        code = run(request)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
elif __name__ == "sitecustomize":
    become_fork()
