"""A library changes no state of its process: eight threads at once, in a fresh process, and what they leave behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import TINY

LINES = 1000
EIGHT_THREADS = """
import json, logging, os, sys, threading, warnings
from pathlib import Path
import torch
import fbnet_zoo
from fbnet_zoo import arch_file
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize

LINES, out = 1000, Path(sys.argv[2])
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
model = FBNet(arch_file.load(Path(sys.argv[1])), num_classes=10)
randomize(model, 0)
model.eval()


def state():
    descriptors = [(os.fstat(number).st_dev, os.fstat(number).st_ino) for number in (0, 1, 2)]
    loggers = [logging.getLogger(name) for name in (None, "fbnet_zoo")]
    return {
        "streams": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "descriptors": descriptors,
        "show": id(warnings.showwarning),
        "loggers": [(each.level, each.handlers, each.filters, "addHandler" in vars(each)) for each in loggers],
        "filters": handler.filters,
        "folder": os.getcwd(),
        "path": list(sys.path),
        "random": torch.get_rng_state().tolist(),
        "dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "recursion": sys.getrecursionlimit(),
    }


def transform():
    assert fbnet_zoo.transforms(model)(torch.zeros(3, 80, 80, dtype=torch.uint8)).shape == (3, 64, 64)


def converting(to, name):
    return lambda: fbnet_zoo.convert(model, to=to, out=out, name=name)


def printing():
    for number in range(LINES):
        print(f"line {number}", flush=True)
        os.write(1, b"raw %d\\n" % number)
        logging.getLogger("app").warning("log %d", number)
        if number % 10 == 0:
            done.wait(0.1)


done, start, problems = threading.Event(), threading.Barrier(8), []


def run(task):
    start.wait()
    try:
        task()
    except BaseException as error:
        problems.append(f"{type(error).__name__}: {error}")


targets = sys.argv[3].split(",")
tasks = [printing, transform, transform, transform]
tasks += [converting(targets[number % len(targets)], f"file_{number}") for number in range(4)]
environment, filters = dict(os.environ), list(warnings.filters)
before = json.loads(json.dumps(state(), default=id))
threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
for thread in threads:
    thread.start()
for thread in threads[1:]:
    thread.join()
done.set()
threads[0].join()
after = json.loads(json.dumps(state(), default=id))
print("the end")
changed = [key for key in before if before[key] != after[key]]
# Importing these libraries adds variables and filters of their own.
changed += [key for key, value in environment.items() if os.environ.get(key) != value]
changed += [str(entry) for entry in filters if entry not in warnings.filters]
changed += [str(entry) for entry in warnings.filters if "fbnet_zoo" in str(entry)]
(out / "result.json").write_text(json.dumps({"problems": problems, "changed": changed}))
"""


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param("onnx", marks=pytest.mark.onnx),
        pytest.param("executorch,onnx", marks=[pytest.mark.slow, pytest.mark.executorch, pytest.mark.onnx]),
        pytest.param("coreml,coreai", marks=[pytest.mark.slow, pytest.mark.coreml, pytest.mark.coreai]),
    ],
)
def test_eight_threads_at_once_all_succeed_and_all_are_heard(tmp_path: Path, targets: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_THREADS, TINY, tmp_path, targets], capture_output=True, text=True, check=False
    )
    assert (tmp_path / "result.json").is_file(), done.stderr
    assert json.loads((tmp_path / "result.json").read_text()) == {"problems": [], "changed": []}
    written = {path.name.split(".")[0] for path in tmp_path.glob("file_*")}
    assert written == {f"file_{number}" for number in range(4)}
    lines = [text for number in range(LINES) for text in (f"line {number}", f"raw {number}")]
    assert done.stdout.splitlines() == [*lines, "the end"]
    assert sorted(done.stderr.splitlines()) == sorted(f"log {number}" for number in range(LINES))  # some come late


PRINTING_WHILE_OTHERS_ARE_SILENCED = """
import sys, threading
from io import StringIO
from fbnet_zoo._silence import output_to

sys.setswitchinterval(1e-6)
done = threading.Event()


def printing():
    while not done.is_set():
        print("x")


threads = [threading.Thread(target=printing) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(300):
    with output_to(StringIO()):
        print("hidden")
done.set()
for thread in threads:
    thread.join()
"""


def test_printing_does_not_crash_while_other_threads_are_silenced() -> None:
    """Before Python 3.14, `print` uses a stream that nobody may free meanwhile."""
    line = [sys.executable, "-c", PRINTING_WHILE_OTHERS_ARE_SILENCED]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout) == {"x", "\n"}
