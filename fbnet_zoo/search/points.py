"""Points of a space whose layers each choose one candidate, as positions: the index of theta, masks and costs."""

from collections.abc import Sequence

from fbnet_zoo.errors import InputError
from fbnet_zoo.space import Choices, LayerChoice, Space
from fbnet_zoo.spec import ArchSpec


def require_candidates(space: Space) -> None:
    """Refuse a space that leaves more open than which candidate each layer takes.

    Raises:
        InputError: always then; the text tells what is open.
    """
    ways_out = "search among candidates needs a space that leaves only them open, such as fbnet or digits_tiny"
    for part in ("stem", "head"):
        if len(getattr(space.spec, part).out_channels) > 1:
            raise InputError(f"the space {space.name} leaves the channels of its {part} open; {ways_out}")
    for layer in space.layers:
        fields = {field for candidate in layer.ops for field in layer.options(candidate)}
        if fields or layer.row.repeats != (1,):
            found = " and ".join(sorted(map(repr, fields or {"repeats"})))
            raise InputError(f"the space {space.name} leaves {found} of {layer.name} open; {ways_out}")


def candidates(space: Space) -> tuple[tuple[str, ...], ...]:
    """Return the names of what each layer chooses from; a layer that is one block has one name, its op.

    Raises:
        InputError: the space leaves more open than candidates.

    >>> from fbnet_zoo.space import load_space
    >>> candidates(load_space("digits_tiny"))[0]
    ('k3_e1', 'k3_e3', 'k3_e6', 'k5_e3', 'k5_e6', 'skip')
    """
    require_candidates(space)
    return tuple(tuple(name or op for name, op in layer.ops.items()) for layer in space.layers)


def choices_at(space: Space, positions: Sequence[int]) -> Choices:
    """Return the choices that take, in each layer, the candidate at a position.

    Raises:
        InputError: a layer has no candidate there, or the number of positions is not that of the layers.
    """
    if len(positions) != len(space.layers):
        raise InputError(f"{space.name} has {len(space.layers)} layers; {len(positions)} positions are given")
    chosen = []
    for layer, position in zip(space.layers, positions, strict=True):
        names = tuple(layer.ops)
        if not 0 <= position < len(names):
            raise InputError(f"{layer.name} has {len(names)} candidates; there is none at position {position}")
        chosen.append(LayerChoice(candidate=names[position]))
    return Choices(space=space.name, input_size=space.spec.input_size[-1], layers=tuple(chosen))


def positions_of(space: Space, choices: Choices) -> tuple[int, ...]:
    """Return where each layer's choice stands among its candidates.

    Raises:
        InputError: the space does not offer these choices.
    """
    space.decode(choices)
    return tuple(
        list(layer.ops).index(chosen.candidate) for layer, chosen in zip(space.layers, choices.layers, strict=True)
    )


def definition_at(
    space: Space, positions: Sequence[int], input_size: int | None = None, *, name: str | None = None
) -> ArchSpec:
    """Return the definition of the network at some positions.

    Args:
        space: of candidates.
        positions: of each layer's candidate.
        input_size: of the image, px; it need not be one of the space's, as in FBNet's variants for smaller images.
        name: of the network; the space's name and a digest when not said.

    Raises:
        InputError: there is no such network.
    """
    arch = space.decode(choices_at(space, positions), name=name)
    return arch if input_size in {None, arch.input_size} else arch.model_copy(update={"input_size": input_size})
