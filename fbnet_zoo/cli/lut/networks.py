"""Networks for `fbnet-zoo lut`, given by name, by file or by their choices in a search space."""

from collections.abc import Sequence
from pathlib import Path

from fbnet_zoo import registry
from fbnet_zoo.benchmarks.lut.network_figures import LATENCY, NetworkFigure, Quantity, read_figures
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.calibration import calibrate
from fbnet_zoo.latency.operators import Level, Operator, network_operators
from fbnet_zoo.latency.table import Calibration, LatencyTable
from fbnet_zoo.space import Choices, LayerChoice, Space, load_space
from fbnet_zoo.spec import ArchSpec


def read_networks(
    path: Path,
    *,
    key: str,
    columns: Sequence[str],
    space: str | None,
    classes: int,
    level: Level = "block",
    quantity: Quantity = LATENCY,
) -> tuple[list[tuple[Operator, ...]], list[list[float]]]:
    """Return the operators of every network of a file and, for each column, the values.

    Args:
        path: CSV file, or store of measurements.
        key: column that names the networks.
        columns: columns with values.
        space: search space of networks that are written as one digit per layer.
        classes: number of classes of the networks.
        level: level of the operators, block or layer.
        quantity: what the values are (default: latencies, ms).

    Raises:
        InputError: the file or a network in it is invalid.
    """
    figures = [read_figures(path, quantity, key=key, column=column) for column in columns]
    if not figures[0]:
        raise InputError(f"{path}: contains no networks")
    loaded = load_space(space) if space else None
    specs = [_spec(path, figure, loaded) for figure in figures[0]]
    operators = [network_operators(spec, level=level, num_classes=classes) for spec in specs]
    return operators, [[figure.value for figure in column] for column in figures]


def calibration_of(
    table: LatencyTable, networks: Sequence[Sequence[Operator]], measured_ms: Sequence[float]
) -> Calibration:
    """Return how well the sums of a table agree with measured networks.

    Raises:
        InputError: the table lacks an operator, or there are too few networks.
    """
    return calibrate([table.sum_ms(network) for network in networks], measured_ms)


def _spec(path: Path, figure: NetworkFigure, space: Space | None) -> ArchSpec:
    try:
        return space.decode(digits(space, figure.network)) if space else registry.get_spec(figure.network)
    except InputError as error:
        hint = "; if it is written as choices, name the search space: --space" if space is None else ""
        raise InputError(f"{path}: {error}{hint}") from error


def digits(space: Space, text: str) -> Choices:
    """Return the point of a space that is written as one digit per layer: the number of its candidate, from 0.

    Raises:
        InputError: the layers choose more than a candidate, or the text does not fit.
    """
    names = [candidate.name for candidate in space.spec.candidates]
    layers, sizes = space.layers, space.spec.input_size
    if any(list(layer.ops) != names or layer.size() != len(names) for layer in layers) or len(sizes) > 1:
        raise InputError(
            f"the layers of {space.name} choose more than one of the same candidates, so digits cannot express them"
        )
    if len(text) != len(layers) or not all("0" <= digit <= "9" and int(digit) < len(names) for digit in text):
        raise InputError(f"{text!r} does not match {space.name}; expected {len(layers)} digits, 0 to {len(names) - 1}")
    chosen = tuple(LayerChoice(candidate=names[int(digit)]) for digit in text)
    return Choices(space=space.name, input_size=sizes[0], layers=chosen)
