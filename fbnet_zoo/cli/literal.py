"""Text from outside (names of classes and files, messages of other programs) that cannot style or steer a terminal."""

import re
from collections.abc import Iterator
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_INVISIBLE = "\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[{_INVISIBLE}]")
_CONTROLS_AND_NEWLINES = re.compile(f"[{_INVISIBLE}\n]")


def literal(text: str) -> str:
    r"""Return a text on one line, with characters that steer a terminal as escapes.

    >>> literal("tabby\x1b[2J\ncat")
    'tabby\\x1b[2J\\ncat'
    """
    return _CONTROLS_AND_NEWLINES.sub(_escape, text)


def visible(text: str) -> str:
    """Return a text with characters that steer a terminal as escapes, except newlines."""
    return _CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class LiteralConsole(Console):
    """A console that interprets nothing in strings: no markup, no emoji codes, no control characters."""

    def __init__(self, *, file: IO[str] | None = None) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of a renderable, with control characters in its text as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
