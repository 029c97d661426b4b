"""The faults can still be put into the code, their tests exist, and the runner tells which are noticed."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.mutants.records import Fault, applies, faults
from tests.mutants.runner import Result, add_result, digest, known_results, outcome_of, passes, summary

PACKAGES = {"fbnet_zoo", "converters", "benchmarks"}


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_fault_applies(fault: Fault) -> None:
    assert applies(fault), f"the old text of {fault.name!r} must occur exactly once in {fault.file}; update the record"
    assert fault.old != fault.new
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    compile(fault.applied(text), fault.file, "exec")
    for test in fault.tests:
        path, *names = test.split("::")
        content = (ROOT / path).read_text(encoding="utf-8")
        assert all(f"class {name}" in content or f"def {name}(" in content for name in names), f"there is no {test}"


def test_faults_are_many_and_everywhere() -> None:
    names = [fault.name for fault in faults()]
    assert len(set(names)) == len(names) >= 60
    assert {fault.file.partition("/")[0] for fault in faults()} == PACKAGES


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one function with two tests, one of which says nothing."""
    root = tmp_path / "project"
    (root / "tests").mkdir(parents=True)
    (root / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (root / "tests" / "test_sums.py").write_text(
        "from sums import add\n\n"
        "def test_sum():\n    assert add(2, 3) == 5\n\n"
        "def test_zero():\n    assert add(0, 0) == 0\n"
    )
    return root


def fault(test: str, old: str = "a + b", new: str = "a - b") -> Fault:
    return Fault(name=test, file="sums.py", old=old, new=new, tests=(f"tests/test_sums.py::{test}",), why="a sum")


@pytest.mark.slow
def test_outcomes(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    asked = [fault("test_sum"), fault("test_zero"), fault("test_sum", "a * b"), fault("test_sum", "a + b", "a +")]
    found = [outcome_of(each, project, copy) for each in asked]
    assert [each.outcome for each in found] == ["noticed", "not noticed", "does not apply", "broken"]
    assert (copy / "sums.py").read_bytes() == (project / "sums.py").read_bytes()
    assert passes([test for each in asked for test in each.tests], copy)[0]
    assert "a + b" in (project / "sums.py").read_text()
    text = summary(found)
    assert text.startswith("1 of 4 faults were noticed (25%)\nnot noticed: test_zero (")


def test_results_are_found_again_until_the_file_changes(project: Path, tmp_path: Path) -> None:
    path, record = tmp_path / "results" / "a.jsonl", fault("test_sum")
    assert known_results(path) == {}
    result = Result(name=record.name, digest=digest(record, project), outcome="noticed", detail="1 failed")
    add_result(path, result)
    assert known_results(path) == {record.name: result}
    (project / "sums.py").write_text("def add(a, b):\n    return b + a\n")
    assert digest(record, project) != result.digest
