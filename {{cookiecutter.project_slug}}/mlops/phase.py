"""`python -m mlops.phase NAME COMMAND ...`: run a command, and say in the job's summary how long it took.

For continuous integration: who looks only at the summary sees where the time went and, of a command that failed, the
end of its output. The exit code is the command's. Without a command, the phase is all of the job so far.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from mlops import summary
from mlops.errors import USAGE

KEPT_LINES = 40
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run(name: str, command: list[str]) -> int:
    """Run it, passing its output on; the exit code."""
    started = time.monotonic()
    # The machinery has something to say there; a test that runs the pipeline has not.
    env = {k: v for k, v in os.environ.items() if k != "GITHUB_STEP_SUMMARY" or command[0] == "mlops"}
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            kept.append(COLOURS.sub("", line.rstrip("\n")))
    summary.append(lines(name, command, process.returncode, time.monotonic() - started, list(kept)))
    return process.returncode


def lines(name: str, command: list[str], code: int, seconds: float, output: list[str]) -> list[str]:
    """The phase in the summary."""
    if code == 0:
        return [f"- ✅ {name}: {seconds:.1f} s"]
    said = [f"- ❌ **{name}** failed with exit code {code} after {seconds:.1f} s: `{shlex.join(command)}`", ""]
    return said + summary.folded(f"The end of its output: {name}", summary.fenced(output))


def since_start(name: str) -> None:
    """All of the job so far: the runner writes the event's file when it starts a job."""
    started = Path(os.environ["GITHUB_EVENT_PATH"]).stat().st_mtime
    summary.append(lines(name, [], 0, time.time() - started, []))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("usage: python -m mlops.phase NAME [COMMAND ...]", file=sys.stderr)
        sys.exit(USAGE)
    if len(sys.argv) == 2:
        since_start(sys.argv[1])
        sys.exit(0)
    sys.exit(run(sys.argv[1], sys.argv[2:]))
