"""Weights of a network: loaded from a checkpoint, or drawn from a seed.

The logger `fbnet_zoo` warns of what a user should know: the license, once per process; a stem or a classifier that was
changed; a definition other than the one asked for.
"""

import functools
import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, class_names, modules, registry
from fbnet_zoo.batch_norm import recalibrate
from fbnet_zoo.errors import InputError, UnknownNameError, WeightsError, require_whole
from fbnet_zoo.model import FBNet, changed
from fbnet_zoo.networks import class_names_of, classifier_of
from fbnet_zoo.spec import MAX_SEED, ArchSpec, Layout, WeightsSpec
from fbnet_zoo.weights import checkpoints, download
from fbnet_zoo.weights.checkpoints import Checkpoint
from fbnet_zoo.weights.defined import check_as_defined, defined_state, plan_of
from fbnet_zoo.weights.layouts import CLASSIFIER, CLASSIFIER_BIAS, LAYOUTS, STEM
from fbnet_zoo.weights.sources import WeightsSource

RANDOM = "random seed"
"""Prefix of the name of weights that `randomize` drew."""

log = logging.getLogger(__name__)

_CALIBRATION_SHAPE = (8, 128)
"""Number and size (px) of the noise images that give the running statistics of a random network."""

_SATURATED = (-2.1, 2.4, -2.1, 2.4)
"""Values of further constant images, about normalized black and white: without them, such images would give huge
activations, which amplify rounding errors until no conversion can be checked."""

_BRANCH_SCALE = 0.2
"""Factor for gamma at the end of residual branches; a larger one makes random deep networks amplify rounding errors."""


def load(model: nn.Module, source: str | Path | bool) -> None:
    """Replace the values of a network by those of a checkpoint; nothing changes unless all of them fit.

    A stem for another number of channels is adapted, a classifier for another number of classes is replaced by a random
    one; a warning is logged.

    Args:
        model: a network as its definition describes it, also inside the wrapper of `torch.compile` or `DataParallel`;
            its device and dtype do not change.
        source: a tag of its definition, `True` for the default one, a path, or an address (`hf://…`, `https://…`).
            Files in the folder of the definition are found for entries of the zoo.

    Raises:
        UnknownNameError: the definition has no such tag.
        InputError: there is no such file, `source` is none of these, or the module is not a network of this library.
        WeightsUnavailableError: the checkpoint cannot be downloaded, or is missing from the folder of its definition.
        WeightsError: the checkpoint is damaged or does not fit, or the network was changed or fused.
    """
    network = classifier_of(model)
    check_as_defined(network, network.state_dict())
    fill(network, _read((network.spec,), source, None))


def save(model: nn.Module, path: str | Path) -> None:
    """Write a network with its definition, license, origin and class names as a safetensors file, atomically.

    The network may have been trained since it was loaded: the weights `fb_in1k` become `fb_in1k, saved again`. Masks of
    pruning are applied; a classifier of one layer, with dropout or flattening around it, is saved as that layer.

    Args:
        model: a network that is not fused, also inside the wrapper of `torch.compile` or `DataParallel`.
        path: path of the file, ending in `.safetensors`.

    Raises:
        WeightsError: the network is fused, or differs from its definition; the text says where.
        InputError: the file cannot be written, has another extension, `class_names` do not fit the classes, or the
            module is not a network of this library.
    """
    network = classifier_of(model)
    state = defined_state(network)
    check_as_defined(network, state)
    notes = {"weights": changed(network.weights, "saved again"), "license": network.license}
    classes = plan_of(network, state).num_classes
    if (names := class_names_of(network, classes)) is not None:
        notes["class_names"] = class_names.to_text(class_names.require_names(names, classes))
    checkpoints.write(Path(path), state, network.spec, notes)


def read(spec: ArchSpec, source: str | Path | bool, folder: Path | None = None) -> Checkpoint:
    """Fetch and verify weights for a definition.

    Args:
        spec: the definition; if the file has exactly the keys of the definition `<name>_timm`, that one is used.
        source: a tag of the definition, `True` for the default one, a path, or an address (`hf://…`, `https://…`);
            the address of a published checkpoint of either definition is equivalent to its tag.
        folder: folder of the definition (default: that of the zoo's entry of this name).

    Raises:
        UnknownNameError: the definition has no such tag.
        InputError: there is no such file, or `source` is none of these.
        WeightsUnavailableError: the checkpoint cannot be downloaded, or is missing from the folder of its definition.
        WeightsError: the checkpoint is damaged or does not fit.
    """
    sibling = f"{spec.name}_timm"
    specs = (spec, registry.get_spec(sibling)) if sibling in registry.bundled() else (spec,)
    return _read(specs, source, folder)


