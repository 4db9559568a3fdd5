"""Write docs/reference/commands.md and settings.md from the package: `python scripts/reference.py`."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import click
import msgspec
from clean_copy import ROOT

from sagegate import config
from sagegate.cli import cli

FOLDER = ROOT / "docs" / "reference"
GENERATED = "Generated from the code by `python scripts/reference.py`; a test fails when it is stale.\n"
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}


def commands_page() -> str:
    """Return docs/reference/commands.md: each command with its arguments and options."""
    parts = ["# Commands\n", GENERATED]
    context = click.Context(cli, info_name="sagegate")
    for name in sorted(cli.commands):
        command = cli.commands[name]
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=name, parent=context)))
        parts += [
            f"## sagegate {name}\n",
            f"```text\nsagegate {name} {usage}\n```\n",
            inspect.cleandoc(command.help or ""),
        ]
        rows = [option_row(option) for option in command.params if isinstance(option, click.Option)]
        parts += ["", "| Option | Meaning |", "|---|---|", *rows, ""] if rows else [""]
    return "\n".join(parts)


def option_row(option: click.Option) -> str:
    """Return an option as a row of a table: its names, its help, its default and environment variable."""
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = f" `{option.make_metavar(click.Context(cli))}`" if not option.is_flag else ""
    default = f" Default: `{option.default}`." if option.show_default else ""
    variable = f" Environment variable: `{option.envvar}`." if option.envvar else ""
    return f"| {names}{value} | {cell(option.help or '')}{default}{variable} |"


def settings_page() -> str:
    """Return docs/reference/settings.md: each key of mlops.toml and environments/ENV.toml."""
    parts = ["# Settings\n", GENERATED]
    for title, model in (("mlops.toml", config.Settings), ("environments/ENV.toml", config.Environment)):
        parts += [f"## {title}\n", inspect.cleandoc(model.__doc__ or ""), ""]
        tables = list(sections(model))
        parts += table([field for field in fields(model) if struct_of(field[1]) is None])
        for name, section in tables:
            parts += [f"### [{name}]\n", inspect.cleandoc(section.__doc__ or ""), "", *table(list(fields(section)))]
    return "\n".join(parts)


def fields(model: type[msgspec.Struct]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, type hint, default) of a section."""
    hints = get_type_hints(model, include_extras=True)
    for field in msgspec.structs.fields(model):
        default = "required" if field.default is msgspec.NODEFAULT else f"`{field.default}`"
        if field.default_factory is not msgspec.NODEFAULT:
            default = f"`{field.default_factory()}`"
        yield field.name, hints[field.name], default


def sections(model: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield the tables of a settings file: name and structure."""
    for name, hint, _ in fields(model):
        inner = struct_of(hint)
        if inner is not None:
            yield name, inner


def struct_of(hint: Any) -> type[msgspec.Struct] | None:
    """Return the structure that a hint names, alone or as `Structure | None`."""
    candidates = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, msgspec.Struct)), None)


def table(rows: list[tuple[str, Any, Any]]) -> list[str]:
    """Return a Markdown table of keys."""
    if not rows:
        return []
    return [
        "| Key | Value | Default |",
        "|---|---|---|",
        *(f"| `{k}` | {cell(kind(h))} | {d} |" for k, h, d in rows),
        "",
    ]


def kind(hint: Any) -> str:
    """Return a type hint in words: `integer, >= 1, <= 100`."""
    if get_origin(hint) is Annotated:
        base, *metas = get_args(hint)
        limits = [f"{sign} {getattr(meta, name)}" for meta in metas for name, sign in BOUNDS.items() if has(meta, name)]
        examples = [f"such as `{meta.examples[0]}`" for meta in metas if has(meta, "examples")]
        return ", ".join([kind(base), *limits, *examples])
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(kind(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) in (list, tuple, dict):
        inner = [kind(part) for part in get_args(hint) if part is not Ellipsis]
        return f"table: {inner[0]} = {inner[1]}" if get_origin(hint) is dict else f"list of {inner[0]}"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", "")
    )


def has(meta: Any, name: str) -> bool:
    return getattr(meta, name, None) is not None


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"commands.md": commands_page, "settings.md": settings_page}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page().rstrip() + "\n", encoding="utf-8")
        print(f"wrote docs/reference/{name}")
