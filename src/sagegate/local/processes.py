"""The processes of jobs: forks of a server that has the heavy libraries imported.

Importing pandas, scikit-learn and XGBoost takes most of the time of a run on small data; `fork_server.py` does it once.
Each process leads a process group, so that everything it started is killed with it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sagegate.errors import USAGE, SagegateError
from sagegate.files import as_json, write_atomically
from sagegate.local.fork_server import NUMBER, end_group

HERE = Path(__file__).resolve().parent
PYTHONS = ("python", "python3", sys.executable)


@dataclass(frozen=True)
class Command:
    """A command of a job. `modules` are the libraries that its script imports, as far as they are known."""

    argv: list[str]
    environment: dict[str, str]
    folder: Path
    log: Path
    modules: tuple[str, ...] = ()
    mount: str = ""  # the folder to mount on /opt/ml, if any

    @property
    def is_script(self) -> bool:
        """True for a Python file that needs no mount: a fork runs it with the libraries that are imported already."""
        return not self.mount and len(self.argv) > 1 and self.argv[0] in PYTHONS and self.argv[1].endswith(".py")

    @property
    def full_argv(self) -> list[str]:
        """The command with this environment's Python and, if needed, in a process that mounts its folder first."""
        argv = [sys.executable, *self.argv[1:]] if self.argv[0] in PYTHONS else self.argv
        return [sys.executable, str(HERE / "namespace.py"), self.mount, *argv] if self.mount else argv


class Running:
    """A process that the fork server starts. The server sends its id, then its exit code, through `connection`."""

    def __init__(self, connection: socket.socket) -> None:
        self._pid: int | None = None  # unknown while the server imports the libraries of the job
        self._connection = connection
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative if a signal ended the process, or None while it runs."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end. Return the exit code, or None if the process still runs after `timeout` seconds."""
        while self._exit_code is None:
            self._connection.settimeout(timeout)
            try:
                answer = self._connection.recv(NUMBER.size)
            except (TimeoutError, BlockingIOError):
                return None
            except ConnectionError:
                answer = b""
            if answer and self._pid is None:
                self._pid = NUMBER.unpack(answer)[0]
                continue
            if not answer and self._pid:
                end_group(self._pid)  # the fork server was killed, and its forks outlive it
            self._exit_code = NUMBER.unpack(answer)[0] if answer else -signal.SIGKILL
            self._connection.close()
        return self._exit_code

    def kill(self) -> None:
        """Kill the process and all that it started; if it has not started, it will not."""
        if self.exit_code is None:
            if self._pid:
                end_group(self._pid)
            self._exit_code = -signal.SIGKILL
            self._connection.close()  # the server sees that and does the same


class Launcher:
    """Starts commands. The fork server starts with the first command, or earlier by `warm_up`."""

    def __init__(self, root: Path) -> None:
        if not hasattr(os, "fork"):
            raise SagegateError("the environment local needs Linux or macOS: on Windows, use WSL", USAGE)
        self._root = root
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    @cached_property
    def path(self) -> str:
        """The PATH of jobs: `python3` and `pip3` in their shell scripts are this environment's, as they are an image's.

        An environment that uv made has no pip command, and the scripts of the SDK look for one.
        """
        own = self._root / ".mlops" / "bin"
        for name in ("pip", "pip3"):
            script = f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@"\n'.encode()
            write_atomically(own / name, script, 0o755, sync=False)
        return os.pathsep.join([str(own), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

    def warm_up(self, libraries: tuple[str, ...]) -> None:
        """Start the fork server, which begins to import `libraries`. Other libraries follow with the jobs."""
        self._connect(libraries)

    def start(self, command: Command) -> Running:
        """Start a command and return at once. Raises OSError if that fails."""
        command.log.touch()  # here, a full disk is an error with the file's name
        request = {
            "argv": command.argv[1:] if command.is_script else command.full_argv,
            "is_script": command.is_script,
            "environment": command.environment,
            "folder": str(command.folder),
            "log": str(command.log),
            "libraries": command.modules,
        }
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._connect(), [b"."], [theirs.fileno()])
            ours.sendall(json.dumps(request).encode() + b"\n")
            return Running(ours)
        except OSError:
            ours.close()
            raise ChildProcessError("the process that starts jobs has ended: run the command again") from None

    def close(self) -> None:
        """End the fork server and every job that still runs."""
        with self._lock:
            if self._server and self._connection:
                self._connection.close()
                self._server.terminate()  # in the middle of an import it does not look at the connection
                self._server.wait()
            self._server = self._connection = None

    def _connect(self, libraries: tuple[str, ...] = ()) -> socket.socket:
        """Return the connection to the fork server; start the server if none runs."""
        with self._lock:
            if self._connection and self._server and self._server.poll() is None:
                return self._connection
            self._connection, theirs = socket.socketpair()
            with theirs:
                self._server = subprocess.Popen(
                    [sys.executable, str(HERE / "fork_server.py"), str(theirs.fileno()), *libraries],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if sys.stderr else subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal reaches only this process, which then ends the jobs
                    env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
                )
            return self._connection


def remember_libraries(root: Path, libraries: tuple[str, ...]) -> None:
    """Note the libraries that the scripts of the last run import."""
    with suppress(OSError):  # without the note the next run starts a second later
        write_atomically(root / ".mlops" / "libraries.json", as_json(libraries), sync=False)


def remembered_libraries(root: Path, run_all: bool) -> tuple[str, ...]:
    """Return the libraries of the last run, or none if every job is likely to come from the cache.

    It is, if no file of the project is newer than the note and not all steps are to run. A wrong guess costs a second.
    """
    note = root / ".mlops" / "libraries.json"
    try:
        libraries, noted = tuple(json.loads(note.read_bytes())), note.stat().st_mtime
    except (OSError, ValueError, TypeError, RecursionError):
        return ()
    if not all(isinstance(name, str) and name.replace(".", "_").isidentifier() for name in libraries):
        return ()
    folders = (root / name for name in ("model", "pipeline", "environments", "data"))
    files = [root / "mlops.toml", *(file for folder in folders if folder.is_dir() for file in folder.iterdir())]
    changed = any(file.stat().st_mtime > noted for file in files if file.is_file())
    return libraries if run_all or changed else ()
