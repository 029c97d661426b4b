"""How many held-out images a network gets right."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fbnet_zoo.datasets import ImageSet
from fbnet_zoo.errors import InputError
from fbnet_zoo.train.batches import Batch, Inputs, evaluation_batches

BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was right.

    Attributes:
        correct: images whose most probable class is theirs.
        images: that were classified.
    """

    correct: int
    images: int

    @property
    def top1(self) -> float:
        """Share of images that are right, percent."""
        return 100 * self.correct / self.images


@torch.inference_mode()
def evaluate(
    network: Callable[[Tensor], Tensor], images: ImageSet, inputs: Inputs, *, device: str = "cpu", workers: int = 0
) -> Evaluation:
    """Classify every image once, as the network's definition prepares it.

    Args:
        network: from images `(N, C, crop, crop)` to logits `(N, classes)`. A module is put into evaluation mode, and
            afterwards back.
        images: to classify.
        inputs: of the network.
        device: where the network is.
        workers: processes that read images.

    Raises:
        InputError: there are no images, or one cannot be read.
    """
    if not len(images.labels):
        raise InputError("there are no images to evaluate on; give a data set with held-out images")
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
    """Classify the images of some batches by a network in evaluation mode."""
    correct = images = 0
    for batch, labels in batches:
        correct += int((network(batch.to(device)).argmax(1).cpu() == labels.cpu()).sum())
        images += len(labels)
    return Evaluation(correct=correct, images=images)
