"""Claims of folders and temporary folders end with their process, and never before."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import claimed, temporary
from fbnet_zoo.train import RunFolder
from tests.helpers.paths import ROOT
from tests.helpers.programs import LONGEST_S, Program

IN_USE = "run is in use by another run; wait until it ends, or use another folder"


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Program]:
    """A process that claims a folder, and has forked another."""

    def claim(program: Program) -> None:
        with claimed(tmp_path / "run"):
            child = os.fork()
            if child:
                (tmp_path / "child").write_text(str(child))
                program.announce()
            time.sleep(LONGEST_S)

    program = Program(claim, tmp_path)
    program.wait_for_work()
    yield program
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_claim_is_respected_until_its_owner_is_killed(owner: Program, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=IN_USE), claimed(tmp_path / "run"):
        pass
    owner.send(signal.SIGKILL)
    assert owner.end() == -signal.SIGKILL
    os.kill(int((tmp_path / "child").read_text()), 0)  # what it forked lives, and holds nothing
    with claimed(tmp_path / "run"):
        pass


def test_a_refused_run_changes_nothing(owner: Program, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    for resume in (False, True):
        with pytest.raises(InputError, match=IN_USE), RunFolder(tmp_path / "run").claimed({}, {}, resume=resume):
            pass
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before
    owner.send(signal.SIGKILL)
    owner.end()


def test_a_claim_is_nested_in_its_own_thread_only(tmp_path: Path) -> None:
    def claim() -> None:
        with claimed(tmp_path / "run"):
            pass

    with claimed(tmp_path / "run"), ThreadPoolExecutor(1) as pool:
        with claimed(tmp_path / "there" / ".." / "run"):
            pass
        with pytest.raises(InputError, match=IN_USE):
            pool.submit(claim).result()
    claim()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_cannot_be_claimed(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with (
        pytest.raises(InputError, match=r"run cannot be created or written \(File exists\); use another folder"),
        claimed(tmp_path / "run"),
    ):
        pass


def test_temporary_folders_of_killed_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    def work(program: Program) -> None:
        with temporary() as folder:
            (folder / "half").write_text("half")
            program.announce()
            time.sleep(LONGEST_S)

    killed, living = Program(work, tmp_path), Program(work, tmp_path)
    for program in (killed, living):
        program.wait_for_work()
    killed.send(signal.SIGKILL)
    killed.end()
    theirs, empty = tmp_path / "scratch" / "fbnet_zoo-of-somebody", tmp_path / "scratch" / "fbnet_zoo-12345678"
    theirs.mkdir()
    (theirs / "results").touch()
    empty.mkdir()  # killed in the moment after it was made
    (tmp_path / "scratch" / "fbnet_zoo-link").symlink_to(tmp_path)
    left = len(list((tmp_path / "scratch").iterdir()))
    with temporary(tmp_path / "scratch") as folder:
        assert len(list((tmp_path / "scratch").iterdir())) == left - 1, "one more, and two fewer"
        assert not empty.exists()
        assert (theirs / "results").exists()
        assert (tmp_path / "scratch" / "fbnet_zoo-link").is_symlink()
        assert len(list((tmp_path / "scratch").glob("fbnet_zoo-*/half"))) == 1
    assert not folder.exists()
    living.send(signal.SIGKILL)
    living.end()


def test_partial_files_of_killed_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    def write(program: Program) -> None:
        from fbnet_zoo.atomic import atomic_file

        with atomic_file(tmp_path / "a.json") as file:
            file.write(b"half")
            file.flush()
            program.announce()
            time.sleep(LONGEST_S)

    killed, living = Program(write, tmp_path), Program(write, tmp_path)
    for program in (killed, living):
        program.wait_for_work()
    killed.send(signal.SIGKILL)
    killed.end()
    assert len(list(tmp_path.glob(".a.json.*"))) == 2
    write_atomically(tmp_path / "a.json", "whole")
    (partial,) = tmp_path.glob(".a.json.*")
    assert partial.read_text() == "half"
    living.send(signal.SIGKILL)
    living.end()
    assert (tmp_path / "a.json").read_text() == "whole"


def test_no_module_makes_temporary_folders_in_another_way() -> None:
    """Those inside a temporary folder are removed with it; the process of Core ML has its in that of its parent."""
    inside = {"fbnet_zoo/folders.py", "converters/conversion.py", "fbnet_zoo/deploy/build.py"}
    inside.add("benchmarks/runtimes/run_coreml.py")
    modules = (path for folder in ("fbnet_zoo", "converters", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
    found = {
        str(path.resolve().relative_to(ROOT))
        for path in modules
        if re.search(r"\b(mkdtemp|TemporaryDirectory)\(", path.read_text())
    }
    assert found == inside
