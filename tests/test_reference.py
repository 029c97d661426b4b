"""Every published network, layer by layer and count by count, against tests/data (see its README)."""

import math
from typing import Any

import pytest

from fbnet_zoo import planner
from fbnet_zoo.complexity import cost
from fbnet_zoo.plans import InvertedResidualPlan
from fbnet_zoo.registry import get_spec, list_models
from tests.helpers import layer_rows

MOBILE_CV = layer_rows.load("mobile_cv.json")
TIMM = layer_rows.load("timm.json")
CAFFE2 = layer_rows.load("caffe2.json")
PUBLISHED = layer_rows.load("published.json")
DEVICE_MODELS = {"fbnet_samsung_s8": (292_922_680, 4_431_040), "fbnet_iphone_x": (321_798_968, 4_471_376)}


def rows(facts: dict[str, Any]) -> list[str]:
    """The reference's layers; that a gamma starts at 0 is tested where parameters are (test_model)."""
    return [row.replace(" bn0", " bn") for row in facts["layers"]]


def as_timm_lists(ours: list[str]) -> list[str]:
    """Leave out what is no layer of timm's: additions, and pooling what is pooled already."""
    return [row for row in ours if row.split()[0] != "add" and not (row.startswith("gap") and row.endswith(" 1>1"))]


def folded(row: str) -> str:
    """Fold a convolution's batch norm into its bias."""
    head, bn, tail = row.partition(" bn")
    if not bn:
        return row
    words = head.split()
    return " ".join([*words[:-1], "bias", words[-1]]) + tail


def test_the_zoo_is_complete() -> None:
    expected = {facts["entry"] for facts in (*MOBILE_CV.values(), *TIMM.values(), *CAFFE2.values())}
    assert expected | DEVICE_MODELS.keys() <= set(list_models())


@pytest.mark.parametrize("name", [name for name in (*MOBILE_CV, *CAFFE2) if "@" not in name])
def test_published_names_are_aliases(name: str) -> None:
    assert get_spec(name).name == (MOBILE_CV | CAFFE2)[name]["entry"]


@pytest.mark.parametrize("name", MOBILE_CV)
class TestMobileVision:
    def test_counts_of_the_definition(self, name: str) -> None:
        facts = MOBILE_CV[name]
        spec = get_spec(facts["entry"])
        assert spec.input_size == facts["input_size"]
        assert (cost(spec).params, cost(spec).macs) == (facts["params"], facts["macs"])

    def test_layers_of_the_definition(self, name: str) -> None:
        facts = MOBILE_CV[name]
        assert layer_rows.of_definition(get_spec(facts["entry"]), facts["input_size"]) == rows(facts)

    @pytest.mark.slow
    def test_module(self, name: str) -> None:
        facts = MOBILE_CV[name]
        network = layer_rows.on_meta(get_spec(facts["entry"]))
        recorder = layer_rows.record(network, facts["input_size"])
        assert recorder.rows == rows(facts)
        assert (recorder.macs, recorder.eps) == (facts["macs"], {facts["bn_eps"]})
        assert sum(parameter.numel() for parameter in network.parameters()) == facts["params"]


@pytest.mark.parametrize("name", TIMM)
class TestTimm:
    def test_counts_of_the_definition(self, name: str) -> None:
        facts = TIMM[name]
        assert cost(facts["entry"]).params == facts["params"]
        assert {size: cost(facts["entry"], int(size)).macs for size in facts["macs"]} == facts["macs"]

    def test_layers_of_the_definition(self, name: str) -> None:
        facts = TIMM[name]
        ours = layer_rows.of_definition(get_spec(facts["entry"]), facts["input_size"])
        assert as_timm_lists(ours) == as_timm_lists(rows(facts))

    def test_module(self, name: str) -> None:
        facts = TIMM[name]
        network = layer_rows.on_meta(get_spec(facts["entry"]))
        recorder = layer_rows.record(network, facts["input_size"])
        assert as_timm_lists(recorder.rows) == as_timm_lists(rows(facts))
        assert recorder.macs == facts["macs"][str(facts["input_size"])]
        assert recorder.eps == {facts["bn_eps"]}
        assert sum(parameter.numel() for parameter in network.parameters()) == facts["params"]

    def test_residuals_are_mobile_visions(self, name: str) -> None:
        """timm's list has no additions: there, timm's networks are those of mobile-vision."""
        twin = "fbnet_c" if name == "fbnetc_100" else f"FBNetV3_{name[-1].upper()}"
        ours = layer_rows.of_definition(get_spec(TIMM[name]["entry"]), 224)
        channels = [row.split()[1] for row in ours if row.startswith("add")]
        assert channels == [row.split()[1] for row in MOBILE_CV[twin]["layers"] if row.startswith("add")]

    def test_weights_entry(self, name: str) -> None:
        facts = TIMM[name]
        spec = get_spec(facts["entry"])
        (entry,) = spec.weights
        size = facts["train_size"]
        assert (entry.tag, entry.source, entry.license.lower()) == (
            facts["tag"],
            f"hf://{facts['hub']}",
            facts["license"],
        )
        assert [entry.top1, entry.top5] == facts["results"][str(size)]
        preprocess = spec.eval_preprocess(entry.tag)
        assert (preprocess.crop, preprocess.resize) == (size, math.floor(size / facts["crop_pct"]))
        assert (preprocess.interpolation, preprocess.order) == (facts["interpolation"], "rgb")
        assert [[*preprocess.mean], [*preprocess.std]] == [facts["mean"], facts["std"]]


