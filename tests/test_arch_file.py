"""Definition files: what a mistake is answered with, word for word."""

import os
from pathlib import Path

import pytest

from fbnet_zoo import arch_file, planner
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import DefinitionError, InputError
from fbnet_zoo.maintain import fill_counts
from fbnet_zoo.spec import ArchSpec, CountsSpec

TINY = """\
name: tiny
family: fbnet
summary: A network for tests.
input_size: 64
defaults: {op: ir, act: relu, bias: true}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {k: 3, e: 1, c: 8}
  4:
    - {k: 3, e: 6, c: 16, s: 2}
    - {k: 5, e: 3, c: 16, r: 2}
  8:
    - {k: 3, e: 6, c: 24, s: 2}
    - {op: skip, c: 24}
head: {op: conv, k: 1, c: 32}
weights:
  - {tag: one, source: "https://example.org/one.pth", layout: fbnet_zoo, license: MIT}
  - {tag: two, source: "hf://owner/two", layout: timm, license: MIT}
reported:
  - {metric: top1, value: 70.5, source: a table}
"""
ROW, LAST, STEM, HEAD = TINY.splitlines()[11], TINY.splitlines()[13], TINY.splitlines()[5], TINY.splitlines()[15]
KEYS = "act, bias, c, depthwise_groups, depthwise_repeats, divisor, dw, dwg, e, expansion, g, groups, k, keep_expand, "
KEYS += "kernel_size, linear_depthwise, op, out_channels, pad, padding, r, repeats, s, se, se_act, se_gate, se_of, "
KEYS += "se_ratio, stride"
ACTS = "expected 'relu', 'relu6', 'hard_swish' or 'swish'"
OPS = "expected 'conv', 'ir', 'fused_ir', 'ir_pool' or 'skip'"
STRIDES = "the strides of the stem and of all rows up to its end must multiply to 8, in one stage only"
GROUPS = "choose groups that divide the channels before, in and after the block"
RESIDUAL = "the size of the image, but the input is added to the output; use an odd kernel_size without 'padding', "
RESIDUAL += "other channels or a stride"
ROW_FORM = "expected a mapping for a row, such as {op: conv, k: 3, c: 16}"

