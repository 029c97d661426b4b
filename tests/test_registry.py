"""Names, aliases, tags and paths to definitions."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fbnet_zoo
from fbnet_zoo import arch_file, registry
from fbnet_zoo.errors import DefinitionError, InputError, UnknownNameError
from fbnet_zoo.registry import get_spec, list_models, register, resolve
from tests.test_arch_defs import FILES
from tests.test_arch_file import TINY


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A definition of the user's; what a test registers is forgotten after it."""
    before = dict(registry._registered)
    path = tmp_path / "any_name.yaml"
    path.write_text(TINY, encoding="utf-8")
    yield path
    registry._registered.clear()
    registry._registered.update(before)


class TestList:
    def test_all(self) -> None:
        assert list_models() == sorted(path.stem for path in FILES)

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("fbnet_[ab]", ["fbnet_a", "fbnet_b"]),
            ("chamnet_?", [f"chamnet_{letter}" for letter in "abcdef"]),
            ("*_timm", ["fbnetv3_b_timm", "fbnetv3_d_timm", "fbnetv3_g_timm"]),
            ("fbnet_b", ["fbnet_b"]),
            ("FBNet*", []),
            ("", []),
        ],
    )
    def test_pattern(self, pattern: str, names: list[str]) -> None:
        assert list_models(pattern) == names

    def test_family(self) -> None:
        assert list_models(family="chamnet") == list_models("chamnet_*")
        families = {spec.family for spec in map(get_spec, list_models())}
        assert sorted(name for family in families for name in list_models(family=family)) == list_models()
        assert list_models("*_timm", family="fbnet") == []

    @pytest.mark.parametrize(
        ("family", "hint"), [("fbnetx", "; did you mean 'fbnet'?"), ("", "; expected one of fbnet, chamnet, fbnetv2, ")]
    )
    def test_unknown_family(self, family: Any, hint: str) -> None:
        with pytest.raises(UnknownNameError) as caught:
            list_models("no such pattern", family=family)
        assert str(caught.value).startswith(f"there is no family {family!r}{hint}")

    def test_pretrained(self) -> None:
        with_weights = [name for name in list_models() if get_spec(name).weights]
        assert list_models(pretrained=True) == with_weights
        assert "fbnet_b" in with_weights
        assert list_models(pretrained=False) == sorted(set(list_models()) - set(with_weights))
        assert list_models("fbnet_?", family="fbnet", pretrained=True) == ["fbnet_a", "fbnet_b", "fbnet_c"]


class TestNames:
    def test_every_name_is_found(self) -> None:
        assert [get_spec(name).name for name in list_models()] == list_models()

    def test_alias_and_tag(self) -> None:
        assert resolve("FBNetV3_A") == (get_spec("fbnetv3_a"), None)
        assert resolve("fbnetv3_a.fb_in1k") == (get_spec("fbnetv3_a"), "fb_in1k")
        assert resolve("FBNetV3_A.fb_in1k") == (get_spec("fbnetv3_a"), "fb_in1k")
        assert get_spec("mnv2").name == "mobilenet_v2"
        assert get_spec("mnv3").name == "mobilenet_v3_large"

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("fbnet_bb", "no entry of the zoo is named 'fbnet_bb'; did you mean 'fbnet_b'?"),
            ("FBNETV3_A", "no entry of the zoo is named 'FBNETV3_A'; did you mean 'fbnetv3_a'?"),
            ("resnet50", "no entry of the zoo is named 'resnet50'; list_models() lists all names"),
            ("", "no entry of the zoo is named ''; list_models() lists all names"),
            ("fbnet_b.fb_in21k", "fbnet_b has no weights 'fb_in21k'; did you mean 'fb_in1k'?"),
            ("fbnet_b.zzz", "fbnet_b has no weights 'zzz'; it has fb_in1k"),
            (".yaml_", "no entry of the zoo is named '.yaml_'; list_models() lists all names"),
            ("fbnet_bb.fb_in1k", "no entry of the zoo is named 'fbnet_bb.fb_in1k'; did you mean 'fbnet_b'?"),
            ("fbnetv3_b.ra2_in1k", "fbnetv3_b has no weights 'ra2_in1k'; did you mean 'fbnetv3_b_timm.ra2_in1k'?"),
            ("fbnetv3_b.fb_in22k", "fbnetv3_b has no weights 'fb_in22k'; did you mean 'fb_in1k'?"),
            ("fbnet_b.", "fbnet_b has no weights ''; it has fb_in1k"),
            ("chamnet_a.fb", "chamnet_a has no weights 'fb'; it has no published weights"),
        ],
    )
    def test_unknown(self, name: str, error: str) -> None:
        with pytest.raises(UnknownNameError) as caught:
            resolve(name)
        assert str(caught.value) == error
        assert isinstance(caught.value, KeyError)

    @pytest.mark.parametrize("name", [None, 3, get_spec("fbnet_b")])
    def test_no_text(self, name: Any) -> None:
        with pytest.raises(InputError) as caught:
            resolve(name)
        assert str(caught.value) == f"expected the name or path of a definition; got {type(name).__name__}"


