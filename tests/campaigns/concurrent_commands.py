"""Many commands at once: each has a result or one line, and registry and champion stay consistent."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Campaign, Case
from campaigns.fast_project import check_output, make_project


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one round of commands that start together."""
    project = make_project(folder)

    def case(chance: random.Random) -> None:
        versions = list(project.packages())[-5:]

        def command() -> list[str]:
            decision = [chance.choice(["approve", "approve", "reject"]), str(chance.choice(versions)), "--reason", "x"]
            run = ["run", "--set", f"max_depth={chance.randint(2, 9)}"]
            return chance.choice([run, run, decision, decision, ["models"], ["status"], ["clean", "--keep", "2"]])

        commands = [command() for _ in range(6)]
        processes = [project.start(*each) for each in commands]
        for each, process in zip(commands, processes, strict=True):
            out, error = process.communicate(timeout=120)
            check_output(" ".join(each), process.returncode, out, error)
        assert project.processes() == []
        assert (left := project.check()) == "", left
        count = sum(each[0] == "run" for each in commands)
        assert len(project.packages()) <= max(versions) + count

    yield case


CAMPAIGN = Campaign(
    "concurrent", "commands at once each have a result or one line; versions and champion stay right", 100, 1, prepare
)
