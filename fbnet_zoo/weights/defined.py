"""Whether a network still is what its definition describes, and its values under the names of the definition."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from fbnet_zoo import modules
from fbnet_zoo.errors import WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.weights import layouts
from fbnet_zoo.weights.layouts import CLASSIFIER, CLASSIFIER_BIAS

_NAMED = 3
"""Number of differences that a text names."""


def defined_state(network: FBNet) -> dict[str, Tensor]:
    """Return the state dict of a network, with the names of its definition for a classifier of one layer."""
    plain = modules.plain_copy(network)
    state, layer = plain.state_dict(), modules.plain_classifier(plain.classifier)
    if layer is None:
        return state
    own = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    shape = (*layer.weight.shape[:2], *([1, 1] if network.plan.classifier == "conv" else []))
    own[CLASSIFIER] = layer.weight.detach().reshape(shape) if layer.weight[0, 0].numel() == 1 else layer.weight.detach()
    return own if layer.bias is None else {**own, CLASSIFIER_BIAS: layer.bias.detach()}


def plan_of(network: FBNet, state: Mapping[str, Tensor]) -> NetworkPlan:
    """Return the plan of a network with the input channels and the classes that it has now."""
    stem = replace(network.plan.stem, in_channels=modules.in_channels(network))
    classes = len(state[CLASSIFIER]) if CLASSIFIER in state else 0
    return replace(network.plan, stem=stem, num_classes=classes)


def difference_from_definition(network: FBNet) -> str:
    """Return how a network differs from its definition, in words, or an empty text; it may be fused.

    Numbers of input channels and of classes are not compared.
    """
    state = defined_state(network)
    return "" if _is_fused(network, state) else _difference(network, state)


def check_as_defined(network: FBNet, state: Mapping[str, Tensor]) -> None:
    """Check that a network has the parameters of its definition, for any numbers of input channels and of classes.

    Raises:
        WeightsError: it is fused, or differs; the text says where.
    """
    if _is_fused(network, state):
        raise WeightsError(f"this {network.spec.name} is fused; load or save weights before fuse()")
    if difference := _difference(network, state):
        raise WeightsError(
            f"this {network.spec.name} differs from its definition: {difference}; undo the change, or use torch.save"
        )


def _is_fused(network: FBNet, state: Mapping[str, Tensor]) -> bool:
    wanted = layouts.shapes(plan_of(network, state))
    lacking, more = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    folded = all(".bn." in name for name in lacking) and all(name.endswith(".conv.bias") for name in more)
    return bool(lacking) and folded and not any(".bn." in name for name in state)


def _difference(network: FBNet, state: Mapping[str, Tensor]) -> str:
    wanted = layouts.shapes(plan_of(network, state))
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    reshaped = {name: shape for name, shape in shapes.items() if shape != wanted.get(name, shape)}
    found = [
        *(f"{name} is {shape}, not {wanted[name]}" for name, shape in reshaped.items()),
        *(f"there is {name}" for name in state if name not in wanted),
        *(f"{name} is missing" for name in wanted if name not in state),
    ]
    rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + rest
