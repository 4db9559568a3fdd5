"""What the verbs' commands share: the `--env` option, and the project with the door that it opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlops.aws import Door

environment = click.option(
    "--env",
    "environment",
    default="local",
    show_default=True,
    metavar="ENV",
    help="Where: local (this machine), dev, staging or prod; environments/ENV.toml says which account that is.",
)


@contextmanager
def project(name: str = "local") -> Iterator[tuple[Path, Door]]:
    """The project around the working directory, and the door to one of its environments."""
    from mlops.aws import open_door
    from mlops.root import find_root
    from mlops.settings import load_environment, load_settings

    root = find_root()
    door = open_door(root, load_settings(root), load_environment(root, name))
    try:
        yield root, door
    finally:
        door.close()
