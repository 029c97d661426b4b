"""The processes that search together; what starts them, and tells them of each other, is Hugging Face's accelerate.

Every process holds the whole supernet and takes its own rows of every batch. There is no wrapper around the network:
theta is no input of a layer, weights are frozen in every other step, and of drawn candidates only some have gradients.
So gradients are averaged after they are complete, those that are there, which are the same ones everywhere.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor

from fbnet_zoo._require import require
from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.train.batches import Shard

Precision = Literal["no", "fp16", "bf16"]
"""Mixed precision: what the network computes in, where that is not what its weights are stored in."""

Item = TypeVar("Item")
Made = TypeVar("Made")

_TYPES = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes that compute one thing together, as one of them sees them; `Processes()` is one alone on a CPU.

    What has to do with others is called by all of them, in the same order. They are of one kind: each updates its own
    copy of the weights, and the copies stay equal to the bit only where devices round alike.

    Attributes:
        device: where this one computes.
        precision: mixed precision.
        rank: of this one, from 0.
        count: how many there are.

    >>> alone = Processes()
    >>> alone.is_main, alone.total(2.5), alone.on_main(lambda: "done")
    (True, 2.5, 'done')
    """

    device: str = "cpu"
    precision: Precision = "no"
    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls, device: str | None = None, precision: Precision | None = None) -> Self:
        """Join the processes that `accelerate launch` or `torchrun` started; without them, be one alone.

        Args:
            device: such as `cpu` or `cuda`; what the launcher was told when not said, else the fastest that is there.
            precision: likewise, else `no`.

        Raises:
            InputError: this machine has no such device, or the launcher was told a precision that is none of ours.
            MissingExtraError: accelerate is not installed.
        """
        utils = _utils()
        told = precision or utils.parse_choice_from_env("ACCELERATE_MIXED_PRECISION", "no")
        if told not in get_args(Precision):
            raise InputError(f"the precision is {told!r}; expected {', '.join(get_args(Precision))}")
        there = torch.accelerator.is_available() and not utils.parse_flag_from_env("ACCELERATE_USE_CPU")
        state = require("accelerate", extra="train").PartialState(cpu=device == "cpu" or not there)
        _require_joined(state.num_processes)
        alone = state.num_processes == 1
        found = (state.default_device if there else torch.device("cpu")) if alone else state.device
        place = _device(device, found, alone=alone)
        return cls(device=place, precision=told, rank=state.process_index, count=state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that reads and writes files, and talks."""
        return self.rank == 0

    @property
    def kind(self) -> str:
        """The type of the device, such as `cuda`."""
        return torch.device(self.device).type

    @property
    def shard(self) -> Shard:
        """What this process takes of every batch."""
        return Shard(rank=self.rank, count=self.count)

    def autocast(self) -> torch.autocast:
        """Compute in mixed precision inside, where that was asked for."""
        return torch.autocast(self.kind, _TYPES[self.precision], enabled=self.precision != "no")

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps small gradients from vanishing in fp16, and does nothing otherwise."""
        return torch.amp.GradScaler(self.kind, enabled=self.precision == "fp16")

    def total(self, value: float) -> float:
        """Return the sum of everyone's value; no number where any is none."""
        if self.count == 1:
            return value
        return float(_utils().reduce(torch.tensor(value, device=self.device), "sum"))

    def mean(self, value: float) -> float:
        """Return the mean of everyone's value."""
        return self.total(value) / self.count

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, to the bit the same everywhere."""
        if self.count > 1:
            _exchange(tensors, lambda flat: _utils().reduce(flat, "mean"))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the main process."""
        if self.count > 1:
            _exchange(tensors, _utils().broadcast)

    def on_main(self, make: Callable[[], Made]) -> Made:
        """Return to all what the main process makes; an error of ours is raised by all.

        The others wait. What is made must bear to be pickled.
        """
        if self.count == 1:
            return make()
        made: list[Any] = [None, None]
        if self.is_main:
            try:
                made[0] = make()
            except FbnetZooError as error:
                made[1] = error
        result, raised = _utils().broadcast_object_list(made)
        if raised is not None:
            raise raised
        return result

    def gathered(self, own: Made) -> list[Made]:
        """Return what each process gave, in the order of their ranks."""
        return [own] if self.count == 1 else _utils().gather_object([own])

    def spread(self, items: Sequence[Item], make: Callable[[Item], Made]) -> list[Made]:
        """Make something of each item, each in one of the processes; return all of them to all, in order."""
        parts = self.gathered([make(item) for item in items[self.rank :: self.count]])
        return [parts[index % self.count][index // self.count] for index in range(len(items))]

    def leave(self) -> None:
        """Part from the others at the end of the program, as PyTorch wants it."""
        if self.count > 1:
            require("accelerate", extra="train").PartialState().destroy_process_group()


def _utils() -> Any:
    return require("accelerate.utils", extra="train")


def _require_joined(count: int) -> None:
    """Refuse to be one of several that do not know of each other: they would write over each other's files."""
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != count:
        raise InputError(
            f"{wanted} processes were launched, but accelerate joined {count} of them on this device; "
            "give the device cpu, or launch one process"
        )


def _device(asked: str | None, found: torch.device, *, alone: bool) -> str:
    if found.type == "cpu":
        found = torch.device("cpu")  # accelerate counts CPUs, torch does not
    try:
        wanted = found if asked is None else torch.device(asked)
    except RuntimeError as error:
        raise InputError(f"there is no device {asked!r}; expected one such as cpu, cuda or cuda:1") from error
    if wanted.type != found.type:
        raise InputError(f"{asked} is not to be had here; accelerate found {found}: say that, or nothing")
    if not alone and wanted.index not in {None, found.index}:
        raise InputError(f"of several processes each has its own {found.type}, not {asked}; say {found.type}")
    return str(wanted if alone else found)


@torch.no_grad()
def _exchange(tensors: Iterable[Tensor], operation: Callable[[Tensor], Tensor]) -> None:
    """Replace tensors by what an operation makes of them, all of one type at once."""
    for _, group in groupby(sorted(tensors, key=lambda each: str(each.dtype)), key=lambda each: each.dtype):
        same = list(group)
        flat = operation(torch.cat([tensor.reshape(-1) for tensor in same]))
        for tensor, values in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(values.view(tensor.shape))
