"""The rules of the Neural Engine: which layers are named, and the numbers that are told of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from fbnet_zoo import arch_file
from fbnet_zoo.cli.app import app
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError, UnknownNameError
from fbnet_zoo.lint import LintFinding, Report, lint
from fbnet_zoo.registry import get_spec, list_models
from fbnet_zoo.spec import ArchSpec
from tests.helpers import layer_rows

ODD = """
name: odd
family: fbnet
summary: "Kernels that the Neural Engine is slow at."
input_size: 96
defaults: {op: ir, act: relu}
stem: {op: conv, k: 7, c: 16, s: 2}
stages:
  4:
    - {k: 9, e: 2, c: 24, s: 2}
    - {k: 11, e: 2, c: 24}
  8:
    - {k: 5, e: 2, c: 32, s: 2}
head: {op: conv, k: 1, c: 64}
classifier: linear
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.yaml"
    path.write_text(ODD)
    return path


@pytest.fixture
def report(odd: Path) -> Report:
    return lint(arch_file.load(odd))


def found(report: Report, rule: str) -> dict[str, LintFinding]:
    return {finding.layer: finding for finding in report.findings if finding.rule == rule}


class TestRules:
    def test_of_kernels_names_those_beyond_5(self, report: Report) -> None:
        kernels = found(report, "kernel")
        assert {name: finding.found for name, finding in kernels.items()} == {
            "stem.conv": "kernel 7x7",
            "stages.4.0.depthwise.0.conv": "kernel 9x9",
            "stages.4.1.depthwise.0.conv": "kernel 11x11",
        }
        advice = [finding.advice for finding in kernels.values()]
        for text, kernel in zip(advice, ("5 and 3", "5 and 5", "5 or less"), strict=True):
            assert text.startswith(f"use kernels of {kernel} in sequence")

    def test_of_kernels_weighs_them_by_their_work(self, report: Report, odd: Path) -> None:
        counted = cost(arch_file.load(odd))
        for finding in found(report, "kernel").values():
            share = next(layer.macs for layer in counted.layers if layer.name == finding.layer) / counted.macs
            assert finding.mac_share == pytest.approx(share)
            assert finding.severity == ("high" if share >= 0.05 else "medium" if share >= 0.01 else "low")

    def test_of_linear_layers_says_that_our_files_have_none(self, report: Report) -> None:
        (finding,) = found(report, "linear").values()
        assert (finding.layer, finding.severity) == ("classifier", "low")
        assert "1x1 convolution" in finding.advice
        assert found(lint("fbnet_b"), "linear") == {}  # its classifier is a convolution

    def test_of_rows_counts_the_padding(self, report: Report) -> None:
        """Of 12 x 12 maps: 24 bytes in a row, filled up to 64."""
        rows = found(report, "width")
        finding = rows["stages.8.0.depthwise.0.conv"]
        assert (finding.found, finding.growth) == ("rows of 12", pytest.approx(64 / 24))
        assert finding.padding_bytes == 48 * 12 * 40
        assert rows["stages.8.0.project.conv"].padding_bytes == 32 * 12 * 40
        assert "stages.4.0.project.conv" not in rows  # of 24: 48 bytes, a third of padding

    def test_of_rows_finds_that_maps_of_7_grow_4_6_times(self) -> None:
        rows = found(lint("fbnet_b"), "width")
        assert rows["stages.32.4.depthwise.0.conv"].growth == pytest.approx(4.571, abs=1e-3)
        assert rows["pool"].growth == 32
        assert "one value takes 64 bytes" in rows["pool"].advice


def outputs(spec: ArchSpec, size: int) -> list[tuple[int, int]]:
    """Channels and side of the input, and of what every layer puts out that makes a new tensor, by PyTorch."""
    network, shapes = layer_rows.on_meta(spec), [(3, size)]
    made = (nn.Conv2d, nn.Linear, nn.AdaptiveAvgPool2d)

    def note(output: torch.Tensor) -> None:
        shapes.append((output.shape[1], output.shape[2] if output.ndim == 4 else 1))

    for module in network.modules():
        if isinstance(module, made):
            module.register_forward_hook(lambda _module, _inputs, output: note(output))
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size, device="meta"))
    return shapes


