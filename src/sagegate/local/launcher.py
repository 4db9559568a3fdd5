"""Starts a job's processes: Python scripts as forks of the zygote, anything else as a plain child process.

Each process leads its own process group, so that stopping a job stops all that it started.
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
from typing import Any

from sagegate.files import write_atomically
from sagegate.local.groups import end_group

PACKAGE = Path(__file__).resolve().parents[2]  # the folder that `sagegate` is imported from
MOMENT = 0.2  # seconds
PYTHONS = ("python", "python3", sys.executable)


@dataclass(frozen=True)
class Command:
    """One process of a job. `modules` are the libraries its script imports, as far as they are known."""

    argv: list[str]
    environment: dict[str, str]
    folder: Path
    log: Path
    modules: tuple[str, ...] = ()
    mount: str = ""  # what to mount on /opt/ml, if anything

    @property
    def is_script(self) -> bool:
        """Whether this runs a Python file, which a fork of the zygote can do."""
        return len(self.argv) > 1 and self.argv[0] in PYTHONS and self.argv[1].endswith(".py")


class Running:
    """A process of a job that was started."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._done = threading.Event()
        self._known = threading.Event()
        self.exit_code: int | None = None

    def started(self, pid: int) -> None:
        """Note its process id."""
        self.pid = pid
        self._known.set()

    def ended(self, exit_code: int) -> None:
        """Note its exit code: negative if a signal ended it."""
        self.exit_code = exit_code
        self._known.set()
        self._done.set()

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code, or None if it still runs after `timeout` seconds."""
        return self.exit_code if self._done.wait(timeout) else None

    def kill(self) -> None:
        """End it and all that it started."""
        self._known.wait(5)
        if self.pid and not self._done.is_set():
            end_group(self.pid)


class Launcher:
    """Starts commands; the zygote comes to life with the first `warm_up` or script."""

    def __init__(self, root: Path) -> None:
        self.libraries: tuple[str, ...] = ()  # what later jobs will need: imported once the first has started
        self._folder = root
        self._hide = [str(root), str(PACKAGE)]
        self._lock = threading.Lock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._running: dict[int, Running] = {}
        self._count = 0

    def warm_up(self, modules: tuple[str, ...]) -> None:
        """Begin to import `modules`, so that they are there when the jobs that need them start."""
        if modules and hasattr(os, "fork"):
            with self._lock:
                self._send({"preload": list(modules)})

    @cached_property
    def path(self) -> str:
        """The PATH of jobs: `python3` and `pip3` in their shell scripts are this environment's, as they are an image's.

        An environment that uv made has no pip command, and the scripts of the SDK look for one.
        """
        own = self._folder / ".mlops" / "bin"
        for name in ("pip", "pip3"):
            write_atomically(own / name, f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@"\n'.encode(), 0o755)
        return os.pathsep.join([str(own), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

    def start(self, command: Command) -> Running:
        """Start a command; returns at once."""
        running = Running()
        if command.is_script and hasattr(os, "fork"):
            self._start_fork(command, running)
        else:
            self._start_process(command, running)
        return running

    def close(self) -> None:
        """End the zygote and, with it, every job that still runs."""
        with self._lock:
            zygote, connection = self._zygote, self._socket
            self._zygote = self._socket = None
        if zygote and connection:
            with suppress(OSError):  # it may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)
            zygote.wait()
            connection.close()

    def _start_fork(self, command: Command, running: Running) -> None:
        with self._lock:
            self._count += 1
            self._running[self._count] = running
            request = {
                "id": self._count,
                "argv": command.argv[1:],
                "environment": command.environment,
                "folder": str(command.folder),
                "log": str(command.log),
                "modules": list(command.modules),
                "mount": command.mount,
                "hide": self._hide,
            }
            try:
                self._send(request)
                if self._count == 1 and self.libraries:
                    self._send({"preload": list(self.libraries)})
            except OSError:
                running.ended(-signal.SIGKILL)

    def _start_process(self, command: Command, running: Running) -> None:
        argv = [sys.executable, *command.argv[1:]] if command.is_script else command.argv
        if command.mount:
            argv = [sys.executable, str(Path(__file__).with_name("namespace.py")), command.mount, *argv]
        with command.log.open("ab") as log:
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=command.folder,
                    env=command.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                log.write(f"{argv[0]}: {error.strerror}\n".encode())
                running.ended(127)
                return
        running.started(process.pid)
        threading.Thread(target=self._await, args=(process, running), daemon=True).start()
        if hasattr(os, "fork"):
            threading.Thread(target=self._guard, args=(running,), daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes], running: Running) -> None:
        exit_code = process.wait()
        if hasattr(os, "killpg"):
            end_group(process.pid)  # what it left running in the background, as in a container
        running.ended(exit_code)
        with self._lock, suppress(OSError):
            if self._socket:
                self._send({"unguard": process.pid})

    def _guard(self, running: Running) -> None:
        """Have the zygote end a process that is no fork of it when this process is killed and cannot do so itself.

        A zygote takes longer to start than a function takes to answer: for this alone none is started at once.
        """
        running.wait(0 if self._socket else MOMENT)
        with self._lock, suppress(OSError):
            if running.exit_code is None:
                self._send({"guard": running.pid})

    def _send(self, message: dict[str, Any]) -> None:
        """Send a message to the zygote, which is started if there is none; the lock is held."""
        if self._socket is None:
            self._socket = self._start_zygote()
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _start_zygote(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "sagegate.local.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self._folder,
            env=environment,
        )
        theirs.close()
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()
        return ours

    def _listen(self, connection: socket.socket) -> None:
        """Note what the zygote says, until it ends; then every job that it had ends, and the next gets a new one."""
        with suppress(OSError), connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                running = self._running[message["id"]]
                if "pid" in message:
                    running.started(message["pid"])
                else:
                    running.ended(message["exit"])
        with self._lock:
            if self._socket is connection:
                self._socket = None
            for running in self._running.values():
                if running.exit_code is None:
                    if running.pid:
                        end_group(running.pid)  # the zygote may have been killed, which its forks outlive
                    running.ended(-signal.SIGKILL)
