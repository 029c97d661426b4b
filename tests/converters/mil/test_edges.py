"""Operations of the interpreter where rules of rounding, of signs and of edges decide, against numbers by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fbnet_zoo.converters.mil.ops import OPS


def t(*values: Any) -> Tensor:
    return torch.tensor(values)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


X = rows([1.0, 2.0, 3.0, 4.0])[None, None]  # (1, 1, 1, 4)
POOLED: dict[str, Any] = {"kernel_sizes": t(1, 3), "strides": t(1, 2)}
BEFORE_ONLY = {"pad_type": "custom", "pad": t(0, 0, 1, 0)}

CASES: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "thresholded_relu keeps the threshold itself": (
        "thresholded_relu",
        {"x": t(-1.0, 0.5, 0.49, 2.0), "alpha": torch.tensor(0.5)},
        [0.0, 0.5, 0.0, 2.0],
    ),
    "floor_div rounds down, not toward zero": (
        "floor_div",
        {"x": t(-7.0, 7.0, -7.0, 6.0), "y": t(2.0, 2.0, -2.0, -4.0)},
        [-4.0, 3.0, 3.0, -2.0],
    ),
    "gather counts negative indices from the end": (
        "gather",
        {"x": rows([1, 2, 3], [4, 5, 6]), "indices": t(-1, 0), "axis": torch.tensor(-1)},
        [[3.0, 1.0], [6.0, 4.0]],
    ),
    "gather of a matrix of indices": (
        "gather",
        {"x": t(10.0, 20.0, 30.0), "indices": torch.tensor([[2, 0], [1, 1]]), "axis": torch.tensor(0)},
        [[30.0, 10.0], [20.0, 20.0]],
    ),
    "quantize rounds halves to even, then shifts, then saturates": (
        "quantize",
        {
            "input": t(0.5, 1.5, 2.5, -0.5, 200.0, -200.0),
            "scale": torch.tensor(1.0),
            "output_dtype": "int8",
            "zero_point": torch.tensor(3),
        },
        [3.0, 5.0, 5.0, 3.0, 127.0, -128.0],
    ),
    "quantize of unsigned values has no negative ones": (
        "quantize",
        {"input": t(-1.0, 0.2, 80.0), "scale": torch.tensor(0.25), "output_dtype": "uint8"},
        [0.0, 1.0, 255.0],
    ),
    "dequantize per row": (
        "dequantize",
        {
            "input": torch.tensor([[1, -1], [1, -1]], dtype=torch.int8),
            "scale": t(0.5, 2.0),
            "zero_point": torch.tensor([1, -1], dtype=torch.int8),
            "axis": torch.tensor(0),
        },
        [[0.0, -1.0], [4.0, 0.0]],
    ),
    "dequantize per column": (
        "dequantize",
        {
            "input": torch.tensor([[1, -1], [3, -1]], dtype=torch.int8),
            "scale": t(0.5, 2.0),
            "axis": torch.tensor(-1),
        },
        [[0.5, -2.0], [1.5, -2.0]],
    ),
    "max_pool pads with what is never the largest": (
        "max_pool",
        {"x": -X, **POOLED, **BEFORE_ONLY, "ceil_mode": torch.tensor(False)},
        [[[[-1.0, -2.0]]]],
    ),
    "avg_pool counts padding": (
        "avg_pool",
        {"x": X, **POOLED, **BEFORE_ONLY, "ceil_mode": t(False)[0], "exclude_padding_from_average": t(False)[0]},
        [[[[1.0, 3.0]]]],
    ),
    "avg_pool leaves padding out": (
        "avg_pool",
        {"x": X, **POOLED, **BEFORE_ONLY, "ceil_mode": t(False)[0], "exclude_padding_from_average": t(True)[0]},
        [[[[1.5, 3.0]]]],
    ),
    "pad puts before before after": (
        "pad",
        {"x": rows([1, 2]), "pad": t(0, 1, 2, 0), "mode": "constant", "constant_val": torch.tensor(9.0)},
        [[9.0, 9.0, 1.0, 2.0], [9.0, 9.0, 9.0, 9.0]],
    ),
    "slice_by_index goes backwards": (
        "slice_by_index",
        {"x": t(1.0, 2.0, 3.0, 4.0), "begin": t(3), "end": t(0), "stride": t(-2)},
        [4.0, 2.0],
    ),
    "slice_by_index drops an axis": (
        "slice_by_index",
        {
            "x": rows([1, 2, 3], [4, 5, 6]),
            "begin": t(1, 0),
            "end": t(2, 0),
            "end_mask": t(False, True),
            "squeeze_mask": t(True, False),
        },
        [4.0, 5.0, 6.0],
    ),
    "reshape copies sizes where 0 is said": (
        "reshape",
        {"x": rows([1, 2], [3, 4], [5, 6])[None], "shape": t(1, 0, -1)},
        [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]],
    ),
    "expand_dims counts in the result": (
        "expand_dims",
        {"x": t(1.0, 2.0), "axes": t(-1, 0)},
        [[[1.0], [2.0]]],
    ),
    "sigmoid_hard is cut at both ends": (
        "sigmoid_hard",
        {"x": t(-9.0, 0.0, 1.0, 9.0), "alpha": torch.tensor(0.25), "beta": torch.tensor(0.5)},
        [0.0, 0.5, 0.75, 1.0],
    ),
    "rsqrt adds epsilon inside": ("rsqrt", {"x": t(0.0, 3.75), "epsilon": torch.tensor(0.25)}, [2.0, 0.5]),
    "batch_norm adds epsilon to the variance": (
        "batch_norm",
        {
            "x": torch.tensor([[[[3.0]], [[5.0]]]]),
            "mean": t(1.0, 1.0),
            "variance": t(3.75, 0.75),
            "epsilon": torch.tensor(0.25),
            "gamma": t(1.0, 2.0),
            "beta": t(0.0, -1.0),
        },
        [[[[1.0]], [[7.0]]]],
    ),
    "matmul transposes what is said": (
        "matmul",
        {"x": rows([1, 2]), "y": rows([3, 4]), "transpose_x": t(False)[0], "transpose_y": t(True)[0]},
        [[11.0]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_edge(case: str) -> None:
    name, given, expected = CASES[case]
    np.testing.assert_array_equal(OPS[name](**given).numpy(), np.array(expected))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("clip", lambda x: min(max(x, -0.5), 1.5)),
        ("elu", lambda x: x if x > 0 else 0.3 * float(np.expm1(x))),
        ("leaky_relu", lambda x: x if x > 0 else 0.3 * x),
    ],
)
def test_activations_on_both_sides_of_zero(name: str, rule: Callable[[float], float]) -> None:
    x = torch.linspace(-3, 3, 25)
    given: dict[str, Any] = {"alpha": torch.tensor(-0.5), "beta": torch.tensor(1.5)} if name == "clip" else {}
    got = OPS[name](x, **(given or {"alpha": torch.tensor(0.3)}))
    np.testing.assert_allclose(got.numpy(), [rule(float(each)) for each in x], rtol=1e-6)
