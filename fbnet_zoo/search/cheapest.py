"""The network of lowest cost in a space: exact, by dynamic programming over the layers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.search.terms import Term
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.slots import SIZE, EncodedLayer

Costs = NDArray[np.float64]


class _Step(NamedTuple):
    """The best choices within a layer, for each image size and number of output channels."""

    before: NDArray[np.int64]  # (sizes, channels): position of the input channels
    inside: NDArray[np.int64]  # (sizes, input channels, channels): position among blocks, expansions and ratios
    rest: dict[int, NDArray[np.int64]]  # by slot of the rest: (sizes, channels, blocks, expansions, ratios)


def cheapest(encoding: Encoding, terms: Sequence[Term], *, join: np.ufunc) -> Positions:
    """Return the positions of the network with the lowest total cost.

    Layer by layer, the best prefix for each image size and number of channels is kept.

    Args:
        encoding: encoding of the space.
        terms: costs of stem, layers (each followed by its rest, if any) and head.
        join: combines the costs of parts: `np.add`, or `np.maximum` for a peak.
    """
    given = iter(terms)
    best, steps = _joined(next(given), join), []  # best: (sizes, channels)
    for layer in encoding.layers:
        own = _joined(next(given), join)  # (sizes, input channels, blocks, expansions, ratios, channels)
        rest, chosen = _rest(layer, next(given), join) if layer.rest else (0.0, {})
        inner = join(own, rest).transpose(0, 1, 5, 2, 3, 4)
        flat = inner.reshape(*inner.shape[:3], -1)
        through = join(best[:, :, None], flat.min(-1))
        steps.append(_Step(through.argmin(1), flat.argmin(-1), chosen))
        best = through.min(1)
    whole = join(best[:, :, None], _joined(next(given), join))
    size, channels, features = np.unravel_index(whole.argmin(), whole.shape)
    full = {SIZE: int(size), len(encoding.slots) - 1: int(features)}
    for layer, step in zip(reversed(encoding.layers), reversed(steps), strict=True):
        full |= _through(layer, step, int(size), int(channels))
        channels = full[layer.axes[0]] = int(step.before[size, channels])
    return tuple(full[at] for at in encoding.decided)


def _joined(term: Term, join: np.ufunc) -> Costs:
    """Return the cost of a part, (*options)."""
    return join.reduce(term.values, axis=-1)


def _through(layer: EncodedLayer, step: _Step, size: int, after: int) -> dict[int, int]:
    """Return the best positions of a layer's slots for an image size and a number of output channels."""
    before = int(step.before[size, after])
    lengths = (len(layer.branches), len(layer.expansions), len(layer.se_ratios))
    inside = [int(at) for at in np.unravel_index(step.inside[size, before, after], lengths)]
    own = dict(zip(layer.axes[1:], (*inside, after), strict=True))
    rest = {
        slot: int(at[size, after, *(min(each, count - 1) for each, count in zip(inside, at.shape[2:], strict=True))])
        for slot, at in step.rest.items()
    }
    return own | rest


def _rest(layer: EncodedLayer, term: Term, join: np.ufunc) -> tuple[Costs, dict[int, NDArray[np.int64]]]:
    """Return the lowest costs of the rest, (sizes, 1, blocks, expansions, ratios, channels), and the choices made.

    A kernel, expansion or ratio shared with the first block is left open; the rest's own ones, whose axes get length 1,
    and the number of blocks are chosen here.
    """
    assert layer.rest is not None  # noqa: S101 - checked by the caller
    repeated, _, *inside = layer.rest.axes
    times = np.array(layer.rest.repeats, dtype=np.float64)
    each = _joined(term, join)[..., None]  # (sizes, channels, kernels, expansions, ratios, 1)
    costs = each * times if join is np.add else np.where(times > 0, each, 0.0)
    own = [axis for axis, slot in enumerate(inside, start=2) if slot not in layer.axes]
    moved = np.moveaxis(costs, [*own, 5], range(-len(own) - 1, 0))
    flat = moved.reshape(*moved.shape[: 5 - len(own)], -1)
    chosen = np.unravel_index(flat.argmin(-1), [costs.shape[axis] for axis in (*own, 5)])
    slots = [*(inside[axis - 2] for axis in own), repeated]
    shape = [1 if axis in own else costs.shape[axis] for axis in range(5)]
    least = flat.min(-1).reshape(shape).transpose(0, 2, 3, 4, 1)[:, None]
    return least, {slot: at.reshape(shape) for slot, at in zip(slots, chosen, strict=True)}
