"""What surrounds a test run and must not decide it: the terminal, and the signals that it ignores.

Every test, and every program that a test starts, has one terminal without colors, so wide that no text is wrapped,
whatever the length of the paths in it. A test of narrow terminals sets `COLUMNS` itself.
"""

import os
import signal
from collections.abc import Iterator

import pytest

COLUMNS = 4000
"""Wider than any text with the longest path that a system allows."""

PATIENCE_S = 900
"""How long a test waits for what must come: only a hanging program takes so long, on however busy a machine."""

_DECIDED_ELSEWHERE = (
    *("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS"),  # colors
    *("TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),  # what typer and rich ask for
)
_INTERRUPTIONS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)

for name in _DECIDED_ELSEWHERE:  # typer reads some of them when it is imported
    os.environ.pop(name, None)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Set the terminal of the tests; pytest's own lines keep the width of the real one."""
    if session.config.pluginmanager.hasplugin("terminalreporter"):
        writer = session.config.get_terminal_writer()
        writer.fullwidth = writer.fullwidth
    os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "dumb"}


@pytest.fixture(scope="session", autouse=True)
def signals_arrive() -> Iterator[None]:
    """Let the programs that tests start hear signals, although `nohup` or a shell's `&` make us ignore them.

    A program inherits that a signal is ignored, and its shell cannot trap it; it does not inherit a handler.
    """
    ignored = [number for number in _INTERRUPTIONS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _go_on)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def _go_on(*_: object) -> None:
    pass