@torch.no_grad()
def fill(model: FBNet, checkpoint: Checkpoint, *, adopt: bool = False) -> None:
    """Copy a verified checkpoint into a network of its definition; stem and classifier are adapted, with a warning.

    Args:
        model: the network; float32 on the CPU if `adopt`.
        checkpoint: the new values.
        adopt: use the memory of the checkpoint, which must not be used again, instead of copying it.
    """
    values, model.weights = dict(checkpoint.values), checkpoint.weights
    plan, model.class_names = plan_of(model, model.state_dict()), checkpoint.class_names
    if checkpoint.in_channels != plan.stem.in_channels:
        values[STEM] = _adapt_stem(model, checkpoint)
    if checkpoint.num_classes != plan.num_classes:
        _renew_classifier(model, checkpoint, plan.num_classes)
        values = {name: value for name, value in values.items() if name not in {CLASSIFIER, CLASSIFIER_BIAS}}
    state = model.state_dict(keep_vars=True)
    for name, value in values.items():
        if adopt:
            state[name].data = value
        else:
            state[name].copy_(value)
    _set_epsilon(model, checkpoint.spec.bn_eps)
    model.spec, model.license = checkpoint.spec, checkpoint.license
    if checkpoint.license:
        _warn_of_license(checkpoint.spec.name, checkpoint.weights, checkpoint.license)


