"""Weights of a network: drawn from a seed, or taken from a checkpoint.

What a user should know of them goes to the logger `fbnet_zoo` as a warning, which Python shows unless it is told not
to: their licence, once per process; a stem or a classifier that had to be changed; another definition that they chose.
"""

import functools
import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, registry
from fbnet_zoo.batch_norm import recalibrate
from fbnet_zoo.errors import InputError, UnknownNameError, WeightsError
from fbnet_zoo.model import FBNet, changed
from fbnet_zoo.own_zoo import BESIDE
from fbnet_zoo.spec import ArchSpec, Layout, WeightsSpec
from fbnet_zoo.weights import checkpoints, download, layouts
from fbnet_zoo.weights.checkpoints import Checkpoint
from fbnet_zoo.weights.layouts import CLASSIFIER, CLASSIFIER_BIAS, LAYOUTS, STEM

RANDOM = "random seed"
"""What the name of weights starts with that `randomize` drew."""

log = logging.getLogger(__name__)

_CALIBRATION_SHAPE = (8, 128)
"""Noise images and their size (px) from which running statistics of a random network are taken."""

_SATURATED = (-2.1, 2.4, -2.1, 2.4)
"""Images of one value, about normalised black and white, that join them: a network that has never seen such images
answers with activations out of all proportion, and amplifies rounding errors until no conversion can be checked."""

_BRANCH_SCALE = 0.2
"""Of gamma at the end of residual branches: larger makes a random deep network amplify rounding errors."""


def load(model: FBNet, source: str | Path | bool) -> None:
    """Replace the values of a network by those of a checkpoint; nothing changes unless all of it fits.

    A stem or a classifier for other numbers of channels or classes is adapted or drawn anew, and a warning says so.

    Args:
        model: not fused; its device and type stay as they are.
        source: a tag of its definition, `True` for the default one, a path, or an address (`hf://…`, `https://…`).
            A file beside the definition is found for entries of the zoo.

    Raises:
        UnknownNameError: the definition has no such tag.
        InputError: there is no such file, or `source` is none of these.
        WeightsUnavailableError: the checkpoint cannot be downloaded, or does not lie where its definition says.
        WeightsError: it is damaged or does not fit.
    """
    _check_not_fused(model)
    fill(model, _read((model.spec,), source, None))


def save(model: FBNet, path: str | Path) -> None:
    """Write a network with its definition, licence and the origin of its weights as a safetensors file, atomically.

    Whether it was trained since it was loaded is not known: what was `fb_in1k` is `fb_in1k, saved again` in the file.

    Args:
        model: not fused.
        path: of the file, ending in `.safetensors`.

    Raises:
        WeightsError: the network is fused.
        InputError: the file cannot be written, or has another ending.
    """
    _check_not_fused(model)
    notes = {"weights": changed(model.weights, "saved again"), "license": model.license}
    checkpoints.write(Path(path), model.state_dict(), model.spec, notes)


def read(spec: ArchSpec, source: str | Path | bool, folder: Path | None = None) -> Checkpoint:
    """Fetch and verify weights for a definition.

    Args:
        spec: the definition. Where the file has exactly the keys of one named `<name>_timm`, that one is chosen.
        source: a tag of the definition, `True` for the default one, a path, or an address (`hf://…`, `https://…`);
            the address of a published checkpoint of either definition stands for its tag.
        folder: where files beside the definition lie; if not said, those of the zoo's entry of its name.

    Raises:
        UnknownNameError: the definition has no such tag.
        InputError: there is no such file, or `source` is none of these.
        WeightsUnavailableError: the checkpoint cannot be downloaded, or does not lie where its definition says.
        WeightsError: it is damaged or does not fit.
    """
    sibling = f"{spec.name}_timm"
    specs = (spec, registry.get_spec(sibling)) if sibling in registry.bundled() else (spec,)
    return _read(specs, source, folder)


@torch.no_grad()
def fill(model: FBNet, checkpoint: Checkpoint, *, adopt: bool = False) -> None:
    """Put a verified checkpoint into a network of its definition; what does not fit is adapted, with a warning.

    Args:
        model: a network of float32 on the CPU if `adopt`.
        checkpoint: what to put into it.
        adopt: let the network keep the memory of the checkpoint, which then is of no other use, instead of copying.
    """
    values, model.weights = dict(checkpoint.values), checkpoint.weights
    if checkpoint.in_channels != model.plan.stem.in_channels:
        values[STEM] = _adapt_stem(model, checkpoint)
    if checkpoint.num_classes != model.plan.num_classes:
        _renew_classifier(model, checkpoint)
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
        _tell_license(checkpoint.spec.name, checkpoint.weights, checkpoint.license)


