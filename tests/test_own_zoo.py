"""The user's own zoo: what is installed is found again, what is wrong in it harms nothing else, files stay beside."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import fbnet_zoo
from fbnet_zoo import arch_file, own_zoo, registry, weights
from fbnet_zoo.cli.app import app
from fbnet_zoo.errors import DefinitionError, InputError, UnknownNameError, WeightsError, WeightsUnavailableError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec, PreprocessSpec, WeightsSpec
from fbnet_zoo.weights import loading
from tests.helpers.checkpoint_files import logits

PIXELS = PreprocessSpec(resize=32, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ELSEWHERE = [
    *("../w.safetensors", "/etc/w.safetensors", "//w.safetensors", "a/w.safetensors", "a\\w.safetensors"),
    *("..", ".w.safetensors", "C:w.safetensors"),
]
FILE = "digits_net.trained-{}.safetensors"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(own_zoo.HOME_VARIABLE, str(tmp_path / "zoo"))
    monkeypatch.setattr(registry, "_registered", {})
    return tmp_path / "zoo"


@pytest.fixture
def found(tiny_model: FBNet) -> FBNet:
    """What a search may end with: ten classes, 32 px, a batch-norm epsilon and pixels of its own."""
    tiny_model.spec = tiny_model.spec.model_copy(update={"name": "digits_net", "input_size": 32, "preprocess": PIXELS})
    return tiny_model


@pytest.fixture
def saved(found: FBNet, tmp_path: Path) -> Path:
    weights.save(found, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def spec(tiny_spec: ArchSpec) -> ArchSpec:
    """Its definition, without what the weights alone ask for."""
    return tiny_spec.model_copy(update={"name": "digits_net", "input_size": 32})


def run(*words: object) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return result


def text_of(spec: ArchSpec, **changes: Any) -> str:
    return arch_file.dump(spec.model_copy(update=changes))


class TestInstall:
    def test_what_is_installed_is_an_entry(self, home: Path, found: FBNet, saved: Path, spec: ArchSpec) -> None:
        installed = fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        digest = hashlib.sha256(saved.read_bytes()).hexdigest()
        name = FILE.format(digest[:8])
        assert (home / name).read_bytes() == saved.read_bytes()
        assert sorted(path.name for path in home.iterdir()) == [".lock", name, "digits_net.yaml"]
        assert fbnet_zoo.get_spec("digits_net") == installed == arch_file.load(home / "digits_net.yaml")
        (entry,) = installed.weights
        assert (entry.source, entry.size, entry.sha256) == (f"file:{name}", saved.stat().st_size, digest)
        assert (entry.preprocess, installed.preprocess) == (PIXELS, None)
        for how in (
            ("digits_net", True),
            ("digits_net", "trained"),
            ("digits_net.trained",),
            (home / "digits_net.yaml", True),
        ):
            network = fbnet_zoo.create(*how)
            assert torch.equal(logits(network, 32), logits(found, 32))
            assert (network.weights, network.license) == ("trained", "CC0-1.0")
            assert network.spec.eval_preprocess(network.weights) == PIXELS
        assert "digits_net" in fbnet_zoo.list_models(family="fbnetv3", pretrained=True)
        network = fbnet_zoo.create("digits_net", num_classes=10)
        weights.load(network, True)
        assert torch.equal(logits(network, 32), logits(found, 32))

    def test_another_process_finds_it(self, home: Path, saved: Path, spec: ArchSpec) -> None:
        fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        code = (
            "import fbnet_zoo, sys; print('digits_net' in fbnet_zoo.list_models(), {'yaml', 'torch'} & {*sys.modules})"
        )
        done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
        assert done.stdout == "True set()\n"

    def test_a_path_and_a_definition_alone(self, home: Path, spec: ArchSpec, tmp_path: Path) -> None:
        (tmp_path / "result.yaml").write_text(text_of(spec, aliases=("Digits",)))
        fbnet_zoo.install(tmp_path / "result.yaml")
        assert (home / "digits_net.yaml").read_text() == (tmp_path / "result.yaml").read_text()
        assert fbnet_zoo.create("Digits").plan.num_classes == 1000
        with pytest.raises(UnknownNameError, match="digits_net has no published weights"):
            fbnet_zoo.create("Digits", True)

    def test_another_entry_is_replaced_only_where_that_is_said(
        self, home: Path, found: FBNet, saved: Path, spec: ArchSpec
    ) -> None:
        first = fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        assert fbnet_zoo.install(spec, saved, licence="CC0-1.0") == first
        weights.randomize(found, 3)
        weights.save(found, saved)
        with pytest.raises(InputError, match=r"digits_net\.yaml is another entry .*; pass replace=True"):
            fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        assert fbnet_zoo.get_spec("digits_net") == first
        second = fbnet_zoo.install(spec, saved, licence="CC0-1.0", replace=True)
        assert fbnet_zoo.get_spec("digits_net") == second != first
        assert [path.name for path in home.glob("*.safetensors")] == [second.weights[0].source.removeprefix("file:")]
        assert torch.equal(logits(fbnet_zoo.create("digits_net", True), 32), logits(found, 32))

    @pytest.mark.parametrize("broken", [False, True])
    def test_weights_that_another_entry_names_stay(
        self, home: Path, found: FBNet, saved: Path, spec: ArchSpec, broken: bool
    ) -> None:
        first = fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        other = text_of(first, name="other")
        (home / "other.yaml").write_text(f"{other}an: error\n" if broken else other)
        weights.randomize(found, 3)
        weights.save(found, saved)
        second = fbnet_zoo.install(spec, saved, licence="CC0-1.0", replace=True)
        names = {each.weights[0].source.removeprefix("file:") for each in (first, second)}
        assert {path.name for path in home.glob("*.safetensors")} == names
        (home / "other.yaml").write_text(other)
        assert fbnet_zoo.create("other", True).weights == "trained"

    @pytest.mark.parametrize("as_path", [False, True])
    def test_an_entry_may_be_replaced_while_it_is_read(
        self, home: Path, found: FBNet, saved: Path, spec: ArchSpec, as_path: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        weights.randomize(found, 3)
        weights.save(found, saved)
        read, times = loading.read, 0

        def slowly(*arguments: Any) -> Any:
            nonlocal times
            times += 1
            if times == 1:  # between the definition and the weights that it names
                fbnet_zoo.install(spec, saved, licence="CC0-1.0", replace=True)
            return read(*arguments)

        monkeypatch.setattr(loading, "read", slowly)
        name = home / "digits_net.yaml" if as_path else "digits_net"
        assert torch.equal(logits(fbnet_zoo.create(name, True), 32), logits(found, 32))
        assert times == 2

    def test_weights_that_are_missing_are_an_error_of_their_own(self, home: Path, saved: Path, spec: ArchSpec) -> None:
        fbnet_zoo.install(spec, saved, licence="CC0-1.0")
        for path in home.glob("*.safetensors"):
            path.unlink()
        with pytest.raises(WeightsUnavailableError, match=r"there is no file .*, which a definition requires"):
            fbnet_zoo.create("digits_net", True)

    def test_weights_at_addresses_stay(self, home: Path, saved: Path, spec: ArchSpec) -> None:
        other = WeightsSpec(tag="far", source="https://example.org/a", layout="timm", license="MIT")
        lost = WeightsSpec(tag="near", source="file:a.safetensors", layout="timm", license="MIT")
        spec = spec.model_copy(update={"weights": (lost, other)})
        assert [entry.tag for entry in fbnet_zoo.install(spec, saved, licence="MIT").weights] == ["trained", "far"]

    @pytest.mark.parametrize(
        ("changes", "words", "problem"),
        [
            ({"name": "fbnet_b"}, {}, r"fbnet_b\.yaml:1: an entry named 'fbnet_b' exists"),
            ({"name": "mnv2"}, {}, "an entry named 'mnv2' exists"),
            ({"aliases": ("FBNetV3_A",)}, {"replace": True}, r"digits_net\.yaml:2: an entry named 'FBNetV3_A' exists"),
            ({"aliases": ("Mine",)}, {}, "an entry named 'Mine' exists"),
            ({}, {"tag": "../a"}, "'tag' cannot be '../a'"),
            ({}, {"licence": None}, "has no license; give one, such as licence='Apache-2.0'"),
            ({"input_size": 4}, {}, "'input_size' cannot be 4"),
        ],
    )
    def test_what_is_wrong_is_not_written(
        self, home: Path, saved: Path, spec: ArchSpec, changes: Any, words: Any, problem: str
    ) -> None:
        fbnet_zoo.install(spec.model_copy(update={"name": "mine", "aliases": ("Mine",)}))
        before = sorted(home.iterdir())
        with pytest.raises(InputError, match=problem):
            fbnet_zoo.install(spec.model_copy(update=changes), saved, **{"licence": "MIT", **words})
        assert sorted(home.iterdir()) == before

    def test_weights_that_do_not_fit(self, home: Path, saved: Path, spec: ArchSpec, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="does not fit mine"):
            fbnet_zoo.install(fbnet_zoo.get_spec("fbnet_a").model_copy(update={"name": "mine"}), saved, licence="MIT")
        saved.write_bytes(saved.read_bytes()[:-1])
        with pytest.raises(WeightsError, match="is not a checkpoint"):
            fbnet_zoo.install(spec, saved, licence="MIT")
        for name, problem in (("a.pth", "expected a .safetensors file"), ("a.safetensors", "is not a file")):
            with pytest.raises(InputError, match=problem):
                fbnet_zoo.install(spec, tmp_path / name, licence="MIT")
        assert not home.exists()

    def test_a_place_that_takes_nothing(self, home: Path, spec: ArchSpec, caplog: Any) -> None:
        home.write_text("no folder")
        with pytest.raises(InputError, match=r"cannot be written .*; set FBNET_ZOO_HOME to a writable folder"):
            fbnet_zoo.install(spec)
        assert fbnet_zoo.list_models("fbnet_a") == ["fbnet_a"]
        assert f"your own zoo cannot be read: [Errno 20] Not a directory: '{home}'" in caplog.text

    def test_many_at_once_leave_one_whole_entry(self, home: Path, spec: ArchSpec) -> None:
        def write(number: int) -> None:
            content = str(number).encode() * 100_000
            name = FILE.format(number)
            entry = WeightsSpec(tag="trained", source=f"file:{name}", layout="timm", license="MIT", size=len(content))
            registry.store(spec.model_copy(update={"weights": (entry,)}), {name: content}, replace=True)

        write(0)
        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write, number) for number in range(1, 20)]
            while not all(writer.done() for writer in writers):
                assert fbnet_zoo.get_spec("digits_net").weights
            for writer in writers:
                writer.result()
        (entry,) = fbnet_zoo.get_spec("digits_net").weights
        (file,) = home.glob("*.safetensors")
        assert (f"file:{file.name}", file.stat().st_size) == (entry.source, entry.size)
        assert not list(home.glob(".digits*"))


class TestFolder:
    @pytest.mark.parametrize(
        ("said", "data", "expected"),
        [
            ("/a/zoo", "/data", "/a/zoo"),
            ("~/zoo", "/data", "/home/me/zoo"),
            ("", "/data", "/data/fbnet_zoo"),
            ("", "", "/home/me/.local/share/fbnet_zoo"),
            ("", "relative", "/home/me/.local/share/fbnet_zoo"),
        ],
    )
    def test_where_it_is(self, said: str, data: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in ((own_zoo.HOME_VARIABLE, said), ("XDG_DATA_HOME", data), ("HOME", "/home/me")):
            monkeypatch.setenv(name, value)
        assert own_zoo.home() == Path(expected)

    def test_none_is_an_empty_one(self, home: Path) -> None:
        assert fbnet_zoo.list_models() == list(registry.bundled())
        assert not home.exists()

    @pytest.mark.parametrize(
        ("file", "change", "problem"),
        [
            ("digits_net", lambda text: text.replace("op: skip", "op: skp"), "12: 'op' cannot be 'skp'"),
            ("digits_net", lambda _: "\0", "1: the character"),
            ("other", str, "1: 'name' is 'digits_net', unlike the name of the file; rename one of them"),
            ("digits_net", lambda text: f"{text}aliases: [FBNetV3_A]\n", "20: an entry named 'FBNetV3_A' exists"),
            ("digits_net", lambda text: f"{text}aliases: [fbnet_a]\n", "20: an entry named 'fbnet_a' exists"),
            ("mnv2", lambda text: text.replace("name: digits_net", "name: mnv2"), "1: an entry named 'mnv2' exists"),
        ],
    )
    def test_a_wrong_file_is_told_and_harms_no_other(
        self, home: Path, spec: ArchSpec, file: str, change: Callable[[str], str], problem: str, caplog: Any
    ) -> None:
        fbnet_zoo.install(spec.model_copy(update={"name": "good", "aliases": ("Good",)}))
        (home / f"{file}.yaml").write_text(change(arch_file.dump(spec)))
        assert {"good", file, "fbnet_a"} <= {*fbnet_zoo.list_models()}
        for _ in range(2):
            assert {"good", "mobilenet_v2"} <= {*fbnet_zoo.list_models(pretrained=False)}
            assert file not in fbnet_zoo.list_models(pretrained=False)
        (told,) = caplog.records
        assert re.match(rf"{home / file}\.yaml:{problem}", told.getMessage())
        assert fbnet_zoo.get_spec("Good").name == "good"
        assert fbnet_zoo.get_spec("FBNetV3_A").name == "fbnetv3_a"
        with pytest.raises(DefinitionError, match=problem):
            fbnet_zoo.create(file)
        listed = run("list", "--json")
        assert {"good", "fbnet_a"} <= {model["name"] for model in json.loads(listed.stdout)["models"]}

    def test_a_file_of_a_bundled_name_is_never_taken_for_it(self, home: Path, spec: ArchSpec, caplog: Any) -> None:
        home.mkdir()
        (home / "fbnet_a.yaml").write_text(text_of(spec, name="fbnet_a"))
        assert fbnet_zoo.list_models("fbnet_[ab]") == ["fbnet_a", "fbnet_b"]
        assert f"{home}/fbnet_a.yaml: an entry named 'fbnet_a' exists; rename the file and" in caplog.text
        assert fbnet_zoo.get_spec("fbnet_b").name == "fbnet_b"
        with pytest.raises(DefinitionError, match=r"fbnet_a\.yaml:1: an entry named 'fbnet_a' exists"):
            fbnet_zoo.get_spec("fbnet_a")

    def test_an_alias_of_two_is_refused(self, home: Path, spec: ArchSpec) -> None:
        home.mkdir()
        for name in ("one", "two"):
            (home / f"{name}.yaml").write_text(text_of(spec, name=name, aliases=("Both",)))
        assert fbnet_zoo.get_spec("one").name == "one"
        with pytest.raises(UnknownNameError, match="'Both' is an alias of one and two; remove it from one"):
            fbnet_zoo.get_spec("Both")

    def test_files_that_are_no_entries(self, home: Path, spec: ArchSpec, caplog: Any) -> None:
        home.mkdir()
        for name in ("My-Net.yaml", ".hidden.yaml", "notes.txt", "a.yml"):
            (home / name).write_text(arch_file.dump(spec))
        assert fbnet_zoo.list_models() == list(registry.bundled())
        (told,) = caplog.records
        assert told.getMessage() == (
            f"{home}/My-Net.yaml is not an entry of the zoo; expected a file with the name of its entry, "
            "such as my_net.yaml"
        )

    def test_what_is_registered_for_the_process_is_beside_it(self, home: Path, spec: ArchSpec, tmp_path: Path) -> None:
        fbnet_zoo.install(spec)
        with pytest.raises(DefinitionError, match="an entry named 'digits_net' exists"):
            fbnet_zoo.register(home / "digits_net.yaml")
        (tmp_path / "mine.yaml").write_text(text_of(spec, name="mine"))
        fbnet_zoo.register(tmp_path / "mine.yaml")
        with pytest.raises(DefinitionError, match="an entry named 'mine' exists"):
            fbnet_zoo.install(tmp_path / "mine.yaml")


class TestBeside:
    """Weights whose source is a file beside the definition."""

    @pytest.fixture
    def definition(self, home: Path, spec: ArchSpec, saved: Path) -> Path:
        """A definition that is in no zoo, in the folder of its weights."""
        entry = WeightsSpec(tag="near", source=f"file:{saved.name}", layout="fbnet_zoo", license="MIT")
        entry = entry.model_copy(update={"sha256": hashlib.sha256(saved.read_bytes()).hexdigest()})
        path = saved.with_name("any.yaml")
        path.write_text(text_of(spec, weights=(entry,)))
        return path

    def test_the_path_of_a_definition_says_where(self, definition: Path, found: FBNet) -> None:
        for name in (definition, str(definition)):
            assert torch.equal(logits(fbnet_zoo.create(name, pretrained=True), 32), logits(found, 32))
        network = fbnet_zoo.create(definition, num_classes=10)
        with pytest.raises(
            InputError, match="weights near of digits_net are in the folder of its definition, which is not in"
        ):
            weights.load(network, True)
        fbnet_zoo.register(definition)
        weights.load(network, "near")
        assert torch.equal(logits(network, 32), logits(found, 32))
        assert fbnet_zoo.create("digits_net.near").weights == "near"

    @pytest.mark.parametrize(
        "source",
        [*ELSEWHERE, "w.pth", "w.safetensors\n", "", " w.safetensors", f"{'w' * 300}.safetensors"],
    )
    def test_a_name_that_leads_elsewhere_is_refused(self, definition: Path, source: str) -> None:
        text = definition.read_text()
        definition.write_text(text.replace('"file:weights.safetensors"', json.dumps(f"file:{source}")))
        with pytest.raises(DefinitionError, match=r"'source' cannot be .*: expected https://…, hf://… or file:NAME"):
            fbnet_zoo.create(definition, pretrained=True)

    def test_a_name_that_no_file_said_is_refused_too(self, definition: Path, saved: Path) -> None:
        spec = fbnet_zoo.get_spec(definition)
        folder = definition.parent / "deeper"
        folder.mkdir()
        for source in ("file:../weights.safetensors", f"file:{saved}", "file:"):
            entry = spec.weights[0].model_copy(update={"source": source})
            with pytest.raises(WeightsError, match="is outside"):
                weights.read(spec.model_copy(update={"weights": (entry,)}), True, folder)

    def test_a_link_to_elsewhere_is_refused(self, definition: Path, saved: Path) -> None:
        (saved.parent / "private").mkdir()
        saved.symlink_to(saved.rename(saved.parent / "private" / saved.name))
        with pytest.raises(WeightsError, match=r"weights\.safetensors is outside .*; copy it to that folder"):
            fbnet_zoo.create(definition, pretrained=True)

    def test_a_folder_that_is_a_link_is_none(self, definition: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(definition.parent)
        assert fbnet_zoo.create(tmp_path / "link" / definition.name, pretrained=True).weights == "near"

    def test_another_or_no_file_is_refused(self, definition: Path, saved: Path) -> None:
        content = saved.read_bytes()
        saved.write_bytes(content[:-1] + b"\1")
        with pytest.raises(
            WeightsError, match=rf"the file of {saved} has the sha256 .*, expected .*: copy the right one there"
        ):
            fbnet_zoo.create(definition, pretrained=True)
        saved.unlink()
        with pytest.raises(WeightsUnavailableError, match=rf"there is no file {saved}, which a definition requires"):
            fbnet_zoo.create(definition, pretrained=True)
        saved.mkdir()
        with pytest.raises(WeightsUnavailableError, match="there is no file"):
            fbnet_zoo.create(definition, pretrained=True)


class TestCommands:
    @pytest.fixture(autouse=True)
    def installed(self, home: Path, saved: Path, spec: ArchSpec) -> None:
        fbnet_zoo.install(spec, saved, tag="searched", licence="CC0-1.0")

    def test_eval_needs_nothing_but_the_name(self) -> None:
        result = json.loads(run("eval", "digits_net", "--data", "digits", "--json").stdout)
        assert (result["weights"], result["license"], result["images"]) == ("searched", "CC0-1.0", 360)

    def test_list_and_show(self) -> None:
        macs = fbnet_zoo.cost("digits_net").macs
        line = run("list", "digits_net").stdout.splitlines()[-1]
        assert line.split() == ["digits_net", "fbnetv3", "32", "0.05", f"{macs / 1e6:.2f}", "searched", "CC0-1.0"]
        assert "searched  file:digits_net.searched-" in run("show", "digits_net").stdout

    @pytest.mark.onnx
    @pytest.mark.slow
    def test_convert(self, tmp_path: Path) -> None:
        run("convert", "digits_net", "--to", "onnx", "--out", tmp_path / "out")
        manifest = json.loads((tmp_path / "out" / "digits_net.onnx.json").read_text())
        assert (manifest["weights"], manifest["license"]) == ("searched", "CC0-1.0")
