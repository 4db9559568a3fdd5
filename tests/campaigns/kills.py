"""Commands that are killed at a random moment: nothing of them is left running, and the state stays sound."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Campaign, Case
from campaigns.fast_project import make_project

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one killed `run` or `approve`."""
    project = make_project(folder)
    started = time.monotonic()
    project.run("run", "--no-cache")
    duration = time.monotonic() - started

    def case(chance: random.Random) -> None:
        approves = chance.random() < 0.25
        versions = list(project.packages())
        run = ["run", "--set", f"max_depth={chance.randint(2, 5)}", *chance.choice([[], ["--no-cache"]])]
        command = ["approve", str(chance.choice(versions)), "--reason", "x"] if approves else run
        number = chance.choice(SIGNALS)
        process = project.start(*command)
        time.sleep(chance.uniform(0, duration * (0.4 if approves else 1.1)))
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
        # Until the interpreter has loaded the command, a signal ends it in the default way or as a failed start. Python
        # ends by SIGINT if KeyboardInterrupt was ever raised inside exec(), as dataclasses use it, even if handled.
        codes = {0, 128 + number, -number, -signal.SIGINT, 0 if out else 1}
        assert process.returncode in codes, f"exit code {process.returncode}: {out}{error}"
        # In a callback of the import system, Python only reports an exception, also a signal's: nothing stops then.
        assert "execution" not in out or "Traceback" not in error or "Exception ignored" in error, error
        assert project.processes() == []
        unfinished = project.check()
        if unfinished and unfinished != "an approval that was not finished":
            assert "run `sagegate approve VERSION` again" in project.run("run", "--no-cache", code=1), unfinished
        if unfinished:
            project.run("approve", "1", "--reason", "again")
            assert project.check() == "", unfinished
        if unfinished or chance.random() < 0.15:
            assert "registered" in project.run("run", "--again")
            project.run("clean", "--keep", "2")
            assert project.check() == ""

    yield case


CAMPAIGN = Campaign(
    "kills", "a killed command leaves no process and a sound state; the next run works", 200, 2, prepare
)
