"""The interface of evaluators, which return the accuracy of networks, and the evaluations of a run.

Those of the library are a short training of each network (`short_training`), the weights of a trained supernet
(`gradient.evaluator`), and a table of known accuracies (`oracle`); a job may bring its own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.space.encoding import Encoding, Population, Positions

if TYPE_CHECKING:
    from fbnet_zoo.train import RunFolder


class Evaluator(Protocol):
    """Returns the accuracy of networks.

    Attributes:
        about: how accuracy is determined, as words that follow "top-1", such as `after 5 epochs of training`.
        candidates: networks that it can evaluate, (networks, decisions); `None` for the whole space.
    """

    @property
    def about(self) -> str: ...
    @property
    def candidates(self) -> Population | None: ...

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Return the accuracy of each network, percent.

        Raises:
            InputError: a network cannot be evaluated.
            TrainingError: a training failed.
        """


_AGAIN = "start again in another folder"

Progress = Callable[[EvaluatedNetwork], None]


@dataclass(slots=True, kw_only=True)
class Evaluations:
    """The networks that a search has evaluated, each once, recorded in its run folder.

    A resumed search requests the same networks in the same order; results in the folder are reused.

    Attributes:
        encoding: encoding of the space.
        costs: costs recorded with every accuracy.
        evaluator: evaluator of networks not yet in the folder.
        folder: folder of the run.
        progress: called for every evaluated network.
        done: evaluated networks so far, in order.
    """

    encoding: Encoding
    costs: Costs
    evaluator: Evaluator
    folder: "RunFolder"
    progress: Progress
    done: list[EvaluatedNetwork] = field(default_factory=list)
    _asked: set[Positions] = field(default_factory=set)
    _known: dict[Positions, EvaluatedNetwork] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        for number, known in enumerate(self.folder.read(EvaluatedNetwork), start=1):
            self._check(known, f"{self.folder.metrics}:{number}", number)
            self._known[known.positions] = known
        self.folder.forget_after(len(self._known))  # a last line that was not written whole

    def _check(self, known: EvaluatedNetwork, where: str, number: int) -> None:
        """Refuse a line that is not the next network of the space with its costs."""
        counts = [len(decision.options) for decision in self.encoding.decisions]
        in_range = len(known.positions) == len(counts) and all(
            0 <= position < count for position, count in zip(known.positions, counts, strict=True)
        )
        if not in_range or self.canonical(known.positions) != known.positions:
            raise InputError(f"{where}: positions: {known.positions} is not a network of the space; {_AGAIN}")
        if known.positions in self._known or known.step != number:
            raise InputError(f"{where}: step: {known.step} is not the next network, {number}; {_AGAIN}")
        if known.costs.keys() != self.costs.keys():
            raise InputError(f"{where}: costs: expected {', '.join(self.costs)}; {_AGAIN}")

    def top1(self, positions: Positions) -> float:
        """Return the accuracy of a network, percent; a network is evaluated at most once."""
        network = self.canonical(positions)
        found = self._known.get(network)
        if found is None:
            found = self._evaluate(network)
            self._known[network] = found
        if network not in self._asked:
            self._asked.add(network)
            self.done.append(found)
            self.progress(found)
        return found.top1

    def has(self, network: Positions) -> bool:
        """Whether a network, in canonical form, was evaluated in this search."""
        return network in self._asked

    def canonical(self, positions: Positions) -> Positions:
        """Return the canonical positions of a network, equal for all positions that describe it."""
        return tuple(self.encoding.canonical([positions])[0].tolist())

    def _evaluate(self, network: Positions) -> EvaluatedNetwork:
        (top1,) = self.evaluator.top1([network])
        record = EvaluatedNetwork(
            step=len(self._known) + 1,
            seconds=round(time.perf_counter() - self._started, 3),
            positions=network,
            top1=top1,
            best=max([top1, *(each.top1 for each in self._known.values())]),
            costs={name: cost.of(network) for name, cost in self.costs.items()},
        )
        self.folder.log(record.model_dump(mode="json"))
        return record
