"""The files that `sagegate data` writes: schema.toml, and single lines of mlops.toml and environments/local.toml."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from sagegate.data.guess import Guess, Target
from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import shown

SCHEMA = """\
# What the data looks like: the one place that names columns. Every script in model/ reads this file, and it is stored
# with the model. The files must have the columns below and the target, in any order.
# `sagegate data` wrote it: each line is a guess with its reason. Correct what is wrong; `sagegate check` checks it.

# --- EDIT HERE: your target and your columns ---
problem_type = {problem_type}
# Columns that the files also have and that no script reads.
ignore = [{ignore}]
# Columns whose values decide on the split: rows of the same customer, say, stay together. Empty: the whole row decides,
# so a row that is exported with another value may change its split.
split_by = [{split_by}]

# The form of text files.
[files]
separator = {separator}
decimal = {decimal}
encoding = {encoding}

[target]
name = {target}
{classes}
# "number" is an integer or a decimal, "category" any text, "date" a date such as 2024-12-31 or of the form behind it.
# In all, an empty cell is a missing value.
[columns]
{columns}
"""

WEIGHTS = """\
# Optional: let rows of a rare class count for more in training; or a weight for each class, as [1, 20].
#class_weights = "balanced"
"""
DECISION = """\
# Optional: call a row positive where F-beta is highest on the validation rows, or the cost lowest, as
# { miss = 20, false_alarm = 1 }. Else it is one with a probability above 0.5.
#decision = "f2"
"""


def toml_text(text: str) -> str:
    """Return a text as TOML writes it, whatever it holds."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(name: str) -> str:
    """Return the name of a column as a key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_text(name)


def schema_text(guesses: list[Guess], target: str, problem: Target, files: Any) -> str:
    """Return the text of model/schema.toml."""

    def listed(kind: str) -> str:
        lines = [f"  {toml_text(g.name)}, # {shown(g.why)}\n" for g in guesses if g.kind == kind]
        return f"\n{''.join(lines)}" if lines else ""

    def comment(guess: Guess) -> str:
        return shown(guess.why) + (f", {guess.missing} missing" if guess.missing else "")

    classes = f"# {problem.why}\n"
    if problem.classes:
        last = " The last class is the positive one." if len(problem.classes) == 2 else ""
        classes = f"# {problem.why}.{last}\nclasses = [{', '.join(map(toml_text, problem.classes))}]\n"
        classes += WEIGHTS + (DECISION if len(problem.classes) == 2 else "")
    return SCHEMA.format(
        problem_type=toml_text(problem.problem_type),
        ignore=listed(""),
        split_by=listed("key"),
        separator=toml_text(files.separator),
        decimal=toml_text(files.decimal),
        encoding=toml_text(files.encoding),
        target=toml_text(target),
        classes=classes,
        columns="\n".join(
            f"{toml_key(g.name)} = {toml_text(g.kind)} # {comment(g)}" for g in guesses if g.kind not in ("", "key")
        ),
    )


def edit(text: str, file: str, table: str, values: Mapping[str, str | float | None]) -> str:
    """Return a settings file with other values in a table ("" for the top); all other text stays, comments too.

    A value that is None is removed. Raises SagegateError if the file writes a key in a way that cannot be edited.
    """
    lines = text.splitlines(keepends=True)
    heads = [n for n, line in enumerate(lines) if re.match(r"\s*\[", line)]
    start = next((n + 1 for n in heads if re.match(rf"\s*\[\s*{table}\s*\]", lines[n])), None) if table else 0
    if start is None:
        raise SagegateError(f"{file}: there is no line [{table}]: restore it from git", USAGE)
    end = next((n for n in heads if n >= start), len(lines))
    for key, value in values.items():
        new = "" if value is None else f"{key} = {toml_text(value) if isinstance(value, str) else repr(value)}"
        at = next((n for n in range(start, end) if re.match(rf"\s*{key}\s*=", lines[n])), None)
        if at is not None:
            comment = re.search(
                r"""^\s*\w+\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^#"']*?)(\s*(#.*)?)$""", lines[at].rstrip("\n")
            )
            lines[at] = f"{new}{comment[2] if comment else ''}\n" if new else ""
        elif new:
            at = max([n for n in range(start, end) if re.match(r"\s*\w+\s*=", lines[n])], default=start - 1) + 1
            lines[at:at] = [f"{new}\n"]
            end += 1
    edited = "".join(lines)
    try:
        found = tomllib.loads(edited)
        expected = tomllib.loads(text)
    except ValueError:
        found, expected = {}, {"": 1}
    part = expected.setdefault(table, {}) if table else expected
    part |= {key: value for key, value in values.items() if value is not None}
    for key in [key for key, value in values.items() if value is None]:
        part.pop(key, None)
    if found != expected:
        raise SagegateError(
            f"{file}: write {', '.join(values)} as `key = value`, a line each, so that it can be edited"
        )
    return edited
