"""Files at their final names: old or new, never half, whatever moment the process is killed at."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fbnet_zoo.converters.publish import companions, publish, workplace
from fbnet_zoo.errors import InputError

KILLED = """
import os, signal, sys
from pathlib import Path
from fbnet_zoo.converters.publish import publish, workplace

out, kind, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
done = 0

def counted(move):
    def run(self, *args, **kwargs):
        global done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return move(self, *args, **kwargs)
    return run

with workplace(out) as folder:
    own = folder / "own"
    own.mkdir()
    new = own / "net.file"
    if kind == "folder":
        new.mkdir()
    for part in ([new / "a", new / "b"] if kind == "folder" else [new]):
        part.write_text("new")
    manifest = own / "net.file.json"
    manifest.write_text("of new")
    for name in ("unlink", "rename", "replace"):
        setattr(Path, name, counted(getattr(Path, name)))
    publish(new, manifest, out)
    print("finished")
"""


def content(path: Path) -> set[str]:
    return {part.read_text() for part in ([path / "a", path / "b"] if path.is_dir() else [path])}


def make_old(out: Path, kind: str) -> None:
    file = out / "net.file"
    if kind == "folder":
        file.mkdir()
    for part in [file / "a", file / "b"] if kind == "folder" else [file]:
        part.write_text("old")
    (out / "net.file.json").write_text("of old")


def run_and_kill(out: Path, kind: str, step: int) -> bool:
    """Publish in a process that dies before its `step`-th change; return whether it lived."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), kind, str(step)], capture_output=True, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_leaves_old_or_new(tmp_path: Path, kind: str, replacing: bool) -> None:
    lived, step = False, 0
    while not lived:
        out = tmp_path / str(step)
        out.mkdir()
        if replacing:
            make_old(out, kind)
        lived = run_and_kill(out, kind, step)
        with workplace(out):
            pass  # the next run
        left = {path.name for path in out.iterdir()}
        assert left <= {"net.file", "net.file.json"}
        if replacing:
            assert "net.file" in left
        if "net.file" in left:
            assert content(out / "net.file") in ({"old"}, {"new"})
        if "net.file.json" in left:
            (text,) = content(out / "net.file")
            assert (out / "net.file.json").read_text() == f"of {text}"
        step += 1
    assert step >= 3
    assert left == {"net.file", "net.file.json"}
    assert content(out / "net.file") == {"new"}


def test_companions_are_moved_along(tmp_path: Path) -> None:
    with workplace(tmp_path) as folder:
        for name in ("net.pte", "net.bpte", "net.pte.json"):
            (folder / name).write_text(name)
        path, manifest = folder / "net.pte", folder / "net.pte.json"
        assert companions(path, manifest) == [folder / "net.bpte"]
        assert publish(path, manifest, tmp_path) == (tmp_path / "net.pte", tmp_path / "net.pte.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bpte", "net.pte", "net.pte.json"]


def test_file_takes_the_place_of_a_folder_and_the_other_way_round(tmp_path: Path) -> None:
    for make in (Path.mkdir, Path.touch, Path.mkdir, Path.mkdir):
        with workplace(tmp_path) as folder:
            make(folder / "net.file")
            (folder / "net.file.json").touch()
            publish(folder / "net.file", folder / "net.file.json", tmp_path)
        assert (tmp_path / "net.file").is_dir() == (make is Path.mkdir)


def test_workplaces_in_use_are_left_alone(tmp_path: Path) -> None:
    with workplace(tmp_path) as first, workplace(tmp_path) as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()
    assert not list(tmp_path.iterdir())


def hold(out: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with workplace(out):
        ready.set()
        signal.pause()


def test_workplace_of_another_process_goes_only_after_its_end(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready))
    other.start()
    try:
        assert ready.wait(60)
        with workplace(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        os.kill(other.pid or 0, signal.SIGKILL)
        other.join()
    with workplace(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def fail_in(out: Path) -> None:
    with workplace(out) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError("broken")


def test_workplace_goes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        fail_in(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with (
        pytest.raises(InputError, match=r"taken: cannot be used as a folder \(File exists\); choose another one$"),
        workplace(tmp_path / "taken"),
    ):
        pass
