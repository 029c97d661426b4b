"""Choices in a search space: records that print in one line and convert to and from JSON."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from fbnet_zoo.spec import LETTERS, Channels, Name, Record, Size

_LETTER = {field: letter for letter, field in LETTERS.items()}


def short(field: str) -> str:
    """Return the short name of a field of a choice.

    >>> short("kernel_size"), short("rest_expansion")
    ('k', 'rest e')
    """
    return f"rest {_LETTER[field[5:]]}" if field.startswith("rest_") else _LETTER[field]


class LayerChoice(Record):
    """What one layer chose; `None` where the space leaves nothing to choose.

    Attributes:
        candidate: name of the candidate.
        kernel_size: kernel size of the first block.
        expansion: expansion of the first block.
        se_ratio: squeeze-excite ratio of the first block; 0 for none.
        out_channels: output channels of all blocks.
        repeats: number of blocks.
        rest_kernel_size: kernel size of the blocks after the first.
        rest_expansion: expansion of the blocks after the first.
        rest_se_ratio: squeeze-excite ratio of the blocks after the first; 0 for none.
    """

    candidate: Name | None = None
    kernel_size: int | None = None
    expansion: float | None = None
    se_ratio: float | None = None
    out_channels: int | None = None
    repeats: int | None = None
    rest_kernel_size: int | None = None
    rest_expansion: float | None = None
    rest_se_ratio: float | None = None

    @model_serializer(mode="wrap")
    def _recorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ratios that are not open, so that the records of earlier spaces stay the same."""
        return {key: value for key, value in serialize(self).items() if value is not None or "se_ratio" not in key}

    def __str__(self) -> str:
        return " ".join(self._words()) or "-"

    def _words(self) -> Iterator[str]:
        if self.candidate is not None:
            yield self.candidate
        for field, value in self:
            if field != "candidate" and value is not None:
                yield f"{short(field)}{value:g}"


class Choices(Record):
    """One point of a search space.

    Attributes:
        space: name of the space.
        input_size: side of the image, px.
        layers: what each layer chose, in order.
        stem_channels: output channels of the stem, where they are open.
        head_channels: output channels of the head, where they are open.
        variant: name of a variant of the space, if the network is one.

    >>> point = Choices(space="mine", input_size=32, layers=(LayerChoice(candidate="k3_e6"), LayerChoice(repeats=2)))
    >>> print(point)
    mine at 32 px: k3_e6, r2
    >>> Choices.model_validate_json(point.model_dump_json()) == point
    True
    """

    space: Name
    input_size: Size
    layers: Annotated[tuple[LayerChoice, ...], Field(max_length=4096)]
    stem_channels: Channels | None = None
    head_channels: Channels | None = None
    variant: Name | None = None

    def __str__(self) -> str:
        variant = f" ({self.variant})" if self.variant else ""
        stem = f"stem c{self.stem_channels}, " if self.stem_channels else ""
        head = f", head c{self.head_channels}" if self.head_channels else ""
        return f"{self.space}{variant} at {self.input_size} px: {stem}{', '.join(map(str, self.layers))}{head}"