@torch.no_grad()
def randomize(model: FBNet, seed: int) -> None:
    """Draw every parameter and running statistic from a seed, so that no part of the network is silent.

    Unlike the training init, gamma is nowhere 0 (a zero would hide every error inside a residual
    branch) and running statistics are those of seeded noise and of black and white images passing
    through: every layer then varies with the image, as in a trained network, and a wrong one shows
    in the logits.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, blocks.Conv2d | blocks.LinearClassifier):
            module.weight.normal_(0, math.sqrt(1 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.7, 1.3, generator=generator)
            module.bias.normal_(0, 0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, blocks.ResidualInvertedResidual):
            _scale_gamma(module.project)
    was_training = model.training
    recalibrate(model, [_calibration_images(model.plan.stem.in_channels, generator)])
    model.train(was_training)
    model.weights, model.license = f"{RANDOM} {seed}", None


def _check_not_fused(model: FBNet) -> None:
    if model.state_dict().keys() != layouts.shapes(model.plan).keys():
        raise WeightsError(f"this {model.spec.name} is fused; load and save weights before fuse()")


def _read(specs: tuple[ArchSpec, ...], source: str | Path | bool, folder: Path | None) -> Checkpoint:
    if not isinstance(source, str | Path | bool) or not source:
        raise InputError(f"weights cannot be {source!r}; expected a tag, a path, an address, or True for the default")
    text, published, wanted = str(source), _entry(specs, source), specs[0].name
    if published is not None:
        found = _published(*published, folder)
    elif download.is_address(text):
        found = replace(_downloaded(text, download.fetch(text), specs), weights=text)
        stated = download.hub_license(text) if text.startswith("hf://") else None
        found = replace(found, license=stated or found.license)
    else:
        found = checkpoints.read(Path(text), specs)
    if found.spec.name != wanted:
        log.warning("%s has the keys of %s, not of %s: creating that", found.weights, found.spec.name, wanted)
    return found


def _published(spec: ArchSpec, entry: WeightsSpec, folder: Path | None) -> Checkpoint:
    suited = spec.model_copy(update={"bn_eps": entry.bn_eps}) if entry.bn_eps else spec
    if entry.source.startswith(BESIDE):
        name, place = entry.source.removeprefix(BESIDE), folder or _folder(spec, entry)
        path = download.beside(name, place, size=entry.size, sha256=entry.sha256)
        found = checkpoints.read(path, (suited,), (entry.layout,))
    else:
        path = download.fetch(entry.source, size=entry.size, sha256=entry.sha256)
        found = _downloaded(entry.source, path, (suited,), (entry.layout,))
    return replace(found, weights=entry.tag, license=entry.license)


def _folder(spec: ArchSpec, entry: WeightsSpec) -> Path:
    try:
        return registry.folder(spec.name)
    except UnknownNameError as error:
        raise InputError(
            f"weights {entry.tag} of {spec.name} lie beside its definition, which is not in the zoo; create the "
            "network from the path of the definition, or give the path of the weights"
        ) from error


def _downloaded(
    address: str, path: Path, specs: tuple[ArchSpec, ...], among: tuple[Layout, ...] = LAYOUTS
) -> Checkpoint:
    """Read a file of a cache, which keeps a wrong one, such as a server's page of apologies, until it is deleted."""
    try:
        return checkpoints.read(path, specs, among)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete {path} to download it again from {address}") from error


def _entry(specs: tuple[ArchSpec, ...], source: str | Path | bool) -> tuple[ArchSpec, WeightsSpec] | None:
    """Return the published checkpoint that is meant, with its definition, or `None` for another file or address."""
    spec, text = specs[0], str(source)
    tags = {entry.tag: entry for entry in spec.weights}
    if source is True:
        if not tags:
            raise UnknownNameError(f"{spec.name} has no published weights; give the path of a checkpoint, or none")
        return spec, spec.weights[0]
    if isinstance(source, Path):
        return None
    if download.is_address(text):
        return next(((one, entry) for one in specs for entry in one.weights if entry.source == text), None)
    if text in tags:
        return spec, tags[text]
    if Path(text).suffix or Path(text).exists():
        return None
    hint = registry.tag_hint(spec, text) or f"; it has {', '.join(tags) or 'none'}, and there is no such file"
    raise UnknownNameError(f"{spec.name} has no weights {text!r}{hint}")


def _adapt_stem(model: FBNet, checkpoint: Checkpoint) -> Tensor:
    """Sum the stem's weights over the channels for grey images, else repeat and rescale them, as timm does."""
    weight, wanted = checkpoint.values[STEM].float(), model.plan.stem.in_channels
    had = checkpoint.in_channels
    log.warning("%s is for images of %d channels: its stem is adapted to %d", checkpoint.weights, had, wanted)
    model.weights = changed(model.weights, "adapted stem")
    if wanted == 1:
        return weight.sum(1, keepdim=True)  # (C, 1, k, k)
    return weight.repeat(1, math.ceil(wanted / had), 1, 1)[:, :wanted] * (had / wanted)  # (C, wanted, k, k)


def _renew_classifier(model: FBNet, checkpoint: Checkpoint) -> None:
    if model.plan.num_classes:
        told = (checkpoint.weights, checkpoint.num_classes, model.plan.num_classes)
        log.warning("%s has %d classes: the classifier of %d is drawn anew", *told)
        blocks.init_weights(model.classifier)
        model.weights = changed(model.weights, "new classifier")


def _set_epsilon(model: FBNet, epsilon: float) -> None:
    if epsilon != model.spec.bn_eps:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = epsilon


@functools.cache
def _tell_license(name: str, weights: str, licence: str) -> None:
    log.warning("weights %s of %s are under the licence %s", weights, name, licence)


def _scale_gamma(project: nn.Module) -> None:
    if isinstance(project, blocks.ConvBNAct) and isinstance(project.bn, nn.BatchNorm2d):
        project.bn.weight.mul_(_BRANCH_SCALE)


def _calibration_images(channels: int, generator: torch.Generator) -> Tensor:
    """Return `(N, channels, S, S)` images: coarse and fine noise, about normalised like photographs, and plain ones."""
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
