"""Rendering of self-contained pages from templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        title: column header, with the unit if all cells share it.
        numeric: whether cells are aligned to the right.
    """

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; text is escaped, `Markup` is not.

    Attributes:
        caption: caption, complete without the surrounding page.
        columns: columns; the first names the row.
        rows: rows, with one cell per column.
        total: last row with totals.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number at the top of a page.

    Attributes:
        value: number with its unit.
        title: name of the number.
        note: additional information.
        verdict: `good` or `warn` if the note is a verdict.
    """

    value: str
    title: str
    note: str = ""
    verdict: str = ""


def columns(*titles: str) -> tuple[Column, ...]:
    """Return columns; a title that starts with `>` makes a numeric one.

    >>> columns("file", ">size, MB")[1]
    Column(title='size, MB', numeric=True)
    """
    return tuple(Column(title=title.removeprefix(">"), numeric=title.startswith(">")) for title in titles)


def render(template: str, **values: Any) -> str:
    """Return the page from a template of this package; all values but `Markup` are escaped."""
    return _environment().get_template(template).render(**values)


def span(text: str, *, class_: str = "", title: str = "") -> Markup:
    """Return text with a CSS class or a tooltip.

    >>> span("19.28 MB", title="19,275,928 bytes")
    Markup('<span title="19,275,928 bytes">19.28 MB</span>')
    """
    attributes = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in (("class", class_), ("title", title)) if value
    )
    return Markup("<span{}>{}</span>").format(attributes, text)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fbnet_zoo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
