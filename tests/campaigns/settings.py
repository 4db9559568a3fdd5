"""Random changes of the settings files: each is accepted, or refused in one line that names the file."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from clean_copy import copy_template
from conftest import bake_template

from campaigns.campaign import Campaign, Case, Chance, check_message
from sagegate import pins
from sagegate.check import check
from sagegate.errors import SagegateError

FILES = ("mlops.toml", "environments/local.toml", "environments/dev.toml", "environments/prod.toml")
VALUES = [
    *("0", "-1", "1", "1.0", "-0.001", "inf", "-inf", "nan", "1e400", "9" * 30, "9" * 5000, "true", '""', '"x"'),
    *('"\\u0000"', '"\\n"', '"a b"', '"' + "x" * 300 + '"', "[]", "[1]", "{}", '{ a = "b" }', "2024-01-01", "", "="),
    *('"s3://"', '"s3://b/../c"', '"../data"', '"/"', '"ml.m5.xlage"', '"000000000000"', '"\u2028"', "'''\n'''"),
]


def change(text: str, chance: Chance) -> str:
    """Return a file with one or two lines changed, removed, doubled or cut."""
    for _ in range(chance.choice([1, 1, 2])):
        lines = text.split("\n")
        number = chance.randrange(len(lines))
        key, equals, _ = lines[number].partition("=")
        kind = chance.random()
        if kind < 0.6 and equals:
            lines[number] = f"{key}= {chance.choice(VALUES)}"
        elif kind < 0.7:
            lines[number] = lines[chance.randrange(len(lines))]
        elif kind < 0.8:
            del lines[number]
        elif kind < 0.9:
            lines.insert(number, f"{chance.choice(['x', 'threshold', 'source', '[gate]', '[[gate]]'])} = 1")
        else:
            lines[number] = lines[number][: chance.randrange(len(lines[number]) + 1)]
        text = "\n".join(lines)
    return text


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one changed file, through `sagegate check`."""
    project = bake_template(copy_template(folder / "template"), folder / "baked")

    def case(chance: Chance) -> None:
        name = chance.choice(FILES)
        file = project / name
        kept = file.read_bytes()
        try:
            changed = change(kept.decode(), chance).encode()
            if chance.random() < 0.1:
                changed = changed.replace(b" ", bytes([chance.randrange(256)]), 1)
            file.write_bytes(changed)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                check(project)
        except SagegateError as error:
            check_message(error, name, "definition.json", "errors: ")
        finally:
            file.write_bytes(kept)

    # The command runs in this repository's environment, whose libraries are not a project's.
    with patch.object(pins, "differences", lambda root: []):
        yield case
    shutil.rmtree(project)


CAMPAIGN = Campaign("settings", "a changed settings file is refused in one line that names it", 1000, 60, prepare)
