"""Applies one fault at a time to a copy of the project, and runs the tests that must notice it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.mutants.records import Fault, applies

Outcome = Literal["noticed", "not noticed", "does not apply", "broken"]

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".web", ".hypothesis", "__pycache__", "runs", "build", "dist", ".*_cache"
)
_PYTEST = ("-m", "pytest", "-x", "-q", "--benchmark-disable", "-p", "no:cacheprovider")
_SECONDS = 900
"""Time limit of the tests of one fault; an endless loop counts as noticed."""

_PASSED, _FAILED = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one fault.

    Attributes:
        name: name of the fault.
        digest: digest of the fault and of the file that it changes; a result with another digest is out of date.
        outcome: `broken` if pytest could not run the tests at all, for example because the file cannot be imported.
        detail: last line of pytest's output.
    """

    name: str
    digest: str
    outcome: Outcome
    detail: str


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """Yield a copy of the project, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(root, copy, symlinks=True, ignore=_LEFT_OUT)
        yield copy


def digest(fault: Fault, root: Path) -> str:
    """Return a digest of a fault and of the file that it changes."""
    path = root / fault.file
    content = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(json.dumps(asdict(fault)).encode() + content).hexdigest()[:16]


def outcome_of(fault: Fault, root: Path, copy: Path) -> Result:
    """Put a fault into the copy, run its tests, and take it out again."""
    told = {"name": fault.name, "digest": digest(fault, root)}
    if not applies(fault, root):
        return Result(**told, outcome="does not apply", detail=f"its old text does not occur once in {fault.file}")
    path = copy / fault.file
    try:
        path.write_text(fault.applied(path.read_text(encoding="utf-8")), encoding="utf-8")
        outcome, detail = _run(fault.tests, copy)
    finally:
        shutil.copy2(root / fault.file, path)  # with its old time, so that no bytecode of the fault is taken for it
    return Result(**told, outcome=outcome, detail=detail)


def passes(tests: Iterable[str], copy: Path) -> tuple[bool, str]:
    """Whether tests pass without a fault, and the last line of pytest's output."""
    outcome, detail = _run(tuple(dict.fromkeys(tests)), copy)
    return outcome == "not noticed", detail


def _run(tests: tuple[str, ...], copy: Path) -> tuple[Outcome, str]:
    ground = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    line = [sys.executable, *_PYTEST, *tests]
    try:
        done = subprocess.run(line, cwd=copy, env=ground, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "noticed", f"no end within {_SECONDS} s"
    lines = (done.stdout + done.stderr).strip().splitlines()
    known: dict[int, Outcome] = {_PASSED: "not noticed", _FAILED: "noticed"}
    return known.get(done.returncode, "broken"), lines[-1] if lines else "no output"


def known_results(path: Path) -> dict[str, Result]:
    """Return the results in a file, by name of the fault."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {result.name: result for result in (Result(**json.loads(line)) for line in lines)}


def add_result(path: Path, result: Result) -> None:
    """Append a result to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def summary(results: Iterable[Result]) -> str:
    """Return the number of faults of each outcome, and the names of those that were not noticed."""
    found = list(results)
    counts = Counter(result.outcome for result in found)
    share = counts["noticed"] / len(found) if found else 0.0
    lines = [f"{counts['noticed']} of {len(found)} faults were noticed ({share:.0%})"]
    lines += [f"{each.outcome}: {each.name} ({each.detail})" for each in found if each.outcome != "noticed"]
    return "\n".join(lines)