@pytest.mark.parametrize("name", CAFFE2)
class TestCaffe2:
    def test_macs_of_the_definition(self, name: str) -> None:
        facts = CAFFE2[name]
        spec = get_spec(facts["entry"])
        assert (spec.input_size, cost(spec).macs) == (facts["input_size"], facts["macs"])

    def test_layers_of_the_definition(self, name: str) -> None:
        facts = CAFFE2[name]
        ours = layer_rows.of_definition(get_spec(facts["entry"]), facts["input_size"])
        assert [folded(row) for row in ours] == facts["layers"]

    def test_blocks_of_the_definition(self, name: str) -> None:
        plan = planner.plan(get_spec(CAFFE2[name]["entry"]))
        ours = [
            block_row(block)
            for stage in plan.stages
            for block in stage.blocks
            if isinstance(block, InvertedResidualPlan)
        ]
        assert ours == CAFFE2[name]["blocks"]

    def test_fused_module(self, name: str) -> None:
        facts = CAFFE2[name]
        fused = layer_rows.on_meta(get_spec(facts["entry"])).fuse()
        recorder = layer_rows.record(fused, facts["input_size"])
        assert (recorder.rows, recorder.macs) == (facts["layers"], facts["macs"])
        sizes = {name: parameter.numel() for name, parameter in fused.named_parameters()}
        assert sum(sizes.values()) == facts["params_bn_fused"]
        assert sum(size for name, size in sizes.items() if name.endswith("weight")) == facts["weights"]

    def test_bare_depthwise(self, name: str) -> None:
        fused = layer_rows.on_meta(get_spec(CAFFE2[name]["entry"])).fuse()
        bare = {
            convolution.conv.bias is None
            for stage in fused.stages.values()
            for block in stage
            for convolution in getattr(block, "depthwise", ())
        }
        assert bare == {CAFFE2[name]["bare_depthwise"]}

    def test_reported_numbers(self, name: str) -> None:
        entry = CAFFE2[name]["entry"]
        (published,) = (item for item in PUBLISHED["caffe2"] if item["entry"] == entry)
        reported = {(item.precision, item.metric): item.value for item in get_spec(entry).reported}
        for precision in ("fp32", "int8"):
            assert [reported[precision, "top1"], reported[precision, "latency_ms"]] == published[precision]


def block_row(block: InvertedResidualPlan) -> str:
    assert block.expand is not None
    assert block.project is not None
    first, expand = block.depthwise[0], block.expand
    assert (block.shuffle, block.project.groups) == (expand.groups, expand.groups)
    kernels = "+".join(str(conv.kernel_size) for conv in block.depthwise)
    expansion = f"{expand.out_channels / expand.in_channels:g}"
    row = f"k{kernels} e{expansion} {expand.in_channels}>{block.out_channels} s{first.stride} g{expand.groups}"
    return row + (" res" if block.residual else "") + ("" if first.act else " bare")


@pytest.mark.parametrize("name", DEVICE_MODELS)
def test_device_models(name: str) -> None:
    macs, weights = DEVICE_MODELS[name]
    spec = get_spec(name)
    network = layer_rows.on_meta(spec)
    convolutions = {row for row in layer_rows.record(network, 224).rows if row.startswith("conv")}
    assert cost(name).macs == macs
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1) == weights
    assert not any("bias" in row for row in convolutions)
    assert spec.reconstruction


@pytest.mark.parametrize("published", PUBLISHED["pytorch"], ids=lambda published: published["entry"])
def test_published_weights(published: dict[str, Any]) -> None:
    spec = get_spec(published["entry"])
    (entry,) = (entry for entry in spec.weights if entry.source == published["url"])
    assert (entry.layout, entry.license) == ("mobile_vision", "CC-BY-NC-4.0")
    assert (entry.top1, entry.top5) == (published["top1"], published["top5"])
    preprocess = spec.eval_preprocess(entry.tag)
    resize = published["resize"] or math.ceil(256 / 224 * published["resolution"] / 8) * 8
    assert (preprocess.crop, preprocess.resize) == (published["resolution"], resize)
    assert (preprocess.interpolation, preprocess.order) == ("bilinear", "rgb")
    assert (preprocess.mean, preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
