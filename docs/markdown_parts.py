"""Tables and paragraphs in Markdown."""

import textwrap
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a header and rows; cells must not contain `|`."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str) -> str:
    """Return paragraphs wrapped to lines of equal length."""
    paragraphs = (" ".join(each.split()) for each in text.strip().split("\n\n"))
    wrapped = (textwrap.fill(each, 120, break_long_words=False, break_on_hyphens=False) for each in paragraphs)
    return "\n\n".join(wrapped)