class TestPaths:
    def test_the_name_in_the_file_need_not_be_the_files(self, own: Path) -> None:
        assert get_spec(own).name == get_spec(str(own)).name == "tiny"
        assert "tiny" not in list_models()

    def test_any_suffix_with_a_path(self, own: Path) -> None:
        assert get_spec(own.rename(own.with_suffix(".txt"))).name == "tiny"

    def test_capital_suffix(self, own: Path) -> None:
        assert get_spec(str(own.rename(own.with_suffix(".YAML")))).name == "tiny"

    @pytest.mark.parametrize("path", ["./nothere", "../fbnet_b.yaml.txt", "a/fbnet_b", "defs\\fbnet_b"])
    def test_text_that_can_only_be_a_path(self, path: str) -> None:
        with pytest.raises(InputError) as caught:
            get_spec(path)
        expected = "is not the path of a definition; expected a .yaml or .yml file"
        assert str(caught.value) == f"{path!r} {expected}"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read .*absent\.yaml: No such file"):
            get_spec(str(tmp_path / "absent.yaml"))

    def test_a_wrong_file(self, own: Path) -> None:
        own.write_text(TINY.replace("op: skip", "op: skp"), encoding="utf-8")
        with pytest.raises(DefinitionError, match=rf"{own}:15: 'op' cannot be 'skp'"):
            get_spec(own)


class TestRegister:
    def test_it_joins_the_zoo(self, own: Path) -> None:
        own.write_text(TINY + "aliases: [Tiny]\n", encoding="utf-8")
        assert register(own) == arch_file.load(own)
        assert "tiny" in list_models()
        assert list_models("tiny", family="fbnet", pretrained=True) == ["tiny"]
        assert resolve("Tiny.two") == (get_spec("tiny"), "two")
        assert fbnet_zoo.cost("tiny").params == fbnet_zoo.cost(own).params

    @pytest.mark.parametrize(
        ("change", "taken"),
        [
            (("name: tiny", "name: fbnet_b"), "fbnet_b"),
            (("name: tiny", "name: tiny\naliases: [fbnet_c]"), "fbnet_c"),
            (("name: tiny", "name: tiny\naliases: [FBNetV3_A]"), "FBNetV3_A"),
            (("name: tiny", "name: mnv2"), "mnv2"),
        ],
    )
    def test_a_name_is_given_once(self, own: Path, change: tuple[str, str], taken: str) -> None:
        own.write_text(TINY.replace(*change), encoding="utf-8")
        line = own.read_text(encoding="utf-8").splitlines().index(change[1].splitlines()[-1]) + 1
        with pytest.raises(DefinitionError) as caught:
            register(str(own))
        assert str(caught.value) == f"{own}:{line}: an entry named {taken!r} exists; choose another name"
        assert list_models("tiny") == []

    def test_twice(self, own: Path) -> None:
        register(own)
        with pytest.raises(InputError, match="an entry named 'tiny' exists"):
            register(own)


@pytest.mark.parametrize(
    "statement",
    [
        "fbnet_zoo.list_models()",
        "fbnet_zoo.list_models('*b*', family='fbnet', pretrained=True)",
        "fbnet_zoo.get_spec('FBNetV3_A')",
        "fbnet_zoo.cost('fbnet_b', 192)",
    ],
)
def test_no_heavy_library_is_imported(statement: str) -> None:
    heavy = "{'torch', 'torchvision', 'timm', 'onnx', 'coremltools', 'executorch', 'numpy'}"
    code = f"import fbnet_zoo, sys; {statement}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
