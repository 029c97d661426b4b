"""Pages from templates: everything that a page needs is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Of a table.

    Attributes:
        title: in the head, with the unit of all cells if they share one.
        numeric: aligned to the right.
    """

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; text is escaped, `Markup` is not.

    Attributes:
        caption: what it shows, for those who cannot see where it stands.
        columns: the first one names the row.
        rows: as many cells each as there are columns.
        total: a last row that sums up.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number at the top of a page.

    Attributes:
        value: of it, with its unit.
        title: what it is.
        note: more of it.
        verdict: `good` or `warn`, where the note is one.
    """

    value: str
    title: str
    note: str = ""
    verdict: str = ""


def columns(*titles: str) -> tuple[Column, ...]:
    """Return columns; `>` in front of a title makes it one of numbers.

    >>> columns("file", ">size, MB")[1]
    Column(title='size, MB', numeric=True)
    """
    return tuple(Column(title=title.removeprefix(">"), numeric=title.startswith(">")) for title in titles)


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes; every value that is no `Markup` is escaped."""
    return _environment().get_template(template).render(**values)


def span(text: str, *, class_: str = "", title: str = "") -> Markup:
    """Return text with a style, or with more under the pointer.

    >>> span("19.28 MB", title="19,275,928 bytes")
    Markup('<span title="19,275,928 bytes">19.28 MB</span>')
    """
    said = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in (("class", class_), ("title", title)) if value
    )
    return Markup("<span{}>{}</span>").format(said, text)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fbnet_zoo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
