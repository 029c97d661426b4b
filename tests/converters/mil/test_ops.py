"""Every operation that the interpreter covers, converted from PyTorch and compared with it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fbnet_zoo._require import require
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.converters.mil.ops import OPS
from tests.helpers.mil_packages import MINIMUM_DB, Of, only_output, save, save_built, snr_db, with_random_statistics

pytestmark = pytest.mark.coreml

MAP = (1, 8, 11, 14)


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * functional.hardsigmoid(self.expand(squeezed))


def channel_shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def layers_and_functions() -> dict[str, nn.Module]:
    slopes = nn.PReLU(8)
    nn.init.uniform_(slopes.weight, 0.1, 0.9)
    return {
        "strided": nn.Conv2d(8, 6, 3, stride=2, padding=1),
        "depthwise": nn.Conv2d(8, 8, 5, padding=2, groups=8),
        "grouped": nn.Conv2d(8, 12, 3, groups=4, bias=False),
        "dilated": nn.Conv2d(8, 6, 3, dilation=(2, 3), padding=(2, 3)),
        "two axes differ": nn.Conv2d(8, 6, (3, 5), stride=(2, 1), padding=(0, 2)),
        "same, even kernel": nn.Conv2d(8, 6, 4, padding="same"),
        "padded unevenly": nn.Sequential(nn.ZeroPad2d((0, 1, 1, 2)), nn.Conv2d(8, 6, 3, stride=2)),
        "reflected": nn.Sequential(nn.ReflectionPad2d((1, 2, 3, 0)), nn.Conv2d(8, 6, 3)),
        "replicated": nn.ReplicationPad2d((1, 2, 3, 0)),
        "one axis": nn.Sequential(Of(lambda x: x.flatten(2)), nn.Conv1d(8, 4, 5, stride=3, padding=2)),
        "batch norm": with_random_statistics(nn.BatchNorm2d(8)),
        "squeeze and excite": SqueezeExcitation(),
        "relu": nn.ReLU(),
        "clamp": Of(lambda x: x.clamp(-0.25, 0.75)),
        "sigmoid": nn.Sigmoid(),
        "hard sigmoid": nn.Hardsigmoid(),
        "hard swish": nn.Hardswish(),
        "hard swish of relu6": Of(lambda x: x * functional.relu6(x + 3) * (1 / 6)),
        "silu": nn.SiLU(),
        "tanh": nn.Tanh(),
        "elu": nn.ELU(0.7),
        "leaky relu": nn.LeakyReLU(0.2),
        "prelu": slopes,
        "gelu": nn.GELU(),
        "average of padding too": nn.AvgPool2d(3, 2, 1),
        "average without padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        "average, rounded up": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        "maximum": nn.MaxPool2d(3, 2, 1),
        "maximum, rounded up": nn.MaxPool2d((2, 3), (2, 3), ceil_mode=True),
        "global average": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
        "linear": nn.Linear(14, 5, bias=False),
        "softmax": nn.Softmax(dim=1),
        "matmul": Of(lambda x: x @ x.transpose(2, 3)),
        "arithmetic": Of(lambda x: (x.abs().sqrt() - x**2) / (x.exp() + (x * x + 1).rsqrt()) * 3),
        "extremes": Of(lambda x: torch.maximum(x, x**2).amax((2, 3)) - torch.minimum(x, x**2).sum((2, 3))),
        "mean of all": Of(lambda x: (x * x).mean()),
        "channel shuffle": Of(channel_shuffle),
        "branches": Of(lambda x: torch.cat([x[:, ::2, 1:-1], -x[:, 1::2, 2:]], dim=1)),
        "parts": Of(lambda x: torch.stack(x.split([2, 6], dim=1)[1].chunk(3, dim=1), dim=-1)),
        "unit axes": Of(lambda x: x[:, 3].unsqueeze(1).unsqueeze(-1).squeeze(0)),
        "chosen": Of(lambda x: x[:, torch.tensor([3, 1, 6])]),
        "nearest": nn.UpsamplingNearest2d(scale_factor=2),
        "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
        "bilinear to the corners": nn.Upsample(size=(21, 27), mode="bilinear", align_corners=True),
    }


with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    CASES = layers_and_functions()
    INPUT = 2 * torch.randn(MAP)


@pytest.fixture(scope="module", params=MINIMUM_DB)
def of_cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """One package that holds all cases side by side, because a conversion takes half a second however small."""
    path = tmp_path_factory.mktemp("cases") / "cases.mlpackage"
    side_by_side = Of(lambda x: tuple(case(x) for case in CASES.values()))
    side_by_side.cases = nn.ModuleList(CASES.values())
    save(side_by_side, INPUT, path, precision=request.param)
    outputs = interpreter.load(path).predict({"x": INPUT.numpy()})
    return request.param, dict(zip(CASES, outputs.values(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_layer_computes_what_pytorch_does(case: str, of_cases: tuple[str, dict[str, Any]]) -> None:
    precision, outputs = of_cases
    assert snr_db(CASES[case](INPUT), outputs[case]) >= MINIMUM_DB[precision]


@pytest.mark.parametrize(("pad_type", "before", "after"), [("same", 1, 2), ("same_lower", 2, 1)])
def test_same_padding_puts_the_odd_element_after_or_before(
    pad_type: str, before: int, after: int, tmp_path: Path
) -> None:
    x, weight = torch.randn(1, 2, 7, 7), torch.randn(3, 2, 4, 4)  # 4 windows of 4 at stride 2 span 10 = 7 + 3
    save_built(
        tmp_path / "y.mlpackage",
        lambda mb, x: mb.conv(x=x, weight=weight.numpy(), strides=[2, 2], pad_type=pad_type),
        shape=(1, 2, 7, 7),
    )
    expected = functional.conv2d(functional.pad(x, (before, after, before, after)), weight, stride=2)
    assert snr_db(expected, only_output(tmp_path / "y.mlpackage", x=x)) >= 100


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("TANH_APPROXIMATION", lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))),
        ("SIGMOID_APPROXIMATION", lambda x: x * torch.sigmoid(1.702 * x)),
    ],
)
def test_gelu_is_approximated_as_the_file_says(mode: str, formula: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    x = torch.linspace(-3, 3, 20)
    save_built(tmp_path / "y.mlpackage", lambda mb, x: mb.gelu(x=x, mode=mode), shape=(20,))
    assert snr_db(formula(x), only_output(tmp_path / "y.mlpackage", x=x)) >= 100


def test_equal_parts_are_split_by_their_number(tmp_path: Path) -> None:
    save_built(tmp_path / "y.mlpackage", lambda mb, x: mb.split(x=x, num_splits=3, axis=0)[1], shape=(6,))
    np.testing.assert_array_equal(only_output(tmp_path / "y.mlpackage", x=torch.arange(6.0)), [2, 3])


@pytest.mark.parametrize(
    ("scale", "zero_point", "axis", "expected"),
    [
        # -128 and 127 bound int8: the first row ends at (127 - 10) / 2, the second begins at (-128 + 10) / 4
        ([0.5, 0.25], [10, -10], 0, [[-69.0, 0.0, 1.0, 58.5], [-29.5, 0.0, 0.75, 34.25]]),
        (0.5, None, None, [[-64.0, 0.0, 1.0, 63.5]] * 2),
    ],
)
def test_quantised_activations_are_rounded_shifted_and_saturated(
    scale: Any, zero_point: Any, axis: int | None, expected: list[list[float]], tmp_path: Path
) -> None:
    options = {
        "scale": np.float32(scale),
        "zero_point": None if zero_point is None else np.int8(zero_point),
        "axis": axis,
    }

    def round_trip(mb: Any, x: Any) -> Any:
        return mb.dequantize(input=mb.quantize(input=x, output_dtype="int8", **options), **options)

    save_built(tmp_path / "y.mlpackage", round_trip, shape=(2, 4))
    got = only_output(tmp_path / "y.mlpackage", x=torch.tensor([[-1000.0, 0.1, 0.76, 1000.0]] * 2))
    np.testing.assert_array_equal(got, expected)


def test_results_are_stored_in_fp16_after_each_operation(tmp_path: Path) -> None:
    save_built(
        tmp_path / "y.mlpackage",
        lambda mb, x: mb.sub(x=mb.add(x=x, y=np.float16(2048)), y=np.float16(2048)),
        shape=(3,),
        dtype="fp16",
    )
    got = only_output(tmp_path / "y.mlpackage", x=torch.tensor([1.0, 2.0, 3.0]))
    # above 2048 fp16 has the even integers only, and ties go to the even mantissa
    np.testing.assert_array_equal(got, [0, 2, 4])
    assert got.dtype == np.float16


def test_sums_are_accumulated_in_fp32(tmp_path: Path) -> None:
    save_built(
        tmp_path / "y.mlpackage",
        lambda mb, x: mb.linear(x=x, weight=np.ones((1, 4097), np.float16)),
        shape=(1, 4097),
        dtype="fp16",
    )
    got = only_output(tmp_path / "y.mlpackage", x=torch.ones(1, 4097) * 2)
    assert got.item() == 8192  # 8194 rounded once; adding 2 at a time in fp16 would stop at 4096


def test_an_operation_that_is_not_covered_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "y.mlpackage"
    save_built(path, lambda mb, x: mb.cumsum(x=x, axis=0, name="running"), shape=(3,))
    with pytest.raises(interpreter.UnsupportedOpError) as error:
        interpreter.load(path)
    assert str(error.value) == (
        f"{path}: the interpreter does not support operation 'cumsum', which computes 'running'; "
        "check this file on macOS, or add the operation to mil/ops.py"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda mb, x: mb.concat(values=[x, x], axis=0, interleave=True, name="y"), "'concat' with interleaved"),
        (lambda mb, x: mb.gather(x=x, indices=[[0], [1]], axis=1, batch_dims=1, name="y"), "'gather' with batch_dims"),
        (
            lambda mb, x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, align_corners=False, half_pixel_centers=False, name="y"
            ),
            "'upsample_bilinear' with half_pixel_centers",
        ),
    ],
)
def test_a_variant_that_is_not_covered_is_refused(
    build: Callable[[Any, Any], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "y.mlpackage"
    save_built(path, build, shape=(2, 4, 4, 4))
    with pytest.raises(
        interpreter.UnsupportedOpError, match=f"does not support operation {message}.*, which computes 'y'; "
    ):
        interpreter.load(path).predict({"x": np.zeros((2, 4, 4, 4), np.float32)})


def test_every_input_that_an_operation_may_have_is_known() -> None:
    registry = require("coremltools.converters.mil.mil.ops.registry", extra="coreml").SSAOpRegistry
    for name, function in OPS.items():
        parameters = set(inspect.signature(function).parameters)
        for version, operation in registry.core_ops[name].items():
            assert parameters >= set(operation.input_spec.input_types), f"{name} of {version}"


def test_an_input_that_a_later_format_adds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_built(tmp_path / "y.mlpackage", lambda mb, x: mb.elu(x=x, alpha=2.0, name="y"), shape=(3,))
    monkeypatch.setitem(cast("dict[str, Any]", OPS), "elu", lambda x: x)
    with pytest.raises(interpreter.UnsupportedOpError, match=r"'elu' with .*'alpha', which computes 'y'"):
        interpreter.load(tmp_path / "y.mlpackage")
