"""TensorBoard files of a search: the content of `metrics.jsonl`, to watch while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fbnet_zoo._require import require
from fbnet_zoo.search.history import HistoryRecord

FOLDER = "tensorboard"


@contextmanager
def opened(folder: Path, decisions: Sequence[str], *, first: int = 0) -> Iterator[Callable[[HistoryRecord], None]]:
    """Yield a function that writes a history record to a folder, for `tensorboard --logdir`.

    Args:
        folder: folder of the files.
        decisions: names of the decisions, for their entropy curves.
        first: number of the last record before a resume; later records already written are hidden.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    writer = require("torch.utils.tensorboard", extra="train").SummaryWriter(folder, purge_step=first + 1)

    def note(record: HistoryRecord) -> None:
        for name, value in record.scalars(decisions):
            writer.add_scalar(name, value, record.number)
        writer.flush()

    try:
        yield note
    finally:
        writer.close()
