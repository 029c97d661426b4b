"""`create`, `transforms` and `install`: where definitions, networks and weights meet."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from PIL import Image
from torch import Tensor

from fbnet_zoo import preprocess, registry
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.own_zoo import BESIDE
from fbnet_zoo.spec import ArchSpec, WeightsSpec
from fbnet_zoo.weights import checkpoints, loading
from fbnet_zoo.weights.checkpoints import Checkpoint

_CLASSES = 1000
"""Of a network without weights: ImageNet-1k's."""


@overload
def create(
    name_or_path: str | Path,
    pretrained: bool | str | Path = False,
    *,
    num_classes: int | None = None,
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
    num_classes: int | None = None,
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
    num_classes: int | None = None,
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
        num_classes: see `FBNet`; the weights' own number if not said, without weights 1000. Where the weights have
            another number, the classifier is drawn anew.
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
    checkpoint = None if source is False else loading.read(spec, source, registry.folder(name_or_path))
    network = FBNet(
        checkpoint.spec if checkpoint else spec,
        num_classes=0 if features_only and checkpoint else _classes(num_classes, checkpoint),
        in_chans=in_chans,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        output_stride=output_stride,
        init=checkpoint is None,
    )
    if checkpoint:
        loading.fill(network, checkpoint, adopt=True)
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


def install(
    definition: str | Path | ArchSpec,
    weights: str | Path | None = None,
    *,
    tag: str = "trained",
    licence: str | None = None,
    replace: bool = False,
) -> ArchSpec:
    """Write a definition with its weights to the zoo of your own, where every later process finds it by its name.

    That is a folder, `fbnet_zoo.own_zoo.home()`, which the variable `FBNET_ZOO_HOME` may name. Deleting the files of
    an entry there takes it out again.

    Args:
        definition: the definition, its path or a name; those of its weights stay whose source is an address.
        weights: a file that `weights.save` or a training wrote, to be copied; it becomes the default weights.
        tag: of these weights.
        licence: of these weights, by its SPDX identifier or name; as the file says if not said.
        replace: do so also where the own zoo has another entry of this name.

    Returns:
        The definition as it was written, with its `weights`.

    Raises:
        DefinitionError: it is not valid, or another entry has its name or one of its aliases.
        InputError: there is no such file, no licence is known, or the own zoo has such an entry or cannot be written.
        WeightsError: the weights are damaged or do not fit.
    """
    spec = definition if isinstance(definition, ArchSpec) else registry.get_spec(definition)
    others = [entry for entry in spec.weights if entry.tag != tag and not entry.source.startswith(BESIDE)]
    entries, contents = tuple(others), {}
    if weights is not None:
        entry, content = _entry(spec, Path(weights), tag, licence)
        entries, contents = (entry, *others), {entry.source.removeprefix(BESIDE): content}
    if entries != spec.weights:
        spec = spec.model_copy(update={"weights": entries})
    return registry.store(spec, contents, replace=replace)


def _entry(spec: ArchSpec, path: Path, tag: str, licence: str | None) -> tuple[WeightsSpec, bytes]:
    """Return what a definition should say of the weights in a file of ours, and the content of the file.

    The tag is checked with the whole definition, before anything is written.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path} cannot be installed; expected a .safetensors file, as weights.save writes it")
    found = checkpoints.read(path, (spec,), ("fbnet_zoo",))
    licence = licence or found.license
    if licence is None:
        raise InputError(f"{path} does not say under which licence it is; say it, such as licence='Apache-2.0'")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    said: dict[str, Any] = {
        "tag": tag,
        "source": f"{BESIDE}{spec.name}.{tag}-{digest[:8]}{path.suffix}",
        "layout": "fbnet_zoo",
        "license": licence,
        "size": len(content),
        "sha256": digest,
        "bn_eps": found.spec.bn_eps if found.spec.bn_eps != spec.bn_eps else None,
        "preprocess": found.spec.preprocess if found.spec.preprocess != spec.preprocess else None,
    }
    return WeightsSpec.model_construct(**{key: value for key, value in said.items() if value is not None}), content


def _classes(said: int | None, checkpoint: Checkpoint | None) -> int:
    """Return how many classes a network gets."""
    if said is not None:
        return said
    return checkpoint.num_classes if checkpoint else _CLASSES


def _source(name: str | Path, tag: str | None, pretrained: bool | str | Path) -> str | Path | bool:
    """Return which weights are meant by a name with or without a tag and the argument `pretrained`."""
    if tag is None or pretrained == tag:
        return pretrained
    if isinstance(pretrained, bool):
        return tag
    raise InputError(f"{name} names weights, and pretrained says {str(pretrained)!r}; say one of the two")
