"""The source distribution, the wheel built from it, and what someone has who installed that wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import fbnet_zoo
from fbnet_zoo import weights
from fbnet_zoo.model import FBNet
from tests.helpers.paths import ROOT, TINY

MAPPED = ("arch_defs", "benchmarks", "converters")  # top-level folders that are sub-packages of fbnet_zoo
ADDED = ("tiny.yaml", "weights/tiny.safetensors")  # what the copy has and the tree has not
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", *MAPPED)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of a copy of the tree, without the links and without a network.

    The copy has an entry more, with weights.
    """
    source = tmp_path_factory.mktemp("source") / "fbnet-zoo"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=NOT_SOURCE)
    (source / "arch_defs" / "weights").mkdir(exist_ok=True)
    weights.save(shared_tiny_model, source / "arch_defs" / "weights" / "tiny.safetensors")
    definition = TINY.read_text(encoding="utf-8") + (
        'weights:\n  - {tag: t, source: "file:tiny.safetensors", layout: fbnet_zoo, license: MIT}\n'
    )
    (source / "arch_defs" / "tiny.yaml").write_text(definition, encoding="utf-8")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    python: Path
    packages: Path
    empty: Path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A fresh environment with the wheel, which borrows everything else from the running one."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # A path added by a .pth file is searched last, and the .pth files in it (the editable install) are not read.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installation(python=python, packages=packages, empty=tmp_path_factory.mktemp("empty"))


def files_of_the_tree() -> set[str]:
    """Every file of the library, under the path that it has in the package."""
    folders = {"fbnet_zoo": ROOT / "fbnet_zoo"} | {f"fbnet_zoo/{name}": ROOT / name for name in MAPPED}
    return {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders.items()
        for path in folder.rglob("*")  # which does not follow the links
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_links_point_beside_the_package() -> None:
    for name in MAPPED:
        assert (ROOT / "fbnet_zoo" / name).readlink() == Path("..", name)


def test_wheel_holds_exactly_the_tree(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files_of_the_tree() | {f"fbnet_zoo/arch_defs/{name}" for name in ADDED}


def test_wheel_carries_licence_and_notice(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for text in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f".dist-info/licenses/{text}") for name in names)


def test_source_distribution_holds_what_building_and_testing_need(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    names = {name.partition("/")[2] for name in run("tar", "-tzf", archive, cwd=wheel.parent).splitlines()}
    wanted = {"pyproject.toml", "Makefile", "constraints.txt", "README.md", "NOTICE", "tests/test_packaging.py"}
    assert wanted | {f"{name}/__init__.py" for name in MAPPED} <= names


LOOK = """
import json, sys
import fbnet_zoo
spec = fbnet_zoo.get_spec("fbnet_b")
macs = fbnet_zoo.cost("fbnet_b").macs
print(json.dumps({
    "file": fbnet_zoo.__file__,
    "spec": spec.name,
    "macs": macs,
    "models": fbnet_zoo.list_models(),
    "torch": "torch" in sys.modules,
}))
"""


@pytest.mark.slow
def test_wheel_works_from_an_empty_folder_without_torch(installed: Installation) -> None:
    seen = json.loads(run(installed.python, "-I", "-c", LOOK, cwd=installed.empty))
    assert Path(seen["file"]) == installed.packages / "fbnet_zoo" / "__init__.py"
    assert seen["models"] == sorted([*fbnet_zoo.list_models(), "tiny"])
    assert (seen["spec"], seen["macs"]) == ("fbnet_b", fbnet_zoo.cost("fbnet_b").macs)
    assert seen["torch"] is False


@pytest.mark.slow
def test_weights_in_the_wheel_are_loaded(installed: Installation) -> None:
    code = "import fbnet_zoo; n = fbnet_zoo.create('tiny', pretrained=True); print(n.weights, n.plan.num_classes)"
    assert run(installed.python, "-I", "-c", code, cwd=installed.empty) == "t 10\n"


def test_command_is_installed(installed: Installation) -> None:
    listed = run(installed.python.with_name("fbnet-zoo"), "list", "--json", cwd=installed.empty)
    assert json.loads(listed)
    assert '"fbnet_b"' in listed
