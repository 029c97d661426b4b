"""Accuracy of a network on held-out images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fbnet_zoo.datasets import ImageSet
from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import check_batch
from fbnet_zoo.model import FBNet
from fbnet_zoo.train.batches import Batch, Inputs, evaluation_batches

BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        correct: number of correctly classified images.
        images: number of images.
    """

    correct: int
    images: int

    @property
    def top1(self) -> float:
        """Top-1 accuracy, percent."""
        return 100 * self.correct / self.images


@torch.inference_mode()
def evaluate(
    network: Callable[[Tensor], Tensor],
    images: ImageSet,
    inputs: Inputs,
    *,
    device: str = "cpu",
    workers: int | None = 0,
) -> Evaluation:
    """Return the accuracy of a network on all images of a set.

    Args:
        network: function from images `(N, C, crop, crop)` to logits `(N, classes)`. A module is switched to evaluation
            mode, and back afterwards.
        images: to classify.
        inputs: input format of the network.
        device: device of the network.
        workers: number of processes that read images (`None`: `fbnet_zoo.train.batches.usual_workers`).

    Raises:
        InputError: there are no images, or an image cannot be read.
    """
    if not len(images.labels):
        raise InputError("there are no images to evaluate on; give a data set with held-out images")
    if isinstance(network, FBNet):
        check_batch(network.plan, inputs.preprocess.crop, min(BATCH, len(images.labels)))
    was_training = isinstance(network, nn.Module) and network.training
    if isinstance(network, nn.Module):
        network.eval()
    found = evaluate_batches(
        network, evaluation_batches(images, inputs, batch_size=BATCH, workers=workers), device=device
    )
    if isinstance(network, nn.Module):
        network.train(was_training)
    return found


@torch.inference_mode()
def evaluate_batches(
    network: Callable[[Tensor], Tensor], batches: Iterable[Batch], *, device: str = "cpu"
) -> Evaluation:
    """Return the accuracy of a network in evaluation mode on some batches."""
    correct = images = 0
    for batch, labels in batches:
        correct += int((network(batch.to(device)).argmax(1).cpu() == labels.cpu()).sum())
        images += len(labels)
    return Evaluation(correct=correct, images=images)
