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
    """Build a network, with random or with given weights.

    Args:
        name_or_path: a name, an alias, the path of a definition in YAML, or `name.tag`, which implies the weights of
            that tag whether or not `pretrained` is said.
        pretrained: which weights: `True` for the default ones of the definition, a tag, the path of a checkpoint, an
            address (`hf://owner/repository[/file]`, `https://…`); `False` for random ones. A file with timm's names
            for a network of mobile-vision's selects the definition `<name>_timm`.
        num_classes: outputs; where the weights have another number, the classifier is drawn anew. 0 gives features.
        in_chans: channels of the image; where the weights have another number, the stem is adapted.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; rises linearly from 0 at the first.
        features_only: return a network of feature maps, of the levels `out_indices` (all by default), finest first.
        out_indices: see `FeatureExtractor`.
        output_stride: 32, or 16 or 8 where later strides become dilations.

    Returns:
        The network, in training mode; `spec`, `weights` and `license` say what it is.

    Raises:
        UnknownNameError: there is no such entry or tag.
        WeightsUnavailableError: the weights cannot be downloaded.
        WeightsError: they are damaged or do not fit.
        InputError: a value makes no sense.

    >>> create("fbnet_b", num_classes=10).spec.name
    'fbnet_b'
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices means something only with features_only=True; say both or none")
    spec, tag = registry.resolve(name_or_path)
    source = _source(name_or_path, tag, pretrained)
    checkpoint = weights.read(spec, source) if source else None
    network = FBNet(
        checkpoint.spec if checkpoint else spec,
        num_classes=num_classes,
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
