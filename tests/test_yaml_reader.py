"""The reader of definition files: what it reads, and that no file can harm."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fbnet_zoo import arch_file, yaml_reader
from fbnet_zoo.errors import DefinitionError, InputError
from fbnet_zoo.yaml_reader import MAX_BYTES, MAX_DEPTH, read

SMALL = 4 * 1024 * 1024
"""Bytes of Python memory that refusing a hostile document may take."""


def error_of(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        read(text, "file")
    return str(caught.value)


@pytest.fixture
def sparing() -> Iterator[None]:
    """Fails the test when Python's memory grows by more than SMALL."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < SMALL, f"took {peak} bytes"


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("3", 3), ("-3", -3), ("+3", 3), ("0", 0), ("0.5", 0.5), (".5", 0.5), ("1.", 1.0), ("1e-5", 1e-5),
            ("1.5E+3", 1500.0), ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
            ("word", "word"), ('"3"', "3"), ("'true'", "true"), ("''", ""), ('"\\u00e9"', "é"),
            # Neither boolean, number, date nor sum of sixties: words.
            ("n", "n"), ("yes", "yes"), ("on", "on"), ("True", "True"), ("3:30", "3:30"), ("010", "010"),
            ("0x10", "0x10"), ("1_000", "1_000"), (".inf", ".inf"), (".nan", ".nan"), ("2020-01-01", "2020-01-01"),
            ("9" * 19, "9" * 19),
        ],
    )  # fmt: skip
    def test_value(self, text: str, value: object) -> None:
        read_value = read(f"key: {text}", "file").plain()["key"]
        assert read_value == value
        assert type(read_value) is type(value)

    @pytest.mark.parametrize("number", [0, -1, 7, 10**17, 0.1, 1e-300, 1.5e300, 123456.789])
    def test_numbers_are_pythons(self, number: float) -> None:
        assert read(f"key: {number!r}", "file").plain() == {"key": number}

    def test_blocks_and_comments(self) -> None:
        text = "# first\nkey: |\n  a\n  b\nother: >-\n  c\n  d  # text\nlast: [1, {a: b}]  # comment\n"
        assert read(text, "file").plain() == yaml.safe_load(text) | {"last": (1, {"a": "b"})}

    def test_keys_are_text(self) -> None:
        assert read("8: a\n'16': b\nn: c", "file").plain() == {"8": "a", "16": "b", "n": "c"}


class TestLines:
    def test_every_node_knows_its_line(self) -> None:
        root = read("a: 1\nb:\n  - c: 2\n    d:\n      3\n  - [4,\n     5]\n", "file")
        assert isinstance(root.value, dict)
        rows = root.value["b"].value
        assert isinstance(rows, list)
        assert [root.value["a"].line, root.value["b"].line, rows[0].line, rows[1].line] == [1, 2, 3, 6]
        first, second = rows[0].value, rows[1].value
        assert isinstance(first, dict)
        assert isinstance(second, list)
        assert [first["c"].line, first["d"].line, second[1].line] == [3, 4, 7]

    def test_a_location_leads_to_a_line(self) -> None:
        root = read("stages:\n  4:\n    - {k: 3}\n    - k: 3\n      s: 2\n  2:\n    - {k: 5}\n", "file")
        lines = {
            ("stages",): 1,
            ("stages", 0): 2,
            ("stages", 1): 6,
            ("stages", 1, "blocks", 0, "kernel_size"): 7,
            ("stages", 0, "blocks", 1, "stride"): 5,
            ("stages", 0, "blocks", 1, "padding"): 4,
            ("stages", 9): 1,
            ("absent", "below"): 1,
        }
        letters = {"k": "kernel_size", "s": "stride", "pad": "padding"}
        assert {location: yaml_reader.line_of(root, location, letters) for location in lines} == lines


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "1: expected a mapping of keys such as 'name', 'stem' and 'stages'"),
            ("# only a comment\n", "1: expected a mapping of keys such as 'name', 'stem' and 'stages'"),
            ("- a\n- b\n", "1: expected a mapping of keys such as 'name', 'stem' and 'stages'"),
            ("word", "1: expected a mapping of keys such as 'name', 'stem' and 'stages'"),
            ("a: 1\n---\nb: 2\n", "3: a second document starts here; a file holds one definition"),
            ("a: 1\nb: &x 2\n", "2: anchors and aliases are not allowed; write the value out"),
            ("a: 1\nb: *x\n", "2: anchors and aliases are not allowed; write the value out"),
            ("a: !!int 1\n", "1: the tag 'tag:yaml.org,2002:int' is not allowed; a definition is plain data"),
            ("a: !x {b: 1}\n", "1: the tag '!x' is not allowed; a definition is plain data"),
            ("a: 1\n<<: 2\na: 3\n", "3: duplicate key 'a'; keep one"),
            ("8: 1\n'8': 3\n", "2: duplicate key '8'; keep one"),
            ("a:\n  b: 1\n  b: 2\n", "3: duplicate key 'b'; keep one"),
            ("true: 1\n", "1: true is not a valid key; expected a word or a whole number"),
            ("1.5: 1\n", "1: 1.5 is not a valid key; expected a word or a whole number"),
            ("a: 1\n? [b, c]\n: 2\n", '2: ["b", "c"] is not a valid key; expected a word or a whole number'),
            ("a: 1\nb: \x00\n", "2: the character '\\x00' is not allowed; expected a YAML definition"),
            ("a: 1\nb: \u2028\n", "2: the character '\\u2028' is not allowed; expected a YAML definition"),
        ],
    )
    def test_text(self, text: str, error: str) -> None:
        assert error_of(text) == f"file:{error}"

    @pytest.mark.parametrize(
        ("text", "line"), [("a: 1\n\tb: 2\n", 2), ("a:\n  b: 1\n c: 2\n", 3), ("a: 1\nb: [1\n", 3)]
    )
    def test_broken_yaml(self, text: str, line: int) -> None:
        """What exactly is wrong is said in the parser's words, which differ from version to version."""
        assert error_of(text).startswith(f"file:{line}: not valid YAML: ")

    def test_python_objects(self, tmp_path: Path) -> None:
        """The text would make a file if it were loaded unsafely."""
        victim = tmp_path / "victim"
        error = error_of(f"name: tiny\nsummary: !!python/object/apply:pathlib.Path.touch ['{victim}']\n")
        assert error.startswith(
            "file:2: the tag 'tag:yaml.org,2002:python/object/apply:pathlib.Path.touch' is not allowed"
        )
        assert not victim.exists()


