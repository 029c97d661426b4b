"""The networks that users give: inside wrappers, with a classifier or without one."""

from torch import nn

from fbnet_zoo import modules
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet, FeatureExtractor

Network = FBNet | FeatureExtractor


def classifier_of(model: object) -> FBNet:
    """Return the network inside the known wrappers, such as those of `torch.compile` and `DataParallel`.

    Raises:
        InputError: there is no network of this library inside.
    """
    network = modules.unwrapped(model) if isinstance(model, nn.Module) else model
    if isinstance(network, FBNet):
        return network
    hint = "; give the network that its features are of" if isinstance(network, FeatureExtractor) else ""
    raise InputError(f"expected a network that create returns; got {type(network).__name__}{hint}")


def network_of(model: object) -> Network:
    """Return the network or the features inside the known wrappers.

    Raises:
        InputError: there is neither inside.
    """
    network = modules.unwrapped(model) if isinstance(model, nn.Module) else model
    return network if isinstance(network, FeatureExtractor) else classifier_of(network)


def class_names_of(network: FBNet, classes: int) -> tuple[str, ...] | None:
    """Return the class names of a network, unless they are those of a classifier that was replaced.

    Args:
        network: the network.
        classes: number of classes that it has now.
    """
    names = network.class_names
    if names is None or classes != network.num_classes == len(names):
        return None
    return names


def has_classifier(network: Network) -> bool:
    """Return whether a network has classes; others give features, which may be flattened."""
    return isinstance(network, FBNet) and not isinstance(network.classifier, nn.Identity | nn.Flatten)