@torch.no_grad()
def randomize(model: FBNet, seed: int) -> None:
    """Draw every parameter and running statistic from a seed, so that every part of the network has an effect.

    Unlike in the training init, gamma is never 0 (a zero would hide all errors inside a residual branch), and running
    statistics are those of seeded noise and of black and white images: every layer then varies with the image, as in a
    trained network, and an error in it shows in the logits.

    Raises:
        InputError: the seed is not a whole number of 64 bits.
    """
    require_whole("seed", seed, low=-MAX_SEED - 1, high=MAX_SEED)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, math.sqrt(1 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        elif blocks.is_batch_norm(module):
            module.weight.uniform_(0.7, 1.3, generator=generator)
            module.bias.normal_(0, 0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, blocks.ResidualInvertedResidual):
            _scale_gamma(module.project)
    was_training = model.training
    recalibrate(model, [_calibration_images(modules.in_channels(model), generator)])
    model.train(was_training)
    model.weights, model.license, model.class_names = f"{RANDOM} {seed}", None, None


def _read(specs: tuple[ArchSpec, ...], source: str | Path | bool, folder: Path | None) -> Checkpoint:
    if not isinstance(source, str | Path | bool) or not source:
        raise InputError(f"weights cannot be {source!r}; expected a tag, a path, an address, or True for the default")
    place = WeightsSource.parse(str(source))
    published, wanted = _entry(specs, source, place), specs[0].name
    if published is not None:
        found = _published(*published, folder)
    elif place.kind == "local":
        found = checkpoints.read(Path(place.text), specs)
    else:
        found = _downloaded(place, download.fetch(place), specs)
        stated = download.hub_license(place.repository) if place.kind == "hub" else None
        found = replace(found, weights=place.text, license=stated or found.license)
    if found.spec.name != wanted:
        log.warning(
            "%s has the keys of %s, not of %s: creating %s", found.weights, found.spec.name, wanted, found.spec.name
        )
    return found


def _published(spec: ArchSpec, entry: WeightsSpec, folder: Path | None) -> Checkpoint:
    suited = spec.model_copy(update={"bn_eps": entry.bn_eps}) if entry.bn_eps else spec
    if entry.file is not None:
        path = download.beside(entry.file, folder or _folder(spec, entry), size=entry.size, sha256=entry.sha256)
        found = checkpoints.read(path, (suited,), (entry.layout,))
    else:
        place = WeightsSource.parse(entry.source)
        path = download.fetch(place, size=entry.size, sha256=entry.sha256)
        found = _downloaded(place, path, (suited,), (entry.layout,))
    return replace(found, weights=entry.tag, license=entry.license)


def _folder(spec: ArchSpec, entry: WeightsSpec) -> Path:
    try:
        return registry.folder(spec.name)
    except UnknownNameError as error:
        raise InputError(
            f"weights {entry.tag} of {spec.name} are in the folder of its definition, which is not in the zoo; create "
            "the network from the path of the definition, or give the path of the weights"
        ) from error


def _downloaded(
    source: WeightsSource, path: Path, specs: tuple[ArchSpec, ...], among: tuple[Layout, ...] = LAYOUTS
) -> Checkpoint:
    """Read a file of a cache, which keeps a wrong one, such as a server's error page, until it is deleted."""
    try:
        return checkpoints.read(path, specs, among)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete {path} to download it again from {source.text}") from error


def _entry(
    specs: tuple[ArchSpec, ...], source: str | Path | bool, place: WeightsSource
) -> tuple[ArchSpec, WeightsSpec] | None:
    """Return the published checkpoint of a source, with its definition, or `None` for another file or address."""
    spec, text = specs[0], place.text
    tags = {entry.tag: entry for entry in spec.weights}
    if source is True:
        if not tags:
            raise UnknownNameError(f"{spec.name} has no published weights; give the path of a checkpoint")
        return spec, spec.weights[0]
    if isinstance(source, Path):
        return None
    if place.kind != "local":
        return next(((one, entry) for one in specs for entry in one.weights if entry.source == text), None)
    if text in tags:
        return spec, tags[text]
    if Path(text).suffix or Path(text).exists():
        return None
    hint = registry.tag_hint(spec, text) or f"; expected {', '.join([*tags, 'the path of a file'])}"
    raise UnknownNameError(f"{spec.name} has no weights {text!r}{hint}")


def _adapt_stem(model: FBNet, checkpoint: Checkpoint) -> Tensor:
    """Sum the stem's weights over the channels for gray images, else repeat and rescale them, as timm does."""
    weight, wanted = checkpoint.values[STEM].float(), modules.in_channels(model)
    had = checkpoint.in_channels
    log.warning("%s is for images of %d channels: its stem is adapted to %d", checkpoint.weights, had, wanted)
    model.weights = changed(model.weights, "adapted stem")
    if wanted == 1:
        return weight.sum(1, keepdim=True)  # (C, 1, k, k)
    return weight.repeat(1, math.ceil(wanted / had), 1, 1)[:, :wanted] * (had / wanted)  # (C, wanted, k, k)


def _renew_classifier(model: FBNet, checkpoint: Checkpoint, classes: int) -> None:
    model.class_names = None
    if classes:
        numbers = (checkpoint.num_classes, classes)
        log.warning("%s has %d classes: the classifier of %d is initialized", checkpoint.weights, *numbers)
        blocks.init_classifier(model.classifier)
        model.weights = changed(model.weights, "new classifier")


def _set_epsilon(model: FBNet, epsilon: float) -> None:
    if epsilon != model.spec.bn_eps:
        for module in model.modules():
            if blocks.is_batch_norm(module):
                module.eps = epsilon


@functools.cache
def _warn_of_license(name: str, weights: str, license_: str) -> None:
    log.warning("weights %s of %s are under the license %s", weights, name, license_)


def _scale_gamma(project: nn.Module) -> None:
    if isinstance(project, blocks.ConvBNAct) and blocks.is_batch_norm(project.bn):
        project.bn.weight.mul_(_BRANCH_SCALE)


def _calibration_images(channels: int, generator: torch.Generator) -> Tensor:
    """Return `(N, channels, S, S)` images: coarse and fine noise, scaled about like photographs, and constant ones."""
    count, size = _CALIBRATION_SHAPE
    waves = [(1, 0.8), (4, 0.6), (16, 0.5), (size, 0.3)]  # pixels of the noise, amplitude
    images = [
        amplitude
        * nn.functional.interpolate(
            torch.randn(count, channels, pixels, pixels, generator=generator), size=(size, size), mode="bilinear"
        )
        for pixels, amplitude in waves
    ]
    plain = torch.tensor(_SATURATED)[:, None, None, None].expand(-1, channels, size, size)
    return torch.cat([torch.stack(images).sum(0), plain])