@pytest.mark.usefixtures("sparing")
class TestHostile:
    def test_billion_laughs(self) -> None:
        lines = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
        assert error_of("\n".join(lines)) == "file:1: anchors and aliases are not allowed; write the value out"

    @pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "a:\n"])
    def test_deep_nesting(self, piece: str) -> None:
        text = (
            nested_lines(500) if piece.endswith("\n") else "top: " + "\n  " * (piece in {"- ", "? "}) + piece * 100_000
        )
        assert f"nested deeper than {MAX_DEPTH} levels, the limit for a definition" in error_of(text[:MAX_BYTES])

    def test_large_text(self) -> None:
        assert (
            error_of("#" * (MAX_BYTES + 1)) == "file:1: larger than 256 KiB, the limit for a definition; check the path"
        )

    def test_large_file(self, tmp_path: Path) -> None:
        path = tmp_path / "large.yaml"
        with path.open("wb") as file:
            file.truncate(1 << 40)  # a hole: takes no space
        with pytest.raises(DefinitionError) as caught:
            yaml_reader.load_text(path)
        assert str(caught.value) == f"{path}:1: larger than 256 KiB, the limit for a definition; check the path"

    def test_endless_file(self) -> None:
        with pytest.raises(DefinitionError, match="/dev/zero:1: larger than 256 KiB"):
            yaml_reader.load_text(Path("/dev/zero"))

    def test_long_scalars_are_not_repeated_in_full(self) -> None:
        text = "name: " + "x" * (MAX_BYTES - 100)
        with pytest.raises(DefinitionError) as caught:
            arch_file.parse(text + "\nfamily: fbnet\n", "file")
        assert len(str(caught.value)) < 300


def nested_lines(depth: int) -> str:
    return "".join(f"{' ' * level}a:\n" for level in range(depth))


class TestFiles:
    def test_binary(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.yaml"
        path.write_bytes(b"a: 1\n\x80\x02}q\x00.")
        with pytest.raises(DefinitionError) as caught:
            yaml_reader.load_text(path)
        assert str(caught.value) == f"{path}:2: not UTF-8 text; expected a YAML definition"

    @pytest.mark.parametrize(("name", "why"), [("absent.yaml", "No such file or directory"), (".", "Is a directory")])
    def test_unreadable(self, tmp_path: Path, name: str, why: str) -> None:
        with pytest.raises(InputError) as caught:
            yaml_reader.load_text(tmp_path / name)
        assert str(caught.value) == f"cannot read {tmp_path / name}: {why}; expected a YAML definition"

    def test_byte_order_mark_and_windows_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "windows.yaml"
        path.write_bytes("\ufeffa: 1\r\nb: é\r\n".encode())
        root = read(yaml_reader.load_text(path), "file")
        assert root.plain() == {"a": 1, "b": "é"}
        assert yaml_reader.line_of(root, ("b",), {}) == 2
