"""Processes that run one search together, started and connected by Hugging Face's accelerate.

Every process holds the whole supernet and takes its own rows of every batch. The network is not wrapped: theta is not
an input of a layer, and weights are frozen in theta's steps. Instead, existing gradients, which are the same ones in
all processes, are averaged once they are complete.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor

from fbnet_zoo._require import require
from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.train.batches import Shard

Precision = Literal["no", "fp16", "bf16"]
"""Mixed precision: type in which the network computes, if other than that of its weights."""

Item = TypeVar("Item")
Made = TypeVar("Made")

_WAITING = timedelta(days=1)
"""How long processes wait for each other: the main one compares, measures and converts alone, longer than the usual 10
or 30 minutes. Launchers end the others if one dies."""

_TYPES = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """A group of cooperating processes, as seen by one of them; `Processes()` is a single one on a CPU.

    All processes must call the communicating methods in the same order. Their devices must be of the same kind: each
    updates its own copy of the weights, and copies stay bit-identical only if devices round alike.

    Attributes:
        device: device of this process.
        precision: mixed precision.
        rank: rank of this process, from 0.
        count: number of processes.

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
        """Join the processes started by `accelerate launch` or `torchrun`, if any; return the group.

        Args:
            device: device such as `cpu` or `cuda` (default: the launcher's, else the fastest available).
            precision: mixed precision (default: the launcher's, else `no`).

        Raises:
            InputError: the device is not available, or the launcher's precision is not supported.
            MissingExtraError: accelerate is not installed.
        """
        utils = _utils()
        mixed = precision or utils.parse_choice_from_env("ACCELERATE_MIXED_PRECISION", "no")
        if mixed not in get_args(Precision):
            raise InputError(f"the precision cannot be {mixed!r}; expected {', '.join(get_args(Precision))}")
        available = torch.accelerator.is_available() and not utils.parse_flag_from_env("ACCELERATE_USE_CPU")
        accelerate = require("accelerate", extra="train")
        state = accelerate.PartialState(cpu=device == "cpu" or not available, timeout=_WAITING)
        _require_joined(state.num_processes)
        alone = state.num_processes == 1
        found = (state.default_device if available else torch.device("cpu")) if alone else state.device
        place = _device(device, found, alone=alone)
        return cls(device=place, precision=mixed, rank=state.process_index, count=state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reads and writes files and reports progress."""
        return self.rank == 0

    @property
    def kind(self) -> str:
        """The type of the device, such as `cuda`."""
        return torch.device(self.device).type

    @property
    def shard(self) -> Shard:
        """The share of every batch that this process takes."""
        return Shard(rank=self.rank, count=self.count)

    def autocast(self) -> torch.autocast:
        """Return a context that computes in mixed precision, if requested."""
        return torch.autocast(self.kind, _TYPES[self.precision], enabled=self.precision != "no")

    def scaler(self) -> torch.amp.GradScaler:
        """Return a scaler that keeps small gradients from vanishing in fp16, and is disabled otherwise."""
        return torch.amp.GradScaler(self.kind, enabled=self.precision == "fp16")

    def total(self, value: float) -> float:
        """Return the sum of the values of all processes; NaN if any is NaN."""
        if self.count == 1:
            return value
        return float(_utils().reduce(torch.tensor(value, device=self.device), "sum"))

    def mean(self, value: float) -> float:
        """Return the mean of the values of all processes."""
        return self.total(value) / self.count

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors with their means over the processes, bit-identical in all of them."""
        if self.count > 1:
            _exchange(tensors, lambda flat: _utils().reduce(flat, "mean"))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors with those of the main process."""
        if self.count > 1:
            _exchange(tensors, _utils().broadcast)

    def on_main(self, make: Callable[[], Made]) -> Made:
        """Return the result of a call in the main process to all processes; a `FbnetZooError` is raised in all.

        The other processes wait. The result must be picklable.
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
        """Return the values of all processes, in the order of their ranks."""
        return [own] if self.count == 1 else _utils().gather_object([own])

    def spread(self, items: Sequence[Item], make: Callable[[Item], Made]) -> list[Made]:
        """Return `make` of each item, in order, to all processes; each item is handled by one process."""
        parts = self.gathered([make(item) for item in items[self.rank :: self.count]])
        return [parts[index % self.count][index // self.count] for index in range(len(items))]

    def leave(self) -> None:
        """Leave the group at the end of the program, as required by PyTorch."""
        if self.count > 1:
            require("accelerate", extra="train").PartialState().destroy_process_group()


def _utils() -> Any:
    return require("accelerate.utils", extra="train")


def _require_joined(count: int) -> None:
    """Refuse several processes that are not connected: they would overwrite each other's files."""
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != count:
        raise InputError(
            f"{wanted} processes were launched, but accelerate joined {count} of them on this device; "
            "use the device cpu, or launch one process"
        )


def _device(asked: str | None, found: torch.device, *, alone: bool) -> str:
    if found.type == "cpu":
        found = torch.device("cpu")  # accelerate counts CPUs, torch does not
    try:
        wanted = found if asked is None else torch.device(asked)
    except RuntimeError as error:
        raise InputError(f"there is no device {asked!r}; expected one such as cpu, cuda or cuda:1") from error
    if wanted.type != found.type:
        raise InputError(f"{asked} is not available; accelerate found {found}: use that, or omit the device")
    if not alone and wanted.index not in {None, found.index}:
        raise InputError(f"each of several processes has its own {found.type}, not {asked}; use {found.type}")
    return str(wanted if alone else found)


@torch.no_grad()
def _exchange(tensors: Iterable[Tensor], operation: Callable[[Tensor], Tensor]) -> None:
    """Replace tensors with the result of an operation, all tensors of one type at once."""
    for _, group in groupby(sorted(tensors, key=lambda each: str(each.dtype)), key=lambda each: each.dtype):
        same = list(group)
        flat = operation(torch.cat([tensor.reshape(-1) for tensor in same]))
        for tensor, values in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(values.view(tensor.shape))
