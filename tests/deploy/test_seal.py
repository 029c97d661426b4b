"""The seal of a bundle, the license in its manifests, and the caller's model, which a deployment leaves alone."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fbnet_zoo.cli.app import app
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.deploy.build import deploy
from fbnet_zoo.deploy.options import DeployOptions
from fbnet_zoo.deploy.record import Bundle
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize

pytestmark = pytest.mark.onnx

LICENSE = "LicenseRef-Ours-1.0"
LABELS = tuple(f"name of {index}" for index in range(10))


def in_training(spec: ArchSpec) -> FBNet:
    """A network as it is after a training on a GPU: half, in training mode, with frozen parts, and licensed."""
    model = FBNet(spec, num_classes=10, drop_rate=0.5, drop_path_rate=0.5)
    randomize(model, 0)
    model.weights, model.license = "ours", LICENSE
    model.stem.requires_grad_(False)
    return model.half().train()


@pytest.fixture(scope="module")
def made(tiny_spec: ArchSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[FBNet, FBNet, Path]:
    """The model after a deployment, a copy of it from before, and the bundle."""
    model = in_training(tiny_spec)
    before, out = copy.deepcopy(model), tmp_path_factory.mktemp("sealed") / "bundle"
    deploy(model, DeployOptions(to=("onnx",), labels=LABELS), out=out)
    return model, before, out


@pytest.fixture
def manifest(made: tuple[FBNet, FBNet, Path], tmp_path: Path) -> Path:
    """A copy of the manifest, alone in a folder, to be changed."""
    path = tmp_path / "manifest.json"
    path.write_bytes((made[2] / "manifest.json").read_bytes())
    return path


@pytest.mark.slow
def test_the_model_is_left_as_it_was(made: tuple[FBNet, FBNet, Path]) -> None:
    model, before, _ = made
    for own, old in zip(model.modules(), before.modules(), strict=True):
        assert type(own) is type(old)
        assert own.training == old.training
    for (name, value), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert (value.dtype, value.requires_grad) == (old.dtype, old.requires_grad), name
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.state_dict().items())
    assert (model.weights, model.license, model.spec) == (before.weights, before.license, before.spec)


@pytest.mark.slow
def test_the_license_is_that_of_the_weights_everywhere(made: tuple[FBNet, FBNet, Path], tmp_path: Path) -> None:
    model, _, out = made
    bundle = Bundle.load(out)
    assert bundle.license == LICENSE
    assert [each.manifest.license for each in bundle.deployed] == [LICENSE]
    assert LICENSE in (out / "MODEL_CARD.md").read_text()
    artifact = convert(model, to="onnx", out=tmp_path)
    assert artifact.manifest.license == LICENSE
    assert json.loads(artifact.manifest_path.read_text())["license"] == LICENSE


def leaves(value: Any) -> set[str]:
    """Return the texts in a manifest that are long enough to occur once."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()), *map(leaves, value.keys()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    return {value} if isinstance(value, str) and len(value) > 3 else set()


def test_every_change_of_a_text_breaks_the_seal(manifest: Path) -> None:
    """One letter of any text: the license, a digest of a file, a note, a path; the size stays."""
    text = manifest.read_text()
    texts = sorted(leaves(json.loads(text)))
    assert {LICENSE, "fp32"} <= set(texts)
    changed = 0
    for each in texts:
        inside = json.dumps(each)[1:-1]
        letter = next((at for at, sign in enumerate(inside) if sign.isalnum()), None)
        if letter is None or "\\" in inside:
            continue
        sign = {"a": "b", "0": "1"}.get(inside[letter], "a" if inside[letter].isalpha() else "0")
        other = inside[:letter] + sign + inside[letter + 1 :]
        manifest.write_text(text.replace(f'"{inside}"', f'"{other}"', 1))
        with pytest.raises(InputError, match=rf"^{re.escape(str(manifest))}: damaged"):
            Bundle.load(manifest.parent)
        changed += 1
    assert changed > 30
    manifest.write_text(text)
    assert Bundle.load(manifest.parent).license == LICENSE


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        (rf'"license": "{LICENSE}"', '"license": "MIT"'),
        (rf'"license": "{LICENSE}"', '"license": null'),
        (r'"snr_db": [\d.]+', '"snr_db": 299.0'),
        (r'"size": \d+', '"size": 1'),
        (r'"notes": \[\]', '"notes": ["Checked twice."]'),
        (r'"format": 1,\n  "sha256"', '"format": 1, "sha256"'),
        (r"\}\n$", "}\n\n"),
        (r'"sha256": "[0-9a-f]{64}"', f'"sha256": "{"0" * 64}"'),
    ],
)
def test_a_manifest_that_was_edited_is_refused(manifest: Path, pattern: str, change: str) -> None:
    """Values that are valid and would be believed; also spaces, and a seal that was taken off."""
    text = manifest.read_text()
    edited, count = re.subn(pattern, lambda _: change, text, count=1)
    assert count == 1
    manifest.write_text(edited)
    with pytest.raises(InputError, match=r"manifest\.json: damaged, its digest does not match"):
        Bundle.load(manifest.parent)


def test_the_command_says_so(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace(LICENSE, "CC0-1.0"))
    result = CliRunner().invoke(app, ["verify", str(manifest.parent)])
    assert result.exit_code == 2
    assert "its digest does not match" in result.stderr
