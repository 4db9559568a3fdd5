"""Text from elsewhere in GitHub's markdown: shown as it is, and never as markup, a mention, a link or a command."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 300  # characters of one value


def code(text: object, in_table: bool = False) -> str:
    """`text` as a code span, in which GitHub resolves no @mention, #number, link or HTML. Empty text stays empty.

    The span's fence is longer than any run of backticks inside (CommonMark, "Code spans"); a table's cell ends at a
    bar even inside a span, unless it is escaped (GitHub Flavored Markdown, "Tables").
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 1]}…"
    if not line:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return fence + pad + (line.replace("|", "\\|") if in_table else line) + pad + fence


def link(text: object, url: str, in_table: bool = False) -> str:
    """A link whose text is `text` as code; only the text where the URL is not a plain https one."""
    is_plain = re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+", url)
    return f"[{code(text, in_table)}]({url})" if is_plain and text else code(text, in_table)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """A table's lines; cells are markdown already. Columns from `numbers_from` on are aligned to the right."""
    rule = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]