MISTAKES = [
    # unknown keys: in a row, at the top, in the defaults, in metadata
    (ROW, "    - {k: 5, e: 3, c: 16, strid: 1}", "12: unknown key 'strid'; did you mean 'stride'?"),
    (ROW, "    - {k: 5, e: 3, c: 16, n: 1}", f"12: unknown key 'n'; expected one of {KEYS}"),
    (ROW, "    - {k: 5, e: 3, c: 16, yes: 1}", "12: unknown key 'yes'; did you mean 's'?"),
    ("family: fbnet", "famly: fbnet", "2: unknown key 'famly'; did you mean 'family'?"),
    ("act: relu", "akt: relu", "5: unknown key 'akt'; did you mean 'act'?"),
    ("license: MIT", "licence: MIT", "18: unknown key 'licence'; did you mean 'license'?"),
    # unknown words
    ("{op: skip", "{op: skp", f"15: 'op' cannot be 'skp': {OPS}; did you mean 'skip'?"),
    ("{op: skip", "{op: o", f"15: 'op' cannot be 'o': {OPS}"),
    ("{op: ir,", "{op: ri,", f"5: 'op' cannot be 'ri': {OPS}; did you mean 'ir'?"),
    (
        ROW,
        ROW.replace("r:", "act: hardswish, r:"),
        f"12: 'act' cannot be 'hardswish': {ACTS}; did you mean 'hard_swish'?",
    ),
    ("act: relu", "act: relu7", f"5: 'act' cannot be 'relu7': {ACTS}; did you mean 'relu'?"),
    (
        "layout: timm",
        "layout: tim",
        "19: 'layout' cannot be 'tim': expected 'fbnet_zoo', 'timm' or 'mobile_vision'; did you mean 'timm'?",
    ),
    (
        "name: tiny",
        "name: Tiny",
        "1: 'name' cannot be 'Tiny': expected a lower-case word of letters, digits and underscores",
    ),
    # wrong types
    ("size: 64", "size: 64.0", "4: 'input_size' cannot be 64.0: expected a whole number"),
    ("size: 64", 'size: "64"', "4: 'input_size' cannot be '64': expected a whole number"),
    ("size: 64", "size: 1:04", "4: 'input_size' cannot be '1:04': expected a whole number"),
    ("size: 64", "size: 064", "4: 'input_size' cannot be '064': expected a whole number"),
    ("size: 64", "size: true", "4: 'input_size' cannot be true: expected a whole number"),
    ("size: 64", "size: 1", "4: 'input_size' cannot be 1: input should be greater than or equal to 8"),
    (LAST, LAST.replace("s: 2", "s: 2.0"), "14: 'stride' cannot be 2.0: expected a whole number"),
    (LAST, LAST.replace("s: 2", "s: true"), "14: 'stride' cannot be true: expected a whole number"),
    (LAST, LAST.replace("s: 2", "s: 3"), "14: 'stride' cannot be 3: input should be less than or equal to 2"),
    (LAST, LAST.replace("e: 6", "e: six"), "14: 'expansion' cannot be 'six': expected a number"),
    (LAST, LAST.replace("e: 6", "e: .nan"), "14: 'expansion' cannot be '.nan': expected a number"),
    (LAST, LAST.replace("e: 6", "e: 1e999"), "14: 'expansion' cannot be Infinity: input should be a finite number"),
    (LAST, LAST.replace("e: 6", "e: -1"), "14: 'expansion' cannot be -1: input should be greater than 0"),
    ("bias: true", "bias: yes", "5: 'bias' cannot be 'yes': expected true or false"),
    ("value: 70.5", "value: -.inf", "21: 'value' cannot be '-.inf': expected a number"),
    ("A network for tests.", "3", "3: 'summary' cannot be 3: expected text; put it in quotes"),
    ("A network for tests.", "", "3: 'summary' cannot be null: expected text; put it in quotes"),
    ("A network for tests.", '""', "3: 'summary' cannot be '': string should have at least 1 character"),
    ("reported:", "paper: 3\nreported:", "20: 'paper' cannot be 3: expected a mapping of keys to values"),
    ("reported:", "aliases: tiny\nreported:", "20: 'aliases' cannot be 'tiny': input should be a valid list"),
    (
        "reported:",
        "preprocess: {resize: 72, crop: 64, std: [0, 1, 1]}\nreported:",
        "20: 'std' cannot be 0: input should be greater than 0",
    ),
    (
        "reported:",
        "preprocess: {resize: 72, crop: 64, mean: [0, 1]}\nreported:",
        "20: 'mean' has too few values; add the others",
    ),
    # rows and stages that are none
    ("{op: skip, c: 24}", "24", f"15: {ROW_FORM}"),
    ("{op: skip, c: 24}", "", f"15: {ROW_FORM}"),
    (STEM, "stem: 3", f"6: {ROW_FORM}"),
    ("stages:\n", "stages: 3\nx:\n", "7: expected a mapping of output strides to rows in 'stages'"),
    ("  8:\n", "  8: {k: 3}\n  16:\n", "13: expected a list in stage '8': one '- {…}' per row"),
    ("  8:\n", "  7:\n", "13: 'output_stride' cannot be '7': expected 1, 2, 4, 8, 16 or 32"),
    # missing
    ("name: tiny\n", "", "1: 'name' is missing; add it"),
    (LAST, LAST.replace(", c: 24", ""), "14: 'out_channels' is missing; add it"),
    (LAST, LAST.replace("e: 6, ", ""), "14: op 'ir' requires 'expansion'; add it"),
    (LAST, LAST.replace("k: 3, ", ""), "14: op 'ir' requires 'kernel_size'; add it"),
    (", license: MIT", "", "18: 'license' is missing; add it"),
    # twice
    (LAST, LAST.replace("k: 3", "k: 3, k: 5"), "14: duplicate key 'k'; keep one"),
    ("  8:\n", "  4:\n", "13: duplicate key '4'; keep one"),
    ("  8:\n", '  "4":\n', "13: duplicate key '4'; keep one"),
    ("family: fbnet", "family: fbnet\nname: tiny", "3: duplicate key 'name'; keep one"),
    (
        LAST,
        LAST.replace("k: 3", "k: 3, kernel_size: 5"),
        "14: a row has both 'k' and 'kernel_size', which are the same; keep one",
    ),
    ("tag: two", "tag: one", "19: two weights entries have the tag 'one'; rename one"),
    # what does not fit together
    (LAST, LAST.replace(", s: 2", ""), f"13: stage 8 ends at output stride 4; {STRIDES}"),
    ("{op: skip, c: 24}", "{op: skip, c: 24, s: 2}", f"13: stage 8 ends at output stride 16; {STRIDES}"),
    (
        "{op: skip, c: 24}",
        "{op: skip, c: 24, k: 3}",
        "15: 'kernel_size' does not apply to op 'skip' in a stage; remove it",
    ),
    ("k: 1, c: 32", "k: 1, c: 32, se: 0.25", "16: 'se_ratio' does not apply to op 'conv' in a head; remove it"),
    (
        "k: 1, c: 32",
        "k: 1, c: 32, se_gate: sigmoid",
        "16: 'se_gate' does not apply to op 'conv' in a head; remove it",
    ),
    (STEM, STEM.replace("s: 2", "s: 2, r: 2"), "6: 'repeats' does not apply to op 'conv' in a stem; remove it"),
    (HEAD, HEAD.replace("c: 32", "c: 32, s: 2"), "16: 'stride' does not apply to op 'conv' in a head; remove it"),
    (ROW, ROW.replace("r: 2", "pad: 1"), f"12: kernel_size 5 with padding 1 changes {RESIDUAL}"),
    (ROW, ROW.replace("k: 5", "k: 4"), f"12: kernel_size 4 with padding 2 changes {RESIDUAL}"),
    (
        "{op: skip, c: 24}",
        "{op: ir_pool, e: 6, c: 24}",
        "15: op 'ir_pool' is not allowed in a stage; expected conv or ir or fused_ir or skip",
    ),
    (STEM, "stem: {k: 3, e: 1, c: 8, s: 2}", "6: op 'ir' is not allowed in a stem; expected conv"),
    (LAST, LAST.replace("s: 2", "s: 2, g: 5"), f"14: 16 channels cannot be split into 5 groups; {GROUPS}"),
    (LAST, LAST.replace("s: 2", "s: 2, dwg: 5"), f"14: 96 channels cannot be split into 5 groups; {GROUPS}"),
    (ROW, ROW.replace("r: 2", "r: 2, g: 3"), f"12: 16 channels cannot be split into 3 groups; {GROUPS}"),
    (STEM, STEM.replace("s: 2", "s: 2, g: 2"), f"6: 3 channels cannot be split into 2 groups; {GROUPS}"),
    (HEAD, HEAD.replace("c: 32", "c: 32, g: 5"), f"16: 24 channels cannot be split into 5 groups; {GROUPS}"),
    (
        "https://example.org/one.pth",
        "ftp://example.org/one.pth",
        "18: 'source' cannot be 'ftp://example.org/one.pth': expected https://…, hf://… or file:NAME.safetensors",
    ),
    (
        "license: MIT",
        "license: MIT, sha256: abc",
        "18: 'sha256' cannot be 'abc': expected 8 to 64 hexadecimal digits",
    ),
    (
        "reported:",
        "classifier: convolution\nreported:",
        "20: 'classifier' cannot be 'convolution': expected 'linear' or 'conv'; did you mean 'conv'?",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "error"), MISTAKES, ids=[error for _, _, error in MISTAKES])
