"""Optional libraries: the message when one is missing, torchvision beside any torch, and silence without losses."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fbnet_zoo._require import quiet, quiet_with_compiled_code, require
from fbnet_zoo.errors import MissingExtraError
from tests.helpers.paths import ROOT

REQUIRE_WITHOUT_SITE_PACKAGES = """
import sys
from fbnet_zoo._require import require
from fbnet_zoo.errors import FbnetZooError
try:
    require(sys.argv[1], extra=sys.argv[2])
except FbnetZooError as error:
    assert isinstance(error, ImportError)
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "extra", "message"),
    [
        ("onnx", "onnx", "ONNX export needs onnx: pip install 'fbnet-zoo[onnx]'"),
        ("coremltools", "coreml", "Core ML export needs coremltools: pip install 'fbnet-zoo[coreml]'"),
        ("accelerate.utils", "train", "Training needs accelerate: pip install 'fbnet-zoo[train]'"),
        ("ethosu.vela.vela", "ethosu", "Ethos-U estimation needs ethosu: pip install 'fbnet-zoo[ethosu]'"),
        ("executorch.exir", "executorch", "ExecuTorch export needs executorch: pip install 'fbnet-zoo[executorch]'"),
    ],
)
def test_missing_extra_names_the_command(module: str, extra: str, message: str) -> None:
    # -S: no site-packages, so that everything optional is absent
    done = subprocess.run(
        [sys.executable, "-S", "-c", REQUIRE_WITHOUT_SITE_PACKAGES, module, extra],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{message}\n", "")


def test_installed_library_that_is_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import its_own_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"No module named 'its_own_dependency'.*pip install --upgrade"):
        require("half_installed", extra="onnx")


def test_require_gives_the_module_itself() -> None:
    assert require("json.decoder", extra="onnx") is sys.modules["json.decoder"]


TORCHVISION_IN_A_FRESH_PROCESS = """
import gc
from fbnet_zoo._require import torchvision
v2 = torchvision("torchvision.transforms.v2")
gc.collect()
import torch, torchvision as plain
from torchvision.models import mobilenet_v2
assert plain is torchvision()
assert v2.CenterCrop(4)(torch.ones(3, 8, 8)).shape == (3, 4, 4)
assert hasattr(torch.ops.torchvision, "nms")
assert mobilenet_v2().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
"""


@pytest.mark.slow
def test_torchvision_imports_silently_in_a_fresh_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TORCHVISION_IN_A_FRESH_PROCESS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shout() -> None:
    """Be noisy in every way a library can in Python."""
    print("python stdout")
    print("python stderr", file=sys.stderr)
    warnings.warn("a warning", UserWarning, stacklevel=1)
    logging.getLogger("coremltools.converters").warning("a record")


def test_quiet_lets_nothing_reach_the_screen(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    print("before")
    with quiet():
        shout()
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")
    assert caplog.records == []


def test_what_compiled_code_prints_is_suppressed_where_that_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_with_compiled_code():
        shout()
        os.write(2, b"descriptor 2\n")
        subprocess.run([sys.executable, "-c", "import sys; print('child', file=sys.stderr)"], check=True)
    os.write(2, b"after\n")
    assert capfd.readouterr() == ("", "after\n")


def test_what_others_write_to_the_descriptor_meanwhile_comes_late(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_with_compiled_code(r"^\[W:library:"):
        os.write(2, b"[W:library:] a banner\na line of another thread\n[W:library:] another banner\n")
    assert capfd.readouterr() == ("", "a line of another thread\n")


def test_a_process_without_stderr_can_be_silenced() -> None:
    code = (
        "import os, sys; os.close(2); sys.stderr = None; from fbnet_zoo._require import quiet_with_compiled_code as q\n"
        "with q(): print('a banner')\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "after\n")


def test_quiet_leaves_stdout_alone_when_verbose(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(verbose=True):
        print("a banner")
    assert capfd.readouterr() == ("", "a banner\n")


def test_quiet_follows_the_level_of_the_logger(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="fbnet_zoo"), quiet():
        print("a banner")
    assert capfd.readouterr().err == "a banner\n"


def test_quiet_passes_exceptions_on_with_what_was_said(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"the reason, in C\n")
        print("the reason, in Python")
        raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke") as caught, quiet_with_compiled_code():
        fail()
    notes = "".join(caught.value.__notes__)
    assert "the reason, in C" in notes
    assert "the reason, in Python" in notes
    print("audible again")
    assert capfd.readouterr().out == "audible again\n"


def test_quiet_keeps_our_own_records(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        logging.getLogger("fbnet_zoo.weights").warning("the licence")
    assert [record.message for record in caplog.records] == ["the licence"]


def test_quiet_undoes_a_library_that_configures_logging() -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    with quiet():
        logging.basicConfig(force=False)
        root.addHandler(logging.StreamHandler(sys.stderr))
    assert root.handlers == before


def test_quiet_nests(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        with quiet():
            shout()
        shout()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_quiet_leaks_no_descriptor() -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = count()
    with quiet_with_compiled_code():
        pass
    assert count() == before
