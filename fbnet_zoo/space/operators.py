"""The operators in the latency table of a search space."""

from fbnet_zoo import planner
from fbnet_zoo.latency.operators import Operator, block_operator, classifier_operators
from fbnet_zoo.space.space import Space


def space_operators(space: Space, *, num_classes: int = 1000) -> tuple[Operator, ...]:
    """Return every distinct operator that takes time in any network of a search space.

    Args:
        space: the search space.
        num_classes: number of outputs of the classifier.

    Raises:
        InputError: a block cannot be built.
    """
    found = [block_operator(space.plan(each), each.size_in) for each in space.operators()]
    for size in space.spec.input_size:
        for channels in space.spec.head.out_channels:
            head = space.frame.head.model_copy(update={"out_channels": channels})
            network = planner.plan(space.frame.model_copy(update={"head": head}), num_classes=num_classes)
            found += classifier_operators(network, size)
    return tuple(dict.fromkeys(operator for operator in found if not operator.is_free))