def test_a_mistake_gets_one_sentence(right: str, wrong: str, error: str) -> None:
    text = TINY.replace(right, wrong, 1)
    assert text != TINY
    with pytest.raises(DefinitionError) as caught:
        arch_file.parse(text, "tiny.yaml")
    assert str(caught.value) == f"tiny.yaml:{error}"


def test_the_unchanged_text_is_right() -> None:
    spec = arch_file.parse(TINY)
    assert (spec.name, spec.stem.bias, planner.resolve(spec, spec.stem).bias) == ("tiny", None, True)
    assert [len(stage.blocks) for stage in spec.stages] == [1, 2, 2]


def test_letters_and_names_say_the_same() -> None:
    spelled = TINY.replace("{k: 5, e: 3, c: 16, r: 2}", "{kernel_size: 5, expansion: 3, out_channels: 16, repeats: 2}")
    assert spelled != TINY
    assert arch_file.parse(spelled) == arch_file.parse(TINY)


def test_a_null_is_not_said() -> None:
    assert planner.plan(arch_file.parse(TINY.replace("r: 2", "r: 2, pad: null"))) == planner.plan(arch_file.parse(TINY))
    with pytest.raises(DefinitionError, match="tiny:12: op 'ir' requires 'kernel_size'"):
        arch_file.parse(TINY.replace("k: 5", "k: null"), "tiny")


