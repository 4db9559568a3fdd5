"""A report of headed tables, for a terminal and as GitHub's Markdown. Pure but for the printing."""

from __future__ import annotations

from dataclasses import dataclass

from mlops import show

FOLDED = 12  # rows; longer tables are folded away in Markdown


@dataclass(frozen=True)
class Section:
    """A table under a heading; the columns of `code` hold values, which Markdown sets as code."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    code: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outline:
    """A title, remarks that the reader must see, and sections."""

    title: str
    remarks: list[str]
    sections: list[Section]


def to_terminal(outline: Outline) -> None:
    """Print it as tables."""
    show.line(outline.title)
    for remark in outline.remarks:
        show.line(f"! {remark}")
    for section in outline.sections:
        show.line("")
        show.line(section.heading)
        show.table(section.columns, section.rows)


def to_markdown(outline: Outline) -> str:
    """It as GitHub's Markdown; long tables folded."""
    parts = [f"### {outline.title}"]
    parts += [f"> [!WARNING]\n> {remark}" for remark in outline.remarks]
    for section in outline.sections:
        table = [_row(section.columns), _row(["---"] * len(section.columns))]
        table += [_row([_cell(c, i in section.code) for i, c in enumerate(row)]) for row in section.rows]
        text = "\n".join(table)
        if len(section.rows) > FOLDED:
            heading = f"{section.heading} ({len(section.rows)})"
            parts.append(f"<details><summary>{heading}</summary>\n\n{text}\n\n</details>")
        else:
            parts.append(f"**{section.heading}**\n\n{text}")
    return "\n\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str, is_code: bool) -> str:
    """A cell: no line breaks, no column separators; outside of code nothing that Markdown or HTML would take up."""
    text = " ".join(text.split()).replace("|", "\\|")
    if is_code and text:
        return f"`{text.replace('`', chr(39))}`"
    return text.replace("<", "&lt;").replace(">", "&gt;")
