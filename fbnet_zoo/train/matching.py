"""Networks meet data: the input format for a data set, and classes in the same order."""

import logging
import re

from torch import nn

from fbnet_zoo import modules
from fbnet_zoo.class_names import difference
from fbnet_zoo.datasets import ImageDataset, with_classes
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.networks import class_names_of, classifier_of, has_classifier
from fbnet_zoo.spec import ArchSpec, PreprocessSpec
from fbnet_zoo.train.batches import Inputs
from fbnet_zoo.weights import RANDOM

_OTHER_WEIGHTS = "give weights trained on it, such as those that 'fbnet-zoo train' writes"

log = logging.getLogger(__name__)


def inputs_of(network: nn.Module, dataset: ImageDataset) -> Inputs:
    """Return a network's input format for a data set, by its weights or definition; small images are not cropped.

    Raises:
        InputError: the network has other classes, or the same ones in another order; see `matching_dataset`. Or it is
            not one of this library.
    """
    network = classifier_of(network)
    if network.class_names is not None:
        names = class_names_of(network, _num_classes(network))
        if names is not None and tuple(names) != dataset.classes:
            raise other_classes(network, dataset)
    preprocess = preprocess_of(network.spec, network.weights, dataset)
    return Inputs(preprocess=preprocess, channels=modules.in_channels(network))


def matching_dataset(network: FBNet, dataset: ImageDataset) -> ImageDataset:
    """Return a data set with its classes in the order of a network's; if the network has no names, unchanged.

    Raises:
        InputError: the network has other classes, or another number of them.
    """
    has, wanted = _num_classes(network), len(dataset.classes)
    if has != wanted:
        raise InputError(
            f"weights {network.weights} have {has} classes, but {dataset.name} has {wanted}; {_OTHER_WEIGHTS}"
        )
    names = class_names_of(network, has)
    if names is None:
        _warn_of_positions(network, dataset)
        return dataset
    if set(names) != set(dataset.classes):
        raise other_classes(network, dataset)
    return with_classes(dataset, names)


def _num_classes(network: FBNet) -> int:
    size = network.spec.eval_preprocess(network.weights).crop
    return modules.num_outputs(network, size) if has_classifier(network) else 0


def other_classes(network: FBNet, dataset: ImageDataset) -> InputError:
    """Return the error of weights that have other classes than a data set."""
    differs = difference(network.class_names or (), dataset.classes)
    return InputError(f"weights {network.weights} have other classes than {dataset.name}: {differs}; {_OTHER_WEIGHTS}")


def _warn_of_positions(network: FBNet, dataset: ImageDataset) -> None:
    """Say that classes are matched by position, unless the weights are random or the folders are ImageNet's."""
    if network.weights is None or network.weights.startswith(RANDOM):
        return
    if not all(re.fullmatch(r"n\d{8}", name) for name in dataset.classes):
        log.warning(
            "weights %s do not name their classes: they are matched by position with those of %s, %s",
            network.weights,
            dataset.name,
            ", ".join(map(repr, dataset.classes[:4])) + (", …" if len(dataset.classes) > 4 else ""),
        )


def preprocess_of(spec: ArchSpec, weights: str | None, dataset: ImageDataset) -> PreprocessSpec:
    """Return the preprocessing of a data set, by weights or definition; small images are not cropped."""
    preprocess = spec.eval_preprocess(weights)
    return preprocess if dataset.size is None else preprocess.model_copy(update={"resize": preprocess.crop})
