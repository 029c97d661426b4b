"""What is printed is literal, fits narrow terminals, and survives streams of any kind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from fbnet_zoo import list_models
from fbnet_zoo.atomic import storing_in
from fbnet_zoo.cli import screen
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.literal import LiteralConsole, literal
from fbnet_zoo.data import photographs
from fbnet_zoo.deploy.snippets import code, markdown
from fbnet_zoo.errors import InputError
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import TINY

HOSTILE = (
    "tabby [cat]",
    "a[/b]c",
    ":smile:",
    "[link=file:///]x[/link]",
    "\x1b[31mred",
    "\x9b2J",
    "\u202egnp",
    "<script>",
)
"""Names that style or steer a terminal which interprets them."""

COMMAND = [sys.executable, "-m", "fbnet_zoo"]


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, and of every group."""
    todo: list[tuple[tuple[str, ...], object]] = [((), typer.main.get_command(app))]
    while todo:
        words, command = todo.pop()
        yield words
        todo += [((*words, name), each) for name, each in getattr(command, "commands", {}).items()]


def capture(*renderables: object, width: int = 60) -> str:
    """Return what a console prints of renderables."""
    console = LiteralConsole()
    console.width = width
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    return captured.get()


class TestLiteral:
    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("wrap", [str, Text])
    def test_names_are_printed_as_they_are(self, name: str, wrap: type) -> None:
        table = screen.table("name", "value")
        table.add_row(wrap(name), "1")
        for printed in (capture(wrap(name)), capture(table)):
            assert literal(name) in printed
            assert not set(printed) & set("\x1b\x9b\u202e")

    def test_a_newline_in_a_message_begins_no_second_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        with screen.opened():
            screen.say("note", "reading a\nerror: b\x1b[2J", "cyan")
        assert capsys.readouterr().err == "note: reading a\\nerror: b\\x1b[2J\n"

    def test_classes_of_a_network(self, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        names = [*HOSTILE, *(f"class {index}" for index in range(len(HOSTILE), 1000))]
        labels.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        words = ["predict", TINY, photographs()[0], "--weights", "none", "--labels", labels, "--top", len(names)]
        result = CliRunner().invoke(app, [*map(str, words)])
        assert result.exit_code == 0, result.stderr
        assert all(literal(name) in result.stdout for name in names)
        assert "\x1b" not in result.stdout

    @pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a | b", "*x* _y_ [z](javascript:0)", "one\n# two"])
    def test_markdown(self, text: str) -> None:
        shown = str(markdown(text))
        assert "<" not in shown
        assert "\n" not in shown
        assert not re.search(r"(?<!\\)[|*\[\]]", shown)
        assert "|" not in str(code(text)).replace("\\|", "")


class TestNarrow:
    @pytest.mark.parametrize("words", list(commands()), ids=" ".join)
    def test_names_of_options_are_whole(self, words: tuple[str, ...]) -> None:
        pages = [CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(width)}).stdout for width in (60, 200)]
        names = [set(re.findall(r"(?<=[ ,])--[a-z][a-z-]*(?=[ ,])", page)) for page in pages]
        assert names[1] <= names[0]

    @pytest.mark.parametrize(
        "words", [("list",), ("space", "list"), ("lut", "list"), ("lint", "fbnet_b"), ("show", "fbnetv3_a")]
    )
    def test_no_name_is_broken(self, words: tuple[str, ...]) -> None:
        narrow, wide = (
            CliRunner().invoke(app, words, env={"COLUMNS": str(columns)}).stdout.splitlines() for columns in (60, 160)
        )
        assert max(map(len, narrow)) <= 60 or words == ("show", "fbnetv3_a")  # whose addresses are never wrapped
        first = {line.split()[0] for line in wide if line.strip() and not line.startswith(" ")}
        names = {word for word in first if "_" in word or "." in word}
        assert names <= {line.split()[0] for line in narrow if line.strip()}

    def test_a_table_that_does_not_fit_becomes_paragraphs(self) -> None:
        table = screen.table("layer", ">params\nM")
        table.add_row("stages.32.0.depthwise", "12.5")
        table.add_row("stages.32.1.depthwise", "")
        assert [line.split() for line in capture(table, width=24).splitlines()] == [
            ["stages.32.0.depthwise"], ["params", "M", "12.5"], ["stages.32.1.depthwise"]
        ]  # fmt: skip
        assert capture(table, width=30).splitlines()[2].split() == ["stages.32.0.depthwise", "12.5"]


class TestStreams:
    @pytest.mark.parametrize("words", first_is_quick(["list", "list --json", "search --help", "--version"]))
    def test_full(self, words: str) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*COMMAND, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "No space left on device" in done.stderr

    @pytest.mark.parametrize("words", first_is_quick(["list --json", "list", "search --help"]))
    def test_reader_that_left(self, words: str) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            done = subprocess.run(
                [*COMMAND, *words.split()], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr) == (1, "")

    @pytest.mark.parametrize("closing", first_is_quick(["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]))
    def test_closed(self, closing: str) -> None:
        script = " ".join([*COMMAND, "{}", closing])
        done = [subprocess.run(["bash", "-c", script.format(words)], capture_output=True, text=True, check=False)
                for words in ("list --json", "show no_such_network")]  # fmt: skip
        assert [each.returncode for each in done] == [0, 2]
        assert not any("Traceback" in each.stderr for each in done)

    @pytest.mark.slow
    def test_errors_nobody_can_read(self) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([*COMMAND, "show", "x", "--json"], stdout=subprocess.PIPE, stderr=full, check=False)
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["exit_code"] == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("encoding", first_is_quick(["ascii", "latin-1", "cp1252", "utf-8", "utf-16"]))
    def test_encodings(self, encoding: str) -> None:
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        for words, code_ in [(("show", "fbnet_b"), 0), (("lint", "--help"), 0), (("show", b"caf\xc3\xa9\xff\x1b"), 2)]:
            done = subprocess.run([*COMMAND, *words], env=environment, capture_output=True, check=False)
            assert done.returncode == code_
            assert b"Traceback" not in done.stderr
            assert b"bug" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("shutil: [('a', 'b', \"[Errno 28] No space left on device: 'a' -> 'b'\")]"),
        OSError(30, "Read-only file system"),
    ],
)
def test_a_full_disk_names_the_folder(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))} cannot be written .*free some space"),
        storing_in(tmp_path),
    ):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other"), storing_in(tmp_path):
        raise ValueError("other")


def test_every_network_is_listed_whole_at_60_columns() -> None:
    lines = CliRunner().invoke(app, ["list"], env={"COLUMNS": "60"}).stdout.splitlines()
    assert set(list_models()) <= {line.split()[0] for line in lines if line.strip()}


def test_consoles_of_others_are_unchanged() -> None:
    assert "bold" not in Console().render_str("[bold]x[/]").plain
