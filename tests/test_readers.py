"""Whatever a file holds, its reader accepts it or says in one sentence what is wrong, and where."""

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fbnet_zoo.cli.screen import sentence
from fbnet_zoo.errors import FbnetZooError
from tests.helpers.damage import BOM, odd_bytes, odd_json
from tests.helpers.printed import PRINTED
from tests.helpers.readers import READERS, Reader

EACH = pytest.mark.parametrize("name", READERS)
LIBRARIES = re.compile(r"this is a bug|pydantic|Traceback|0x[0-9a-f]{8}|instance of|validat|\bkwargs?\b")
"""What only a library or a defect says."""
NUMBERS = ("1.2.3", "nan", "-1", "inf", "1e5", "", ".", "0", "0.0", "9" * 400, "9" * 5000, "twelve", "0x10", "\u0663")
"""In place of the numbers that programs print."""


def told(reader: Reader, content: bytes, folder: Path) -> str | None:
    """Return what the reader says about a content, `None` if it accepts it; any other exception is a failure."""
    folder.mkdir()
    path = folder / reader.file
    path.write_bytes(content)
    try:
        reader.read(path)
    except FbnetZooError as error:
        return sentence(error)
    return None


def variants(name: str, reader: Reader) -> Iterator[tuple[str, bytes]]:
    """Yield damaged contents of a file, the same in every run."""
    seed, valid = zlib.crc32(name.encode()), reader.valid
    yield from odd_bytes(valid, seed, 40)
    if reader.is_text and valid[:1] in {b"{", b"["}:
        lines = valid.splitlines()
        first = json.loads(lines[0] if len(lines) > 1 and lines[0].endswith(b"}") else valid)
        rest = b"\n".join(lines[1:]) if len(lines) > 1 and lines[0].endswith(b"}") else b""
        for what, content in odd_json(first, seed, 80):
            yield what, json.dumps(content).encode() + b"\n" + rest


@EACH
def test_a_valid_file_is_read(name: str, tmp_path: Path) -> None:
    assert told(READERS[name], READERS[name].valid, tmp_path / "valid") is None


@EACH
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    if not reader.is_text:
        pytest.skip("not a text file")
    found = []
    for at, content in enumerate((reader.valid, BOM + reader.valid, BOM + reader.valid.replace(b"\n", b"\r\n"))):
        path = tmp_path / f"{at}" / reader.file
        path.parent.mkdir()
        path.write_bytes(content)
        found.append(re.sub(rf"{re.escape(str(path.parent))}|0x[0-9a-f]+", "", repr(reader.read(path))))
    assert found[0] == found[1] == found[2]
    assert "\ufeff" not in found[1]


@EACH
def test_no_content_of_a_file_is_a_defect(name: str, tmp_path: Path) -> None:
    reader, refused = READERS[name], 0
    for number, (what, content) in enumerate(variants(name, reader)):
        message = told(reader, content, tmp_path / f"{number}")
        if message is not None:
            refused += 1
            assert not LIBRARIES.search(message), f"{what}: {message}"
            assert len(message) < 1500, f"{what}: {message}"
    assert refused > 5


@pytest.mark.parametrize("name", PRINTED)
def test_no_output_of_a_program_is_a_defect(name: str) -> None:
    """Every number in turn is replaced by what is none or makes no sense, then bytes are changed anywhere."""
    text, read = PRINTED[name]
    numbers = list(re.finditer(r"\d+(?:\.\d+)?", text))
    odd = [text[: each.start()] + token + text[each.end() :] for each in numbers for token in NUMBERS]
    odd += [content.decode(errors="replace") for _, content in odd_bytes(text.encode(), zlib.crc32(name.encode()), 100)]
    for each in (text, *odd):
        message = ""
        try:
            read(each)
        except FbnetZooError as error:
            message = sentence(error)
        assert not LIBRARIES.search(message), message
