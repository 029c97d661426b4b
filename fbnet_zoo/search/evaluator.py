"""The interface of evaluators, which return the accuracy of networks, and the evaluations of a run.

Those of the library are a short training of each network (`short_training`), the weights of a trained supernet
(`gradient.evaluator`), and a table of known accuracies (`oracle`); a job may bring its own.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.history import EvaluatedNetwork, PredictedTop1
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.space.encoding import Encoding, Population, Positions

if TYPE_CHECKING:
    from fbnet_zoo.train import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a network, where that is more than its accuracy.

    Attributes:
        top1: accuracy, percent; `None` if the evaluation failed.
        epochs: number of epochs after which its training was stopped early; `None` if it was not.
        failed: reason of a failure.
    """

    top1: float | None = None
    epochs: int | None = None
    failed: str | None = None


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

    def top1(self, networks: Sequence[Positions]) -> Iterable[float | Outcome]:
        """Return the accuracy of each network, percent, in order, or what became of it; each when it is known.

        Raises:
            InputError: a network cannot be evaluated.
        """


_NOTHING: Mapping[Positions, PredictedTop1] = {}
_AGAIN = "start again in another folder"

Progress = Callable[[EvaluatedNetwork], None]


@dataclass(slots=True, kw_only=True)
class Evaluations:
    """The networks that a search has evaluated, each once, recorded in its run folder.

    A resumed search requests the same networks in the same order; results in the folder are reused. Records are in that
    order, whichever network was ready first.

    Attributes:
        encoding: encoding of the space.
        costs: costs recorded with every accuracy.
        evaluator: evaluator of networks not yet in the folder.
        folder: folder of the run.
        progress: called for every evaluated network.
        together: whether the result of a network depends on those requested with it, as with successive halving: a
            request that was interrupted is then repeated as a whole.
        done: evaluated networks so far, in order.
    """

    encoding: Encoding
    costs: Costs
    evaluator: Evaluator
    folder: "RunFolder"
    progress: Progress
    together: bool = False
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

    def top1(self, positions: Positions) -> float | None:
        """Return the accuracy of a network, percent; a network is evaluated at most once."""
        (found,) = self.top1_of([positions])
        return found

    def top1_of(
        self, networks: Sequence[Positions], predicted: Mapping[Positions, PredictedTop1] = _NOTHING
    ) -> list[float | None]:
        """Return the accuracies of several networks, percent, which may be evaluated at the same time.

        An accuracy is `None` if the evaluation failed: the network is recorded as such, and counts as evaluated. That
        of a network whose training was stopped early is the last one; its record in `done` has the epochs.

        Args:
            networks: positions of networks.
            predicted: network, in canonical form, to what was predicted of it, for its record.
        """
        asked = self._canonical(networks)
        for network, outcome in self._outcomes([each for each in dict.fromkeys(asked) if each not in self._asked]):
            if outcome is not None:
                self._known[network] = self._logged(network, outcome, predicted.get(network))
            self._asked.add(network)
            self.done.append(self._known[network])
            self.progress(self._known[network])
        return [self._known[each].top1 for each in asked]

    def _outcomes(self, networks: Sequence[Positions]) -> Iterator[tuple[Positions, float | Outcome | None]]:
        """Yield networks with what became of each; `None` for those that are in the folder."""
        missing = [each for each in networks if each not in self._known]
        judged = networks if missing and self.together else missing
        requested, found = set(judged), iter(self.evaluator.top1(judged)) if judged else iter(())
        for network in networks:
            outcome = next(found) if network in requested else None
            yield network, None if network in self._known else outcome

    def has(self, network: Positions) -> bool:
        """Whether a network, in canonical form, was evaluated in this search."""
        return network in self._asked

    def canonical(self, positions: Positions) -> Positions:
        """Return the canonical positions of a network, equal for all positions that describe it."""
        (found,) = self._canonical([positions])
        return found

    def _canonical(self, networks: Sequence[Positions]) -> list[Positions]:
        return [tuple(row) for row in self.encoding.canonical(networks).tolist()] if networks else []

    def _logged(self, network: Positions, result: float | Outcome, predicted: PredictedTop1 | None) -> EvaluatedNetwork:
        outcome = result if isinstance(result, Outcome) else Outcome(top1=result)
        whole = outcome.top1 if outcome.epochs is None else None
        known = [top1 for top1 in (whole, *(each.whole for each in self._known.values())) if top1 is not None]
        record = EvaluatedNetwork(
            step=len(self._known) + 1,
            seconds=round(time.perf_counter() - self._started, 3),
            positions=network,
            top1=outcome.top1,
            best=max(known, default=None),
            costs={name: cost.of(network) for name, cost in self.costs.items()},
            epochs=outcome.epochs,
            failed=outcome.failed,
            predicted=predicted,
        )
        self.folder.log(record.model_dump(mode="json"))
        return record
