"""Tables that stay readable in narrow terminals."""

from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from fbnet_zoo.cli.literal import visible


class FittedTable(Table):
    """A table without a box that breaks no word: if it does not fit, each row becomes a paragraph.

    Columns that are aligned to the right hold figures, which are never wrapped.
    """

    def add_row(self, *cells: RenderableType | None, **settings: Any) -> None:
        """Add a row, whose cells are measured as they are printed: with control characters as escapes."""
        super().add_row(*map(_visible, cells), **settings)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or a paragraph for each row if the width does not suffice."""
        measured = [_measure(column, console, options) for column in self.columns]
        gaps = sum(self.padding[1::2]) * (len(measured) - 1)
        spare = options.max_width - gaps - sum(each.minimum for each in measured)
        if spare < 0:
            yield from self._paragraphs()
            return
        for column, each in zip(self.columns, measured, strict=True):
            column.width = each.minimum + min(spare, each.maximum - each.minimum)
            spare -= column.width - each.minimum
        yield from super().__rich_console__(console, options)

    def _paragraphs(self) -> RenderResult:
        others = self.columns[1:]
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            yield Text(str(cells[0]), style="bold")
            facts = Table.grid(padding=(0, 2))
            for column, cell in zip(others, cells[1:], strict=True):
                if str(cell):
                    facts.add_row(f"  {' '.join(str(column.header).split())}", cell)
            if facts.row_count:
                yield facts


class HelpTable(Table):
    """A table of options that cuts no name: only the last column, the description, is wrapped."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table."""
        for column in self.columns[:-1]:
            column.no_wrap = True
        yield from super().__rich_console__(console, options)


def _visible(cell: RenderableType | None) -> RenderableType | None:
    if isinstance(cell, Text):
        return cell if visible(cell.plain) == cell.plain else Text(visible(cell.plain), style=cell.style)
    return visible(cell) if isinstance(cell, str) else cell


def _measure(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    """Return the width of the longest word and of the longest line of a column."""
    cells = [Measurement.get(console, options, cell) for cell in column.cells]
    header = Measurement.get(console, options, column.header)
    lines = max((cell.maximum for cell in cells), default=0)
    words = lines if column.justify == "right" else max((cell.minimum for cell in cells), default=0)
    return Measurement(max(words, header.minimum), max(lines, header.maximum))
