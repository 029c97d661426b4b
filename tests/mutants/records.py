"""Faults to put into the code, one at a time, and the tests that must notice each."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tests.helpers.paths import ROOT

FAULTS = Path(__file__).parent / "faults"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A subtle fault: text of a file that is replaced by another.

    Attributes:
        name: what is wrong, as a short name.
        file: path of the file, from the root of the project.
        old: text that occurs in it exactly once.
        new: text in its place.
        tests: files or test ids; at least one of the tests must fail.
        why: which promise the fault breaks.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def applied(self, text: str) -> str:
        """Return the text of the file with the fault.

        Raises:
            ValueError: the old text does not occur exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: its old text occurs {found} times in {self.file}; expected once")
        return text.replace(self.old, self.new)


@cache
def faults() -> tuple[Fault, ...]:
    """Return all faults, in the order of the files in `faults/`."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(FAULTS.glob("*.yaml")))
    records = (record for text in texts for record in yaml.safe_load(text))
    return tuple(Fault(**{**record, "tests": tuple(record["tests"])}) for record in records)


def applies(fault: Fault, root: Path = ROOT) -> bool:
    """Whether the old text occurs exactly once in the file."""
    path = root / fault.file
    return path.is_file() and path.read_text(encoding="utf-8").count(fault.old) == 1
