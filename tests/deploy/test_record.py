"""Manifests of bundles that someone changed and sealed again: nothing outside the bundle is read or run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo.deploy.record import Bundle, entries
from fbnet_zoo.deploy.verification import verify
from fbnet_zoo.errors import InputError
from tests.helpers.readers import bundle, sealed

Change = Callable[[dict[str, Any]], Any]


def load(content: dict[str, Any], folder: Path) -> Bundle:
    (folder / "manifest.json").write_bytes(sealed(json.dumps(content).encode()))
    return Bundle.load(folder)


def deployed(**changes: Any) -> Change:
    return lambda content: content["deployed"][0].update(changes)


def manifest(**changes: Any) -> Change:
    return lambda content: content["deployed"][0]["manifest"].update(changes)


def test_a_bundle_that_was_not_changed(tmp_path: Path) -> None:
    assert load(json.loads(bundle().model_dump_json()), tmp_path).deployed == bundle().deployed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (deployed(path="../outside.onnx"), r"deployed\.0\.path: '\.\./outside\.onnx' is not a path inside the folder"),
        (deployed(path="/etc/passwd"), r"deployed\.0\.path: '/etc/passwd' is not a path inside"),
        (deployed(path="onnx/../../x"), r"deployed\.0\.path: .* is not a path inside"),
        (deployed(path="C:/x.onnx"), r"deployed\.0\.path: .* is not a path inside"),
        (deployed(path="..\\x.onnx"), r"deployed\.0\.path: .* is not a path inside"),
        (deployed(path=""), r"deployed\.0\.path: '' is not a path inside"),
        (deployed(path="onnx/other.onnx"), r"deployed\.0\.path: 'onnx/other\.onnx' is not one of the bundle's files"),
        (deployed(snippets=["../../x.py"]), r"deployed\.0\.snippets\.0: .* is not a path inside"),
        (deployed(snippets=["x.py"]), r"deployed\.0\.snippets: 'onnx/x\.py' is not one of the bundle's files"),
        (deployed(platform="onxn"), r"deployed\.0\.platform: there is no platform 'onxn'; did you mean 'onnx'\?"),
        (deployed(platform="iphone"), r"deployed\.0\.manifest\.target: iphone cannot have the target 'onnx'"),
        (manifest(target="tensorrt"), r"deployed\.0\.manifest\.target: there is no target 'tensorrt'"),
        (manifest(facts={"backend": "cuda"}), r"deployed\.0\.manifest\.facts: 'backend' cannot be 'cuda'"),
        (lambda content: content["files"].update({"../x": {"size": 0, "sha256": "0" * 64}}), r"files\.\.\./x"),
        (lambda content: content.update(deployed=[]), "deployed: "),
        (lambda content: content["deployed"][0]["on_reference"].update(snr_db=1e9), r"on_reference\.snr_db"),
    ],
)
def test_odd_references_are_refused_with_their_key(change: Change, told: str, tmp_path: Path) -> None:
    content = json.loads(bundle().model_dump_json())
    change(content)
    with pytest.raises(InputError, match=rf"manifest\.json: .*{told}"):
        load(content, tmp_path)


@pytest.mark.parametrize("outside", ["../outside.onnx", "/dev/null"])
def test_a_link_out_of_the_bundle_is_a_problem_though_its_digest_is_right(outside: str, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for name in bundle().files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("any")
    (folder / "onnx" / "model.onnx").unlink()
    (folder / "onnx" / "model.onnx").symlink_to(outside if outside[0] == "/" else f"../{outside}")
    (tmp_path / "outside.onnx").write_text("any")
    bundle(files=entries(folder)).save(folder)
    _, checks = verify(folder)
    problems = {check.path: check.problem for check in checks if check.problem}
    assert problems == {"onnx/model.onnx": "is a link out of the bundle"}
