"""The levels of features of a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar, overload

from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import NetworkPlan

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInfo:
    """One level of features.

    Attributes:
        channels: channels of the feature map.
        output_stride: image pixels per feature pixel.
        module: name of the module that outputs the features.
    """

    channels: int
    output_stride: int
    module: str


class FeatureLevels(tuple[FeatureInfo, ...]):
    """Levels of features, finest first, with the accessors that timm's users know.

    Each accessor returns a list of the values of all levels; of one level for an index; of some for a list of indices.

    >>> from fbnet_zoo import get_spec, planner
    >>> levels = feature_levels(planner.plan(get_spec("fbnet_c")))
    >>> levels.channels(), levels.reduction(), levels.module_name(-1)
    ([16, 24, 32, 112, 352], [2, 4, 8, 16, 32], 'stages.32')
    """

    __slots__ = ()

    @overload
    def channels(self, idx: int) -> int: ...
    @overload
    def channels(self, idx: Sequence[int] | None = None) -> list[int]: ...
    def channels(self, idx: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the channels of the feature maps."""
        values = [level.channels for level in self]
        return _at(values, idx)

    @overload
    def reduction(self, idx: int) -> int: ...
    @overload
    def reduction(self, idx: Sequence[int] | None = None) -> list[int]: ...
    def reduction(self, idx: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the output strides: image pixels per feature pixel."""
        values = [level.output_stride for level in self]
        return _at(values, idx)

    @overload
    def module_name(self, idx: int) -> str: ...
    @overload
    def module_name(self, idx: Sequence[int] | None = None) -> list[str]: ...
    def module_name(self, idx: int | Sequence[int] | None = None) -> str | list[str]:
        """Return the names of the modules that output the features."""
        values = [level.module for level in self]
        return _at(values, idx)

    def chosen(self, indices: object, *, argument: str, network: str) -> "FeatureLevels":
        """Return the levels that a user chose, finest first and each once.

        Args:
            indices: indices of levels, negative ones counting from the end; a number for the last levels; `None` for
                all.
            argument: name of the argument, for the error.
            network: name of the network, for the error.

        Raises:
            InputError: there is no such level.
        """
        count = len(self)
        if indices is None:
            return self
        if isinstance(indices, int) and not isinstance(indices, bool) and 1 <= indices <= count:
            return FeatureLevels(self[count - indices :])
        if not _are_levels(indices, count):
            raise InputError(
                f"{argument} cannot be {indices!r}: {network} has {count} levels; expected a list of at least one "
                f"index from 0 to {count - 1}, or negative ones that count from the end, or the number of last levels"
            )
        return FeatureLevels(self[index] for index in sorted({index % count for index in indices}))


def feature_levels(plan: NetworkPlan) -> FeatureLevels:
    """Return the levels of features of a network: the stem, unless a stage has its stride, then the stages."""
    levels, channels = {}, plan.stem.out_channels
    levels[str(plan.stem.stride)] = FeatureInfo(channels=channels, output_stride=plan.stem.stride, module="stem")
    for stage in plan.stages:
        channels = stage.blocks[-1].out_channels if stage.blocks else channels
        levels[stage.name] = FeatureInfo(
            channels=channels, output_stride=stage.output_stride, module=f"stages.{stage.name}"
        )
    return FeatureLevels(levels.values())


def _are_levels(indices: object, count: int) -> TypeGuard[Sequence[int]]:
    if not isinstance(indices, Sequence) or isinstance(indices, str) or not indices:
        return False
    return all(isinstance(index, int) and -count <= index < count for index in indices)


def _at(values: list[Value], idx: int | Sequence[int] | None) -> Value | list[Value]:
    if idx is None:
        return values
    return values[idx] if isinstance(idx, int) else [values[index] for index in idx]
