"""Show the template at work on this machine: generate a project, train, gate, approve, serve and invoke.

Run it with `make demo`. It needs no AWS account. The project stays in build/my-model for a closer look.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from clean_copy import ROOT

PROJECT = ROOT / "build" / "my-model"
SERVER_START_SECONDS = 60

# The shell's own virtual environment is not the project's, and AWS settings are not needed.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT") and not name.startswith("AWS_")
}
UV = os.environ.get("UV") or shutil.which("uv") or "uv"

timings: list[tuple[str, float]] = []


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Announce a stage and note its seconds; when it fails, say which and stop."""
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    try:
        yield
    except subprocess.CalledProcessError as error:
        sys.exit(f"\ndemo: the stage '{title}' failed with exit code {error.returncode}; its output is above")
    except (OSError, RuntimeError) as error:
        sys.exit(f"\ndemo: the stage '{title}' failed: {error}")
    timings.append((title, time.monotonic() - started))
    print(f"   {timings[-1][1]:.1f} s", flush=True)


def uv(*args: str) -> None:
    """Run uv in the project, with what it prints shown as it comes."""
    print(f"$ uv {' '.join(args)}", flush=True)
    subprocess.run([UV, *args], cwd=PROJECT, env=ENVIRONMENT, check=True, stdin=subprocess.DEVNULL)


def bake() -> None:
    """Generate the project afresh with the default answers, in the way a user does."""
    shutil.rmtree(PROJECT, ignore_errors=True)
    PROJECT.parent.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        "--no-input",
        "--default-config",
        str(ROOT),
        "--output-dir",
        str(PROJECT.parent),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(server: subprocess.Popen[bytes], port: int) -> None:
    """Return when the port accepts connections; fail when the server ends first or takes too long."""
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not open port {port} within {SERVER_START_SECONDS} s")


@contextmanager
def served(port: int) -> Iterator[None]:
    """Serve the approved model for as long as the block runs."""
    python = PROJECT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # The interpreter itself, not `uv run`: so the process that is stopped is the server and not its parent.
    command = [str(python), "-m", "sagegate", "serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, stdin=subprocess.DEVNULL)
    try:
        wait_until_open(server, port)
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> None:
    with stage("generate a project"):
        bake()
    with stage("install its environment (once)"):
        uv("sync", "--quiet")
    with stage("train, evaluate, gate and register"):
        uv("run", "sagegate", "run")
    with stage("list the models"):
        uv("run", "sagegate", "models")
    with stage("approve version 1"):
        uv("run", "sagegate", "approve", "1", "--reason", "demo")
    with stage("serve it and ask for a prediction"):
        port = free_port()
        with served(port):
            uv("run", "sagegate", "invoke", "--url", f"http://127.0.0.1:{port}")

    print("\nStage                                     seconds")
    for title, seconds in timings:
        print(f"{title:<40} {seconds:>8.1f}")
    print(f"{'all':<40} {sum(seconds for _, seconds in timings):>8.1f}")
    print(f"\nThe project is in {PROJECT.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
