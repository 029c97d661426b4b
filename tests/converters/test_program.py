"""The deploy form, and the program that all converters start from."""

import copy
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import registry
from fbnet_zoo.blocks import SqueezeExcitation
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.program import Program, deploy_form, export
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec, PreprocessSpec, WeightsSpec
from fbnet_zoo.weights.loading import randomize

FUNCTIONS = {"conv2d", "relu", "hardtanh", "relu6", "hardswish", "silu", "sigmoid", "adaptive_avg_pool2d"}
GLUE = {"add", "mul", "view", "transpose", "contiguous"}


def decibels(expected: Tensor, got: Tensor) -> float:
    noise = (expected.double() - got.double()).square().sum()
    return float(10 * torch.log10(expected.double().square().sum() / noise))


def images(count: int, channels: int = 3, size: int = 64) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def run(program: Program, batch: Tensor) -> Tensor:
    return program.exported.module(check_guards=False)(batch)


def network(spec: ArchSpec, **arguments: int) -> FBNet:
    model = FBNet(spec, **arguments)
    randomize(model, 3)
    return model


@torch.no_grad()
def test_deploy_form_computes_what_the_model_computes(tiny_model: FBNet) -> None:
    deployed = deploy_form(tiny_model).double()
    batch = images(4).double()
    assert decibels(tiny_model.double()(batch), deployed(batch)) > 110  # dB


@torch.no_grad()
def test_gates_of_the_deploy_form_saturate_where_those_of_the_model_do(tiny_model: FBNet) -> None:
    for module in tiny_model.modules():
        if isinstance(module, SqueezeExcitation):
            module.expand.weight *= 30
    deployed = deploy_form(tiny_model).double()
    batch = images(4).double()
    assert decibels(tiny_model.double()(batch), deployed(batch)) > 100  # dB


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments", [{"num_classes": 0}, {"num_classes": 1}, {"in_chans": 1}, {"in_chans": 5}, {"output_stride": 8}]
)
def test_deploy_form_of_other_heads_and_stems(tiny_spec: ArchSpec, arguments: dict[str, int]) -> None:
    model = network(tiny_spec, **arguments).eval()
    batch = images(2, arguments.get("in_chans", 3)).double()
    deployed, expected = deploy_form(model).double()(batch), model.double()(batch)
    assert deployed.shape == expected.shape
    assert decibels(expected, deployed) > 110


def test_model_stays_as_it_was(tiny_model: FBNet) -> None:
    before, kinds = copy.deepcopy(tiny_model.state_dict()), [type(module) for module in tiny_model.modules()]
    tiny_model.train()
    export(tiny_model, ConvertOptions(precision="fp16"))
    assert tiny_model.training
    assert [type(module) for module in tiny_model.modules()] == kinds
    assert before.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_weights_that_are_not_finite_are_refused(tiny_model: FBNet) -> None:
    tiny_model.stem.conv.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ConversionError, match=r"^tiny: .*expected at least 110 dB; are all weights finite\?$"):
        deploy_form(tiny_model)


def test_a_layer_that_the_rewriting_does_not_expect_is_caught(tiny_model: FBNet) -> None:
    class Scaled(nn.Hardsigmoid):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0.99

    tiny_model.stages["8"][0].se.gate = Scaled()
    with pytest.raises(ConversionError, match="the deploy form agrees with the model to"):
        deploy_form(tiny_model)


def test_graph_holds_only_what_every_backend_takes(tiny_model: FBNet) -> None:
    program = export(tiny_model, ConvertOptions(dynamic_batch=True))
    calls = [node for node in program.exported.graph.nodes if node.op == "call_function"]
    used = Counter(str(node.target).split(".")[1] for node in calls)
    assert used.keys() <= FUNCTIONS | GLUE
    assert used["adaptive_avg_pool2d"] == 4  # three squeeze-excites and the head
    views = [node.args[1] for node in calls if "view" in str(node.target)]
    assert all(shape[0] == -1 and all(isinstance(size, int) for size in shape) for shape in views)


