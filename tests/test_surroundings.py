"""No test depends on the terminal, on the length of a path, or on signals that whoever runs it has ignored."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fbnet_zoo.cli import screen
from tests.helpers.paths import ROOT

CHILD = """
import signal, subprocess

def test_programs_hear_signals():
    trap = "trap 'exit 7' HUP INT; kill -{} $$; exit 0"
    for name in ("HUP", "INT"):
        assert subprocess.run(["sh", "-c", trap.format(name)]).returncode == 7

def test_we_are_interrupted():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return
    raise AssertionError
"""


def test_texts_are_not_wrapped_however_long_a_path_is(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = f"{'/a/long/folder' * 100}.pte takes 1.2 times as long"
    table = screen.table("file", "other")
    table.add_row(sentence, "here")
    screen.show(sentence, table)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if sentence in line] == [lines[0], lines[2]]


def test_no_test_makes_up_for_a_terminal() -> None:
    """Joining the lines of an output hides where it breaks, and fails where it breaks in a word."""
    cure = re.compile(r"""(stdout|stderr|\.out|\.err)\.(replace\("\\n"|split\(\)\))""")
    found = [path for path in (ROOT / "tests").rglob("*.py") if cure.search(path.read_text())]
    assert found == []


@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGHUP)])
def test_ignored_signals_do_not_reach_programs(tmp_path: Path, ignored: tuple[signal.Signals, ...]) -> None:
    (tmp_path / "test_child.py").write_text(CHILD)
    line = ["-m", "pytest", "-q", "-p", "tests.helpers.surroundings", "-p", "no:cacheprovider", "--noconftest"]

    def ignore() -> None:  # as nohup does, and a shell to what it starts in the background
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, *line, "--rootdir", tmp_path, "test_child.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        preexec_fn=ignore,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
