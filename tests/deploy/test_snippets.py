"""The code that a bundle carries: it says what the manifest says, and prepares images as PyTorch's transform does."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift
from PIL import Image, UnidentifiedImageError

from fbnet_zoo.converters.manifest import FileRecord, Manifest, ParityRecord, TensorRecord
from fbnet_zoo.data import load_image
from fbnet_zoo.deploy.snippets import render
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.image_files import image_kinds
from tests.helpers.paths import DATA
from tests.helpers.surroundings import PATIENCE_S

KOTLIN = DATA / "kotlin"
GRAMMARS = {"kt": tree_sitter_kotlin, "swift": tree_sitter_swift}
RECIPES = {
    "imagenet": PreprocessSpec(resize=256, crop=224),
    "bgr": PreprocessSpec(
        resize=57, crop=48, interpolation="bicubic", order="bgr", mean=(0.5, 0.25, 0.0), std=(1.0, 0.004, 1e-05)
    ),
    "nearest": PreprocessSpec(resize=56, crop=48, interpolation="nearest", std=(1.0, 0.5, 0.25)),
    "no_crop": PreprocessSpec(resize=64, crop=64),
}
SIZES = [(60, 40), (40, 61), (48, 48), (64, 64), (301, 200), (57, 56), (600, 400), (33, 777)]
"""Of images: enlarged and reduced, of even and odd differences to the crop, square and very long."""

NODE, KOTLINC = shutil.which("node"), shutil.which("kotlinc")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node to run JavaScript; install nodejs")


def manifest(preprocess: PreprocessSpec, target: str = "onnx", file: str = "model.onnx") -> Manifest:
    size = preprocess.crop
    shape, layout = ((size, size, 3), "image") if target == "coreml" else ((1, 3, size, size), "NCHW")
    image = TensorRecord(name="image", shape=shape, dtype="float32", layout=layout)
    return Manifest(
        model="tiny",
        target=target,
        precision="fp32",
        weights="random seed 0",
        license=None,
        created="2026-01-02T03:04:05+00:00",
        file=FileRecord(file=file, size=1, sha256="ab" * 32),
        companions=(),
        inputs=(image,),
        outputs=(TensorRecord(name="logits", shape=(1, 2), dtype="float32", layout="NC"),),
        preprocess=preprocess,
        parity=ParityRecord(checked=False),
        facts={},
        versions={"executorch": "1.2.3"},
    )


def snippet(name: str, recipe: str) -> str:
    target, file = {
        "Classifier.swift": ("coreml", "Model.mlpackage"),
        "Classifier.kt": ("executorch", "model.pte"),
    }.get(name, ("onnx", "model.onnx"))
    return render(name, manifest(RECIPES[recipe], target, file), classes=2)


def images(seed: int = 0) -> list[np.ndarray]:
    """Return noise images, RGBA: every pixel of them matters, and none is like its neighbour; every other is opaque."""
    random = np.random.default_rng(seed)
    noise = [random.integers(0, 256, (height, width, 4), dtype=np.uint8) for width, height in SIZES]
    for image in noise[::2]:
        image[..., 3] = 255
    return noise


def expected(recipe: str) -> list[np.ndarray]:
    transform = eval_transform(RECIPES[recipe])
    return [transform(Image.fromarray(image)).numpy() for image in images()]


def assert_same(found: list[np.ndarray], recipe: str) -> None:
    smallest = min(RECIPES[recipe].std)
    for size, one, other in zip(SIZES, found, expected(recipe), strict=True):
        assert np.abs(one.reshape(other.shape) - other).max() * smallest < 1e-6, size


def numbers(text: str, pattern: str) -> tuple[float, ...]:
    found = re.search(pattern, text)
    assert found, pattern
    return tuple(float(value) for value in re.findall(r"-?[\d.]+(?:e-?\d+)?", found[1]))


@pytest.mark.parametrize("recipe", RECIPES)
class TestConstants:
    """What stands in a snippet is what stands in the manifest."""

    @pytest.mark.onnx
    def test_python(self, recipe: str) -> None:
        module, preprocess = as_module(recipe), RECIPES[recipe]
        assert (preprocess.resize, preprocess.crop) == (module.RESIZE, module.CROP)
        assert (module.INPUT, module.OUTPUT) == ("image", "logits")
        assert module.INTERPOLATION.name == preprocess.interpolation.upper()
        assert np.array_equal(module.MEAN, np.array(preprocess.mean, np.float32))
        assert np.array_equal(module.STD, np.array(preprocess.std, np.float32))

    def test_javascript(self, recipe: str) -> None:
        text, preprocess = snippet("classify.mjs", recipe), RECIPES[recipe]
        assert numbers(text, r"\bRESIZE = (.*?);") == (preprocess.resize,)
        assert numbers(text, r"\bCROP = (.*?);") == (preprocess.crop,)
        assert numbers(text, r"\bMEAN = (.*?);") == preprocess.mean
        assert numbers(text, r"\bSTD = (.*?);") == preprocess.std
        assert numbers(text, r"\bCHANNELS = (.*?);") == ((2, 1, 0) if preprocess.order == "bgr" else (0, 1, 2))
        assert '\nexport const INPUT = "image";' in text
        assert '\nexport const OUTPUT = "logits";' in text

    def test_kotlin(self, recipe: str) -> None:
        text, preprocess = snippet("Classifier.kt", recipe), RECIPES[recipe]
        assert numbers(text, r"\bRESIZE = (.*?) //") == (preprocess.resize,)
        assert numbers(text, r"\bCROP = (.*)") == (preprocess.crop,)
        assert numbers(text, r"\bMEAN = floatArrayOf\((.*?)\)") == preprocess.mean
        assert numbers(text, r"\bSTD = floatArrayOf\((.*?)\)") == preprocess.std
        assert numbers(text, r"\bSHIFTS = intArrayOf\((.*?)\)") == (
            (0, 8, 16) if preprocess.order == "bgr" else (16, 8, 0)
        )
        assert text.count("model.pte") >= 3
        assert "ExecuTorch 1.2.3" in text

    def test_swift(self, recipe: str) -> None:
        text, preprocess = snippet("Classifier.swift", recipe), RECIPES[recipe]
        assert numbers(text, r"\bresize: CGFloat = (.*?) //") == (preprocess.resize,)
        assert numbers(text, r"\bcrop: CGFloat = (.*)") == (preprocess.crop,)
        assert 'forResource: "Model", withExtension: "mlmodelc"' in text

    def test_page_names_the_network(self, recipe: str) -> None:
        assert "<h1>tiny</h1>" in snippet("classify.html", recipe)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["Classifier.kt", "Classifier.swift"])
def test_parses(name: str, recipe: str) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(GRAMMARS[name.partition(".")[2]].language()))
    text = snippet(name, recipe)
    assert not parser.parse(text.encode()).root_node.has_error
    assert parser.parse(text.rstrip().removesuffix("}").encode()).root_node.has_error  # it would tell


@pytest.mark.parametrize("name", ["classify.py", "classify.mjs", "classify.html", "Classifier.kt", "Classifier.swift"])
def test_file_of_another_shape_is_refused(name: str) -> None:
    taken = manifest(RECIPES["no_crop"])
    batch = taken.inputs[0].model_copy(update={"shape": (8, 3, 64, 64)})
    with pytest.raises(InputError, match=r"has shape \(8, 3, 64, 64\); snippets require one color image"):
        render(name, taken.model_copy(update={"inputs": (batch,)}), classes=2)


def as_module(recipe: str) -> Any:
    module: Any = ModuleType("classify")
    module.__file__ = "onnx/classify.py"
    text = snippet("classify.py", recipe)
    ast.parse(text, feature_version=(3, 10))
    exec(compile(text, "classify.py", "exec"), module.__dict__)
    return module


@pytest.mark.onnx
@pytest.mark.parametrize("recipe", RECIPES)
def test_python_prepares_like_the_transform(recipe: str) -> None:
    prepare: Callable[[Image.Image], np.ndarray] = as_module(recipe).prepare
    assert_same([prepare(Image.fromarray(image)) for image in images()], recipe)


@pytest.mark.onnx
def test_python_turns_photographs_upright(tmp_path: Path) -> None:
    module, (sideways, *_) = as_module("no_crop"), images()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(sideways).save(tmp_path / "it.png", exif=exif)
    image = module.open_image(str(tmp_path / "it.png"))
    assert np.array_equal(module.prepare(image), module.prepare(Image.fromarray(np.rot90(sideways, -1).copy())))


@pytest.mark.onnx
def test_python_opens_what_the_library_opens(tmp_path: Path) -> None:
    """Every kind of file that Pillow decodes differently; refused here, it is refused there."""
    module = as_module("no_crop")
    transform = eval_transform(RECIPES["no_crop"])
    for path in image_kinds(tmp_path):
        try:
            expected = transform(load_image(path)).numpy()
        except InputError:
            problem = rf"{path.name}|values without a fixed range"
            with pytest.raises((ValueError, UnidentifiedImageError, FileNotFoundError), match=problem):
                module.prepare(module.open_image(str(path)))
        else:
            assert np.abs(module.prepare(module.open_image(str(path)))[0] - expected).max() < 1e-5, path.name


@needs_node
@pytest.mark.parametrize("recipe", RECIPES)
def test_javascript_prepares_like_the_transform(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "classify.mjs").write_text(snippet("classify.mjs", recipe))
    for index, image in enumerate(images()):
        image.tofile(tmp_path / f"{index}.rgba")
    program = f"""
        import {{ prepare }} from "./classify.mjs";
        import {{ readFileSync, writeFileSync }} from "node:fs";
        {json.dumps(SIZES)}.forEach(([width, height], index) => {{
          const data = new Uint8ClampedArray(readFileSync(`${{index}}.rgba`));
          writeFileSync(`${{index}}.floats`, Buffer.from(prepare({{ data, width, height }}).buffer));
        }});
    """
    node(program, tmp_path)
    assert_same([np.fromfile(tmp_path / f"{index}.floats", np.float32) for index in range(len(SIZES))], recipe)


@needs_node
def test_script_of_the_page_parses(tmp_path: Path) -> None:
    scripts: list[str] = []

    class Page(HTMLParser):
        def handle_data(self, data: str) -> None:
            if self.get_starttag_text() == '<script type="module">':
                scripts.append(data)

    Page().feed(snippet("classify.html", "imagenet"))
    (text,) = (script for script in scripts if script.strip())
    (tmp_path / "page.mjs").write_text(text)
    subprocess.run([str(NODE), "--check", "page.mjs"], cwd=tmp_path, check=True, capture_output=True)


def node(program: str, folder: Path) -> None:
    command = [str(NODE), "--input-type=module", "--eval", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(KOTLINC is None, reason="there is no Kotlin compiler; install the Debian package kotlin")
@pytest.mark.parametrize("recipe", RECIPES)
def test_kotlin_compiles_and_prepares_like_the_transform(recipe: str, tmp_path: Path) -> None:
    """Compiled against stand-ins for the few classes of Android and ExecuTorch that it uses."""
    (tmp_path / "Classifier.kt").write_text(snippet("Classifier.kt", recipe))
    (tmp_path / "labels.txt").write_text("nothing\nsomething\n")
    (tmp_path / "model.pte").write_text("a network")
    sources = [str(path) for path in (*KOTLIN.glob("*.kt"), tmp_path / "Classifier.kt")]
    compiled = run([str(KOTLINC), *sources, "-Werror", "-include-runtime", "-d", str(tmp_path / "it.jar")])
    assert compiled.returncode == 0, compiled.stderr
    arguments = []
    for index, image in enumerate(images()):
        image.tofile(tmp_path / f"{index}.rgba")
        height, width, _ = image.shape
        arguments += [str(width), str(height), str(tmp_path / f"{index}.rgba"), str(tmp_path / f"{index}.floats")]
    done = run(["java", "-jar", str(tmp_path / "it.jar"), *arguments])
    assert done.returncode == 0, done.stderr
    found = [np.fromfile(tmp_path / f"{index}.floats", np.float32) for index in range(len(SIZES))]
    assert_same(found, recipe)
    assert_guesses(done.stdout.splitlines(), found)


def assert_guesses(lines: list[str], prepared: list[np.ndarray]) -> None:
    """Compare with the softmax of what the stand-in of the network puts out: zero, and the mean of its input."""
    for line, image in zip(lines, prepared, strict=True):
        share = 1 / (1 + np.exp(-image.mean(dtype=np.float64)))
        guesses = {label: float(value) for label, value in re.findall(r"label=(\w+), probability=([\d.E-]+)", line)}
        assert guesses == pytest.approx({"something": share, "nothing": 1 - share}, abs=1e-4)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
