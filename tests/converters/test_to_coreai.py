"""Core AI assets: what they compute, and what their metadata say."""

import asyncio
import gc
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fbnet_zoo.converters import to_coreai
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import Quantization, export
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, PreparedImages
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.data import digits
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.model import FBNet

pytestmark = pytest.mark.coreai

LABELS = ("Käse", 'a "quoted" one', *"abcdefgh")


@dataclass(frozen=True)
class Asset:
    """An asset, and the facts about it."""

    path: Path
    facts: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        return json.loads((self.path / "metadata.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plain(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> Asset:
    return write(shared_tiny_model, tmp_path_factory.mktemp("plain"), labels=LABELS)


def write(
    model: FBNet,
    folder: Path,
    precision: str = "fp32",
    *,
    calibrate: Tensor | None = None,
    kept: tuple[str, ...] = (),
    **options: Any,
) -> Asset:
    program_precision = TARGETS["coreai"].program_precision(precision)  # type: ignore[arg-type]
    program, path = export(model, ConvertOptions(precision=program_precision, **options)), folder / "net.aimodel"
    if calibrate is not None:
        samples = PreparedImages(images=calibrate.numpy(), source="the test's")
        quantization = Quantization(
            calibration=CalibrationImages(calibrate=samples, evaluate=samples), kept=frozenset(kept)
        )
        program = replace(program, quantization=quantization)
    return Asset(path, to_coreai.write(program, path, ConvertOptions(precision=precision, **options)).facts)


def images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, size, size)).astype(np.float32)


def reference(model: FBNet, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


class TestLogits:
    def test_agree_with_the_model(self, shared_tiny_model: FBNet, plain: Asset) -> None:
        got = to_coreai.load(plain.path)(images(1))
        assert got.dtype == np.float32
        assert snr_db(reference(shared_tiny_model, images(1)), got) > 100

    @pytest.mark.slow
    def test_of_half_precision_are_float32(self, tiny_model: FBNet, tmp_path: Path) -> None:
        file = write(tiny_model, tmp_path, "fp16", batch=2)
        got = to_coreai.load(file.path)(images(2))
        assert got.dtype == np.float32
        assert 40 < snr_db(reference(tiny_model, images(2)), got) < 100

    @pytest.mark.slow
    def test_of_any_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        runner = to_coreai.load(write(tiny_model, tmp_path, dynamic_batch=True).path)
        for count in (1, 3):
            assert snr_db(reference(tiny_model, images(count)), runner(images(count))) > 100

    def test_are_had_inside_an_event_loop(self, plain: Asset) -> None:
        async def notebook() -> np.ndarray:
            return to_coreai.load(plain.path)(images(1))

        np.testing.assert_array_equal(asyncio.run(notebook()), to_coreai.load(plain.path)(images(1)))

    def test_of_two_runners_are_their_own(self, plain: Asset) -> None:
        first, second = to_coreai.load(plain.path), to_coreai.load(plain.path)
        a, b = images(2)[:1], images(2)[1:]
        kept = first(a)
        assert not np.array_equal(second(b), kept)
        np.testing.assert_array_equal(first(a), kept)


class TestAsset:
    def test_says_what_it_is(self, shared_tiny_model: FBNet, plain: Asset) -> None:
        said = plain.metadata
        assert said["description"] == f"tiny: {shared_tiny_model.spec.summary}"
        assert (said["author"], said["license"]) == ("fbnet_zoo", "not stated")
        ours = said["creatorDefinedMetadata"]
        assert tuple(json.loads(ours["fbnet_zoo.labels"])) == LABELS
        assert json.loads(ours["fbnet_zoo.preprocess"])["std"] == [0.229, 0.224, 0.225]
        assert (ours["fbnet_zoo.name"], ours["fbnet_zoo.weights"]) == ("tiny", "random seed 0")

    def test_is_counted_in_the_facts(self, plain: Asset) -> None:
        assert plain.facts["operators"]["conv2d"] == 24
        assert plain.facts["minimum_os"] == "v27"

    def test_holds_nothing_of_the_converting_machine(self, plain: Asset) -> None:
        raw = b"".join(path.read_bytes() for path in plain.path.rglob("*") if path.is_file())
        for word in (b"site-packages", b".py", str(Path.home()).encode() + b"/", str(plain.path.parent).encode()):
            assert word not in raw


def test_runtime_is_named(plain: Asset) -> None:
    runner = to_coreai.load(plain.path)
    assert runner.runtime.startswith("coreai-core 1")
    assert list(runner.trace(images(1))) == []


def test_nothing_stays_of_a_runner(plain: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = to_coreai.load(plain.path)
    runner(images(1))
    del runner
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_damaged_asset_is_refused(plain: Asset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.aimodel is not an \.aimodel folder$"):
        to_coreai.load(tmp_path / "gone.aimodel")
    path = shutil.copytree(plain.path, tmp_path / "net.aimodel")
    (path / "main.mlirb").write_bytes(b"no bytecode at all")
    with pytest.raises(ConversionError, match=r"^net\.aimodel is damaged: main\.mlirb does not match the digest in "):
        to_coreai.load(path)
    (path / "main.hash").unlink()
    with pytest.raises(ConversionError, match=r"^net\.aimodel is damaged: main\.mlirb or main\.hash is missing; "):
        to_coreai.load(path)


@pytest.mark.slow
def test_nothing_is_printed(tiny_model: FBNet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to_coreai.load(write(tiny_model, tmp_path).path)(images(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
class TestEightBits:
    """Slow because coreai-opt traces some hundred patterns, once in a process."""

    @pytest.mark.parametrize(("precision", "minimum_db"), [("w8a16", 30), ("int8", 22), ("mixed", 22)])
    def test_answer_as_often_right(
        self, precision: str, minimum_db: float, trained_digits_model: FBNet, tmp_path: Path
    ) -> None:
        preprocess = trained_digits_model.spec.eval_preprocess()
        calibrate = digits()[0].images(preprocess, limit=40) if precision != "w8a16" else None
        file = write(trained_digits_model, tmp_path, precision, calibrate=calibrate, kept=kept(precision), batch=8)
        pictures, classes = digits()[1].images(preprocess)[:200].numpy(), digits()[1].classes[:200].numpy()
        runner = to_coreai.load(file.path)
        got = np.concatenate([runner(batch) for batch in np.split(pictures, 25)])
        expected = reference(trained_digits_model, pictures)
        assert (got.argmax(1) == classes).mean() >= (expected.argmax(1) == classes).mean() - 0.02
        assert minimum_db <= snr_db(expected, got) < 60

    def test_leave_kept_layers_alone(self, tiny_model: FBNet, tmp_path: Path) -> None:
        batch = torch.from_numpy(images(2))
        counts = [
            write(tiny_model, tmp_path, precision, calibrate=batch, kept=kept(precision)).facts["operators"]
            for precision in ("int8", "mixed")
        ]
        assert [count["conv2d"] for count in counts] == [24, 24]
        assert [count["blockwise_shift_scale"] for count in counts] == [24, 20]

    def test_of_a_dynamic_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        batch = torch.from_numpy(images(5))
        runner = to_coreai.load(write(tiny_model, tmp_path, "int8", calibrate=batch, dynamic_batch=True).path)
        for count in (1, 3):
            assert snr_db(reference(tiny_model, images(5)[:count]), runner(images(5)[:count])) > 10


def kept(precision: str) -> tuple[str, ...]:
    return ("stages.4.1", "stages.8.0.se.reduce") if precision == "mixed" else ()
