"""A search in TensorBoard's files: what `metrics.jsonl` says, to be looked at while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fbnet_zoo._require import require
from fbnet_zoo.search.health import SearchEpoch

FOLDER = "tensorboard"


@contextmanager
def opened(folder: Path, decisions: Sequence[str], *, first: int = 0) -> Iterator[Callable[[SearchEpoch], None]]:
    """Yield what writes the record of an epoch to a folder, for `tensorboard --logdir`.

    Args:
        folder: of the files.
        decisions: their names, for the curves of their entropies.
        first: the last epoch that a search is gone on from; what was written later is hidden.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    writer = require("torch.utils.tensorboard", extra="train").SummaryWriter(folder, purge_step=first + 1)

    def note(epoch: SearchEpoch) -> None:
        for name, value in _scalars(epoch, decisions):
            writer.add_scalar(name, value, epoch.epoch)
        writer.flush()

    try:
        yield note
    finally:
        writer.close()


def _scalars(epoch: SearchEpoch, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
    yield "loss/weights", epoch.weight_loss
    yield "temperature", epoch.temperature
    if epoch.theta_loss is not None and epoch.top1 is not None:
        yield "loss/theta", epoch.theta_loss
        yield "top1", epoch.top1
    for kind, costs in (("expected", epoch.expected), ("sampled", epoch.sampled)):
        yield from ((f"{name}/{kind}", value) for name, value in costs.items())
    yield from ((f"multiplier/{position}", value) for position, value in enumerate(epoch.multipliers))
    yield from ((f"entropy/{name}", value) for name, value in zip(decisions, epoch.entropy, strict=True))
