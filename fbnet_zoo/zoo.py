"""`create` and `transforms`: where definitions, networks and weights meet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, overload

from PIL import Image
from torch import Tensor

from fbnet_zoo import preprocess, registry, weights
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.spec import ArchSpec


@overload
def create(
    name_or_path: str | Path,
    pretrained: bool | str | Path = False,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    features_only: Literal[False] = False,
    out_indices: Sequence[int] | None = None,
    output_stride: int = 32,
) -> FBNet: ...


@overload
def create(
    name_or_path: str | Path,
    pretrained: bool | str | Path = False,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
    output_stride: int = 32,
) -> FeatureExtractor: ...


def create(  # noqa: PLR0913 - the public entrance, with the keywords that timm's users know
    name_or_path: str | Path,
    pretrained: bool | str | Path = False,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    output_stride: int = 32,
) -> FBNet | FeatureExtractor:
    """Build a network in training mode, with random or given weights; `spec`, `weights`, `license` say what it is.

    Args:
        name_or_path: a name, an alias, the path of a definition in YAML, or `name.tag`, which implies these weights.
        pretrained: `True` for the default weights, a tag, a path, an address (`hf://owner/name[/file]`, `https://…`);
            `False` for random ones. A file with the keys of `<name>_timm` selects that definition.
        num_classes: see `FBNet`; where the weights have another number, the classifier is drawn anew.
        in_chans: see `FBNet`; where the weights have another number, the stem is adapted.
        drop_rate: see `FBNet`.
        drop_path_rate: see `FBNet`.
        features_only: return a `FeatureExtractor`, which has no classifier.
        out_indices: see `FeatureExtractor`.
        output_stride: see `FBNet`.

    Raises:
        InputError: a value makes no sense, or there is no such entry, tag or file.
        WeightsError: the weights cannot be downloaded, are damaged or do not fit.

    >>> create("fbnet_b", num_classes=10).spec.name
    'fbnet_b'
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices means something only with features_only=True; say both or none")
    spec, tag = registry.resolve(name_or_path)
    source = _source(name_or_path, tag, pretrained)
    checkpoint = None if source is False else weights.read(spec, source)
    network = FBNet(
        checkpoint.spec if checkpoint else spec,
        num_classes=0 if features_only and checkpoint else num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        output_stride=output_stride,
        init=checkpoint is None,
    )
    if checkpoint:
        weights.fill(network, checkpoint, adopt=True)
    return FeatureExtractor(network, out_indices) if features_only else network


def transforms(model: str | Path | ArchSpec | FBNet | FeatureExtractor) -> Callable[[Image.Image | Tensor], Tensor]:
    """Return the transform from an image to the input that a network was evaluated with.

    Args:
        model: a network: the transform of the weights that it has; or a definition, a name or a path: that of the
            weights named by `name.tag`, else of the default ones.

    Returns:
        A torchvision v2 transform of a `PIL.Image.Image` or a uint8 tensor `(..., 3, H, W)` to a float32 tensor
        `(..., 3, crop, crop)`.

    Raises:
        UnknownNameError: there is no such entry or tag.
    """
    if isinstance(model, FBNet | FeatureExtractor):
        return preprocess.eval_transform(model.spec.eval_preprocess(model.weights))
    spec, tag = (model, None) if isinstance(model, ArchSpec) else registry.resolve(model)
    default = spec.weights[0].tag if spec.weights else None
    return preprocess.eval_transform(spec.eval_preprocess(tag or default))


def _source(name: str | Path, tag: str | None, pretrained: bool | str | Path) -> str | Path | bool:
    """Return which weights are meant by a name with or without a tag and the argument `pretrained`."""
    if tag is None or pretrained == tag:
        return pretrained
    if isinstance(pretrained, bool):
        return tag
    raise InputError(f"{name} names weights, and pretrained says {str(pretrained)!r}; say one of the two")