def test_errors_have_a_place_without_a_file() -> None:
    fields = arch_file.parse(TINY).model_dump(exclude_unset=True)
    fields["stages"][1]["blocks"][1]["groups"] = 3
    with pytest.raises(InputError) as caught:
        planner.plan(ArchSpec.model_validate(fields))
    assert caught.value.location == ("stages", 1, "blocks", 1)


def test_numbers_of_yaml_1_2_are_numbers() -> None:
    """PyYAML would read 1e-3 as text."""
    assert arch_file.parse(TINY + "bn_eps: 1e-3\n").bn_eps == 0.001


def test_blocks_are_limited() -> None:
    """A file within the size limit cannot ask for a million blocks."""
    rows = "    - {op: skip, c: 24, r: 64}\n" * 64
    with pytest.raises(
        DefinitionError, match=r"tiny:13: 'blocks' cannot be .*: list should have at most 64 items, not 65"
    ):
        arch_file.parse(TINY.replace("    - {op: skip, c: 24}\n", rows), "tiny")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "other_name.yaml"
    spec = arch_file.parse(TINY)
    arch_file.save(spec, path)
    assert arch_file.load(path) == spec
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(arch_file, "dump", lambda spec: "\udc80")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        arch_file.save(arch_file.parse(TINY), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ["params", "macs"])
def test_wrong_counts_are_refused_with_their_line(key: str, tmp_path: Path) -> None:
    spec = arch_file.parse(TINY)
    found = cost(spec)
    right = {"params": found.params, "macs": found.macs}
    path = tmp_path / "net.yaml"
    arch_file.save(spec.model_copy(update={"counts": CountsSpec(**right)}), path)
    assert arch_file.load(path).counts == CountsSpec(**right)
    arch_file.save(spec.model_copy(update={"counts": CountsSpec(**right | {key: right[key] + 1})}), path)
    with pytest.raises(DefinitionError, match=rf"net\.yaml:\d+: '{key}' is {right[key] + 1}, but the network has"):
        arch_file.load(path)
    fill_counts(path)
    assert arch_file.load(path).counts == CountsSpec(**right)


@pytest.mark.parametrize("size", [3584, 3585, 4096])
def test_the_largest_images_have_a_usual_preprocessing(size: int) -> None:
    spec = arch_file.parse(TINY).model_copy(update={"input_size": size})
    assert spec.eval_preprocess().crop == size < spec.eval_preprocess().resize