def test_parameters_are_laid_out_plainly(tiny_model: FBNet) -> None:
    for value in deploy_form(tiny_model.to(memory_format=torch.channels_last)).parameters():
        assert value.stride() == torch.empty(value.shape).stride()


def test_program_tells_what_it_is(tiny_model: FBNet) -> None:
    labels = tuple("abcdefghij")
    program = export(tiny_model, ConvertOptions(labels=labels))
    assert program.spec is tiny_model.spec
    assert (program.weights, program.license, program.labels) == ("random seed 0", None, labels)
    assert (program.input_size, program.in_channels, program.num_classes, program.batch) == (64, 3, 10, 1)
    assert [node.name for node in program.exported.graph.nodes if node.op == "placeholder"][-1] == program.input_name


@torch.no_grad()
def test_static_batch(tiny_model: FBNet) -> None:
    program = export(tiny_model, ConvertOptions(batch=5))
    assert decibels(tiny_model(images(5)), run(program, images(5))) > 100
    with pytest.raises(AssertionError, match="Guard failed"):
        program.exported.module()(images(4))


@torch.no_grad()
def test_dynamic_batch(tiny_model: FBNet) -> None:
    program = export(tiny_model, ConvertOptions(dynamic_batch=True))
    for count in (1, 3, 64):
        assert decibels(tiny_model(images(count)), run(program, images(count))) > 100
    with pytest.raises(AssertionError, match="Guard failed"):
        program.exported.module()(images(65))


@torch.no_grad()
def test_half_precision_inside_and_float32_outside(tiny_model: FBNet) -> None:
    program = export(tiny_model, ConvertOptions(precision="fp16"))
    assert {value.dtype for value in program.exported.state_dict.values()} == {torch.float16}
    got = run(program, images(1))
    assert got.dtype == torch.float32
    assert 40 < decibels(tiny_model(images(1)), got) < 100


@torch.no_grad()
def test_other_input_size_scales_the_preprocessing(tiny_model: FBNet) -> None:
    program = export(tiny_model, ConvertOptions(input_size=96))
    assert program.input_size == 96
    assert program.preprocess == PreprocessSpec(resize=120, crop=96)  # 80 px for 64 px by the definition
    assert decibels(tiny_model(images(1, size=96)), run(program, images(1, size=96))) > 100


def test_preprocessing_is_that_of_the_weights(tiny_model: FBNet) -> None:
    own = PreprocessSpec(resize=70, crop=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), order="bgr")
    entry = WeightsSpec(tag="other", source="hf://a/b", layout="timm", license="MIT", preprocess=own)
    tiny_model.spec = tiny_model.spec.model_copy(update={"weights": (entry,)})
    tiny_model.weights = "other"
    assert export(tiny_model, ConvertOptions()).preprocess == own


def test_labels_must_fit_the_classes(tiny_model: FBNet) -> None:
    with pytest.raises(InputError, match=r"^3 labels for 10 classes; expected one per class$"):
        export(tiny_model, ConvertOptions(labels=("a", "b", "c")))


def test_input_that_is_too_small_is_refused(tiny_spec: ArchSpec) -> None:
    last = tiny_spec.stages[-1].model_copy(
        update={"blocks": (tiny_spec.stages[-1].blocks[0].model_copy(update={"padding": 0}),)}
    )
    model = network(tiny_spec.model_copy(update={"stages": (*tiny_spec.stages[:-1], last)}))
    with pytest.raises(InputError, match=r"^an image of 16 px is too small: stages\.16\.0\.expand\.conv has no output"):
        export(model, ConvertOptions(input_size=16))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", registry.list_models())
def test_every_network_has_a_deploy_form(name: str) -> None:
    model = network(registry.get_spec(name)).eval().double()
    batch = images(1, size=model.spec.input_size).double()
    assert decibels(model(batch), deploy_form(model)(batch)) > 200
