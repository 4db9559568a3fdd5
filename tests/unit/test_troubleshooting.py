"""The messages in docs/how-to/troubleshooting.md are messages of the code, so that who searches for one finds it."""

import ast
import re
import tomllib
from functools import cache

import pytest
from clean_copy import ROOT

PAGE = ROOT / "docs" / "how-to" / "troubleshooting.md"
ROWS = re.findall(r"(?m)^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"))
# What differs, the system's own text, and where a message may be put together of two.
REPLACED = re.compile(r"\b[A-Z]+\b|\.\.\.|\d{12}|\bAddress already in use\b|: ")
OWN_NAMES = ("AWS", "GITHUB", "TOKEN")


@cache
def messages() -> tuple[str, ...]:
    """Return the texts in the code of sagegate and of the project's model, and those of failures.toml."""
    folders = (ROOT / "src" / "sagegate", ROOT / "{{cookiecutter.project_slug}}" / "model")
    found = []
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        found += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    failures = tomllib.loads((ROOT / "src" / "sagegate" / "explain" / "failures.toml").read_text(encoding="utf-8"))
    return (*found, *(re.sub(r"\{\w+\}", "\0", failure["cause"]) for failure in failures["failure"]))


def missing_part(message: str) -> str | None:
    """Return the first part of a message between what differs that no text in the code has."""
    text = REPLACED.sub(lambda found: found[0] if found[0] in OWN_NAMES else "\0", message)
    parts = [part.strip(" :,.'") for part in text.split("\0")]
    assert any(len(part) >= 10 for part in parts), f"{message!r} is too short to search for"
    return next((part for part in parts if not any(part in known for known in messages())), None)


@pytest.mark.parametrize("message", ROWS)
def test_a_message_of_the_page_is_one_of_the_code(message: str) -> None:
    assert missing_part(message) is None


def test_a_message_that_the_code_lost_is_noticed() -> None:
    assert len(ROWS) >= 10
    assert missing_part("no mlops.toml in FOLDER or beneath it") == "or beneath it"
