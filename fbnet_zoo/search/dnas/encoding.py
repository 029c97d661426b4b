"""The encoding of a space where each layer chooses among candidates."""

from fbnet_zoo.errors import InputError
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import Encoding


class CandidateEncoding(Encoding):
    """The blocks of all layers as decisions, at one image size.

    Layers with a single block are decisions with one option: they take part in every random draw, so that a seed gives
    the same networks as in earlier versions.

    Args:
        space: a space where only the candidates are open.
        input_size: side of the image, px (default: the space's largest).

    Raises:
        InputError: more than the candidates is open, or the image size is invalid.
    """

    def __init__(self, space: Space, input_size: int | None = None) -> None:
        require_candidates(space)
        super().__init__(space, input_size or space.spec.input_size[-1])

    def _decided(self) -> tuple[int, ...]:
        return tuple(layer.axes[1] for layer in self.layers)


def require_candidates(space: Space) -> None:
    """Refuse a space where more than the candidates of each layer is open.

    Raises:
        InputError: something else is open; the text names it.
    """
    way_out = "dnas requires a space where only the candidates are open, such as fbnet or digits_tiny"
    for part in ("stem", "head"):
        if len(getattr(space.spec, part).out_channels) > 1:
            raise InputError(f"the space {space.name} leaves the channels of its {part} open; {way_out}")
    for layer in space.layers:
        fields = {field for candidate in layer.ops for field in layer.options(candidate)}
        if fields or layer.row.repeats != (1,):
            found = " and ".join(sorted(map(repr, fields or {"repeats"})))
            raise InputError(f"the space {space.name} leaves {found} of {layer.name} open; {way_out}")
