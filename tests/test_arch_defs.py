"""Every definition in arch_defs/: well-formed, canonical, counted, attributed."""

import hashlib
from pathlib import Path

import pytest

from fbnet_zoo import arch_file
from fbnet_zoo.complexity import cost
from fbnet_zoo.spec import ArchSpec
from tests.helpers.paths import ROOT

FILES = sorted((ROOT / "arch_defs").glob("*.yaml"))
NAMED_OTHERWISE = {
    "digits": "fbnet",  # found on handwritten digits by the search of this project
    "dmasking": "fbnetv2",  # mobile-vision's name of the first FBNetV2 release
    "fbnetc": "fbnet",  # timm's name of FBNet-C
}
"""First words of file names that are not the family's, each with the family: names that others gave."""


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def spec(path: Path) -> ArchSpec:
    return arch_file.load(path)


def test_there_are_definitions() -> None:
    assert len(FILES) >= 58


def test_name_is_the_file_name(path: Path, spec: ArchSpec) -> None:
    assert spec.name == path.stem


def test_text_is_canonical(path: Path, spec: ArchSpec) -> None:
    assert path.read_text(encoding="utf-8") == arch_file.dump(spec), f"rewrite it: make counts NAME={path.stem}"


def test_round_trip(spec: ArchSpec) -> None:
    again = arch_file.parse(arch_file.dump(spec))
    assert again == spec
    assert again.model_fields_set == spec.model_fields_set


def test_counts_are_those_of_the_network(path: Path, spec: ArchSpec) -> None:
    counted = cost(spec)
    assert spec.counts is not None
    assert (spec.counts.params, spec.counts.macs) == (counted.params, counted.macs), f"make counts NAME={path.stem}"


def test_family_is_the_first_word_of_the_name(spec: ArchSpec) -> None:
    word = spec.name.partition("_")[0]
    assert NAMED_OTHERWISE.get(word, word) == spec.family


def test_source_and_paper_are_said(spec: ArchSpec) -> None:
    assert spec.paper is not None
    assert spec.source is not None
    assert spec.source.commit is not None or spec.reconstruction or spec.source.repository == "fbnet_zoo"
    assert spec.source.entry is not None


def test_a_reconstruction_says_so(spec: ArchSpec) -> None:
    labelled = any("reconstruct" in text.lower() for text in (spec.summary, *spec.deviations))
    assert spec.reconstruction == labelled


def test_texts_are_sentences(spec: ArchSpec) -> None:
    for text in (spec.summary, *spec.deviations):
        assert text[0].isupper() or text.startswith(spec.name), text
        assert text.endswith("."), text


def test_weights_have_a_licence_and_a_preprocessing(spec: ArchSpec) -> None:
    for entry in spec.weights:
        assert entry.license in {"CC-BY-NC-4.0", "Apache-2.0"}, "a licence that NOTICE does not explain"
        preprocess = spec.eval_preprocess(entry.tag)
        assert preprocess.crop == spec.input_size
        assert preprocess.resize >= preprocess.crop


def test_weights_beside_the_definitions_are_known_and_small(path: Path, spec: ArchSpec) -> None:
    for entry in spec.weights:
        if entry.source.startswith("file:"):
            content = (path.parent / "weights" / entry.source.removeprefix("file:")).read_bytes()
            assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert len(content) < 500_000, "a wheel is no place for large files"


def test_every_file_of_weights_belongs_to_a_definition() -> None:
    named = {entry.source for path in FILES for entry in arch_file.load(path).weights}
    assert {f"file:{path.name}" for path in (FILES[0].parent / "weights").glob("*.safetensors")} <= named


def test_names_and_aliases_are_unique() -> None:
    specs = [arch_file.load(path) for path in FILES]
    names = [name for spec in specs for name in (spec.name, *spec.aliases)]
    assert sorted(names) == sorted(set(names))
