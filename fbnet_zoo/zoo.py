"""`create`, `transforms` and `install`: definitions, networks and weights together."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from PIL import Image
from torch import Tensor, nn

from fbnet_zoo import modules, own_zoo, preprocess, registry
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.networks import network_of
from fbnet_zoo.spec import BESIDE, ArchSpec, WeightsSpec
from fbnet_zoo.weights import checkpoints, loading
from fbnet_zoo.weights.checkpoints import Checkpoint

_CLASSES = 1000
"""Number of classes of a network without weights, as in ImageNet-1k."""


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
    out_indices: int | Sequence[int] | None = None,
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
    out_indices: int | Sequence[int] | None = None,
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
    out_indices: int | Sequence[int] | None = None,
    output_stride: int = 32,
) -> FBNet | FeatureExtractor:
    """Return a network in training mode, with random or given weights; see its `spec`, `weights` and `license`.

    Args:
        name_or_path: a name, an alias, the path of a YAML definition, or `name.tag`, which implies these weights.
        pretrained: `True` for the default weights, a tag, a path, an address (`hf://owner/name[/file]`, `https://…`);
            `False` for random ones. A file with the keys of `<name>_timm` selects that definition.
        num_classes: see `FBNet` (default: that of the weights, or 1000). If the weights have another number, the
            classifier is random.
        in_chans: see `FBNet`; if the weights have another number, the stem is adapted.
        drop_rate: see `FBNet`.
        drop_path_rate: see `FBNet`.
        features_only: return a `FeatureExtractor`, which has no classifier.
        out_indices: see `FeatureExtractor`; requires `features_only`.
        output_stride: see `FBNet`.

    Raises:
        InputError: a value is not valid, or there is no such entry, tag or file.
        WeightsError: the weights cannot be downloaded, are damaged or do not fit.

    >>> create("fbnet_b", num_classes=10).spec.name
    'fbnet_b'
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices requires features_only=True")
    spec, checkpoint = _resolve(name_or_path, pretrained)
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


def transforms(model: str | Path | ArchSpec | nn.Module) -> Callable[[Image.Image | Tensor], Tensor]:
    """Return the evaluation transform from an image to the input of a network.

    Args:
        model: a network, also wrapped by `torch.compile` or `DataParallel`, for the transform of its weights; or a
            definition, a name or a path, for that of the weights in `name.tag` (default: of the default weights).

    Returns:
        A torchvision v2 transform of a `PIL.Image.Image` or a uint8 tensor `(..., 3, H, W)` to a float32 tensor
        `(..., 3, crop, crop)`, or `(..., 1, crop, crop)` for a network of gray images.

    Raises:
        UnknownNameError: there is no such entry or tag.
        InputError: the module is not a network of this library, or accepts neither 1 nor 3 channels.
    """
    if isinstance(model, nn.Module):
        network = network_of(model)
        channels = modules.in_channels(network)
        return preprocess.eval_transform(network.spec.eval_preprocess(network.weights), channels)
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
    """Write a definition with its weights to your own zoo, where every later process finds it by its name.

    The zoo is the folder `fbnet_zoo.own_zoo.home()`; the variable `FBNET_ZOO_HOME` sets it. To remove an entry, delete
    its files.

    Args:
        definition: the definition, its path or a name; weights with an address are kept.
        weights: a file written by `weights.save` or a training, which is copied and becomes the default weights.
        tag: tag of these weights.
        licence: SPDX identifier or name of the license of these weights (default: the one in the file).
        replace: replace another entry of this name in your own zoo.

    Returns:
        The definition as written, with its `weights`.

    Raises:
        DefinitionError: the definition is not valid, or another entry has its name or one of its aliases.
        InputError: there is no such file, the license is unknown, the zoo has such an entry or cannot be written.
        WeightsError: the weights are damaged or do not fit.
    """
    spec = definition if isinstance(definition, ArchSpec) else registry.get_spec(definition)
    others = [entry for entry in spec.weights if entry.tag != tag and entry.file is None]
    entries, contents = tuple(others), {}
    if weights is not None:
        entry, name, content = _entry(spec, Path(weights), tag, licence)
        entries, contents = (entry, *others), {name: content}
    if entries != spec.weights:
        spec = spec.model_copy(update={"weights": entries})
    return registry.store(spec, contents, replace=replace)


def _entry(spec: ArchSpec, path: Path, tag: str, licence: str | None) -> tuple[WeightsSpec, str, bytes]:
    """Return the entry of a definition for the weights in a file of ours, and the file's new name and content.

    The tag is validated later, with the whole definition, before anything is written.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path} cannot be installed; expected a .safetensors file as written by weights.save")
    found = checkpoints.read(path, (spec,), ("fbnet_zoo",))
    licence = licence or found.license
    if licence is None:
        raise InputError(f"{path} has no license; give one, such as licence='Apache-2.0'")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"{spec.name}.{tag}-{digest[:8]}{path.suffix}"
    fields: dict[str, Any] = {
        "tag": tag,
        "source": f"{BESIDE}{name}",
        "layout": "fbnet_zoo",
        "license": licence,
        "size": len(content),
        "sha256": digest,
        "bn_eps": found.spec.bn_eps if found.spec.bn_eps != spec.bn_eps else None,
        "preprocess": found.spec.preprocess if found.spec.preprocess != spec.preprocess else None,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    return WeightsSpec.model_construct(**given), name, content


def _resolve(name: str | Path, pretrained: bool | str | Path) -> tuple[ArchSpec, Checkpoint | None]:
    """Return a definition and its weights; those of the own zoo fit together even while the entry is replaced."""
    try:
        return _read(name, pretrained)
    except (InputError, WeightsError, OSError):
        if not _is_own(name):
            raise
        with own_zoo.undisturbed():
            return _read(name, pretrained)


def _is_own(name: object) -> bool:
    if not isinstance(name, str | Path):
        return False
    try:
        return registry.folder(name).absolute() == own_zoo.home().absolute()
    except InputError:
        return False


def _read(name: str | Path, pretrained: bool | str | Path) -> tuple[ArchSpec, Checkpoint | None]:
    spec, tag = registry.resolve(name)
    source = _source(name, tag, pretrained)
    return spec, None if source is False else loading.read(spec, source, registry.folder(name))


def _classes(given: int | None, checkpoint: Checkpoint | None) -> int:
    """Return the number of classes of a network."""
    if given is not None:
        return given
    return checkpoint.num_classes if checkpoint else _CLASSES


def _source(name: str | Path, tag: str | None, pretrained: bool | str | Path) -> str | Path | bool:
    """Return the source of weights given by a name, its tag if any, and the argument `pretrained`."""
    if tag is None or pretrained == tag:
        return pretrained
    if isinstance(pretrained, bool):
        return tag
    raise InputError(f"{name} already names weights, but pretrained is {str(pretrained)!r}; give only one of them")
