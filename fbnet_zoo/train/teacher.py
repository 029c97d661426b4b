"""Distillation: a trained network whose logits are learned beside the labels (Hinton et al., arXiv:1503.02531)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.data import denormalised
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.modules import in_channels, unwrapped
from fbnet_zoo.train.batches import Inputs
from fbnet_zoo.train.matching import matching_dataset, preprocess_of
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.zoo import create


class Teacher:
    """A network to learn from, on the images of another network.

    It works in evaluation mode, and is left in the mode that it had.

    Args:
        network: any module from images to logits `(N, classes)`. An `FBNet` gets the images in its own size and
            normalization, and its classes are matched by name; any other module gets the same input as the network that
            learns, and has the classes of the data set in the same order.
        dataset: images to train on.
        inputs: input format of the network that learns.
        device: device to train on; the module is moved there.

    Raises:
        InputError: the module has other classes, or does not accept the images.
    """

    def __init__(self, network: nn.Module, dataset: ImageDataset, inputs: Inputs, device: str = "cpu") -> None:
        self.network, self.given, self.own = network.to(device), inputs, inputs
        self.order: list[int] | None = None
        inner = unwrapped(network)
        if isinstance(inner, FBNet):
            names = _classes(inner, dataset)
            self.order = None if names == dataset.classes else [names.index(name) for name in dataset.classes]
            self.own = Inputs(preprocess=preprocess_of(inner.spec, inner.weights, dataset), channels=in_channels(inner))
        self._try(len(dataset.classes), device)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return logits `(N, classes)` for the input of the network that learns, `(N, C, crop, crop)`."""
        with _evaluating(self.network):
            found = self.network(self._seen(images))
        return found if self.order is None else found[:, self.order]

    def _seen(self, images: Tensor) -> Tensor:
        if _format(self.own) == _format(self.given):
            return images
        plain, crop = denormalised(images, self.given.preprocess), self.own.preprocess.crop
        if plain.shape[-1] != crop:
            plain = F.interpolate(plain, size=(crop, crop), mode="bilinear", antialias=True)
        return self.own(plain)

    def _try(self, classes: int, device: str) -> None:
        size = self.given.preprocess.crop
        images = torch.zeros(2, self.given.channels, size, size, device=device)
        try:
            with torch.random.fork_rng(), _evaluating(self.network), torch.no_grad():
                found = self.network(self._seen(images))
        except Exception as error:  # a module of the user may raise anything
            raise InputError(f"the teacher does not accept images {tuple(images.shape)}: {error}") from error
        if not isinstance(found, Tensor) or found.shape != (2, classes):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the teacher outputs {got} for 2 images, but the data have {classes} classes; expected (2, {classes})"
            )

    def about(self) -> dict[str, Any]:
        """Return what identifies the teacher: its name and a digest of its weights and statistics."""
        inner, digest = unwrapped(self.network), hashlib.sha256()
        for name, value in inner.state_dict().items():
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(name.encode() + content.numpy().tobytes())
        name = inner.spec.name if isinstance(inner, FBNet) else type(inner).__name__
        return {"name": name, "sha256": digest.hexdigest()}


def teacher_of(recipe: Recipe, given: nn.Module | None) -> nn.Module | None:
    """Return the network to learn from: a given one, else the one that a recipe names, with its weights, if any.

    Raises:
        InputError: there is no such network, or it has no weights.
        WeightsError: the weights are not available, or do not fit.
    """
    if given is not None or recipe.teacher is None:
        return given
    return create(recipe.teacher, recipe.teacher_weights or True)


def distilled(loss: Tensor, logits: Tensor, taught: Tensor, recipe: Recipe) -> Tensor:
    """Return a loss mixed with the Kullback-Leibler divergence from the teacher's probabilities, in float32.

    Args:
        loss: loss of the labels, ().
        logits: logits of the network that learns `(N, classes)`.
        taught: those of the teacher.
        recipe: training settings.
    """
    temperature, share = recipe.distill_temperature, recipe.distill_share
    own, other = ((each.float() / temperature).log_softmax(1) for each in (logits, taught))
    soft = F.kl_div(own, other, log_target=True, reduction="batchmean") * temperature**2
    return (1 - share) * loss + share * soft


def _classes(network: FBNet, dataset: ImageDataset) -> tuple[str, ...]:
    try:
        return matching_dataset(network, dataset).classes
    except InputError as error:
        raise InputError(f"the teacher cannot be used: {error}") from error


def _format(inputs: Inputs) -> tuple[Any, ...]:
    preprocess = inputs.preprocess
    return preprocess.crop, preprocess.mean, preprocess.std, preprocess.order, inputs.channels


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation mode, and back."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