@pytest.mark.parametrize(("name", "size"), [("fbnet_a", 224), ("fbnet_b", 192)])
def test_totals_are_those_of_the_network(name: str, size: int) -> None:
    spec = get_spec(name)
    additions = [
        (layer.out_channels, layer.size_out) for layer in walked(spec, size) if layer.type in {"add", "mul", "shuffle"}
    ]
    tensors = outputs(spec, size) + additions
    report = lint(name, input_size=size)
    assert report.activation_bytes == sum(2 * c * s * s for c, s in tensors)
    assert report.padded_bytes == sum(c * s * (2 * s + -2 * s % 64) for c, s in tensors)
    assert sum(finding.padding_bytes for finding in report.findings) <= report.padded_bytes - report.activation_bytes


def walked(spec: ArchSpec, size: int) -> list[Any]:
    from fbnet_zoo import planner
    from fbnet_zoo.layers import walk

    return list(walk(planner.plan(spec), size))


@pytest.mark.parametrize("name", list_models())
def test_every_definition_can_be_checked(name: str) -> None:
    report = lint(name)
    assert report.largest_rank <= 5
    assert set(report.strides) == {1, 2}
    assert {finding.rule for finding in report.findings} <= {"width", "linear", "kernel"}
    assert all(finding.growth >= 1 and 0 <= finding.activation_share < 1 for finding in report.findings)


def test_a_larger_image_pads_less() -> None:
    assert lint("fbnet_b", input_size=512).growth < lint("fbnet_b").growth < lint("fbnet_b", input_size=128).growth


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"^there are no rules for 'tpu'; expected ane$"):
        lint("fbnet_b", "tpu")
    with pytest.raises(UnknownNameError, match="did you mean 'fbnet_b'"):
        lint("fbnet_bb")
    with pytest.raises(InputError, match=r"an image of 0 px is too small|input_size cannot be 0"):
        lint("fbnet_b", input_size=0)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["lint", *(str(word) for word in words)])


class TestCommand:
    def test_names_layers_costs_and_cures(self, odd: Path) -> None:
        result = run(odd, "--target", "ane")
        assert result.exit_code == 0
        assert "stem.conv" in result.stdout
        assert "kernel 7x7" in result.stdout
        assert "kernel: use kernels of 5 and 3 in sequence" in result.stdout
        assert "rank 4 at most (5 is the limit), strides of 1 and 2" in result.stdout
        assert "activations" in result.stdout
        assert "--dynamic-batch" in result.stdout

    def test_hides_what_is_of_low_severity(self) -> None:
        short, long = run("fbnet_b"), run("fbnet_b", "--all")
        assert "stages.16.1.add" not in short.stdout
        assert "--all shows the 34 not listed" in short.stdout
        assert "stages.16.1.add" in long.stdout
        assert "--all" not in long.stdout

    def test_tells_all_as_json(self, odd: Path, report: Report) -> None:
        told = json.loads(run(odd, "--json", "--input-size", 96).stdout)
        assert [finding["layer"] for finding in told["findings"]] == [finding.layer for finding in report.findings]
        assert told["padded_bytes"] == report.padded_bytes
        assert told["growth"] == pytest.approx(report.growth)

    @pytest.mark.parametrize(("options", "code"), [((), 0), (("--strict",), 1), (("--strict", "--json"), 1)])
    def test_fails_only_if_strict(self, odd: Path, options: tuple[str, ...], code: int) -> None:
        assert run(odd, *options).exit_code == code

    def test_of_an_unknown_target_ends_in_one_line(self) -> None:
        result = run("fbnet_b", "--target", "an")
        assert (result.exit_code, result.stderr) == (2, "error: there are no rules for 'an'; did you mean 'ane'?\n")
