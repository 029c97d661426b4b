"""Peak memory of the tensors of a computation: exact, and the same on every machine."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from fbnet_zoo._private import TorchDispatchMode, tree_leaves


def peak_bytes(run: Callable[[], object], *, known: Iterable[Tensor] = ()) -> int:
    """Return the peak memory of all tensors while a function runs, bytes.

    Buffers internal to an operator are not counted.

    Args:
        run: function that computes in this thread; on a CPU, including backward passes.
        known: existing tensors that do not count, such as the parameters of a network.

    >>> import torch
    >>> peak_bytes(lambda: torch.zeros(100).add(1).mul(2))  # two tensors of 400 bytes at a time
    800
    """
    mode = _Live(known)
    with mode:
        run()
    return mode.peak


class _Live(TorchDispatchMode):
    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = [tensor.untyped_storage() for tensor in known]
        self.seen = {storage.data_ptr(): 0 for storage in self.kept}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.see(value)
        return result

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address and address not in self.seen:
            self.seen[address] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, address)

    def forget(self, address: int) -> None:
        self.live -= self.seen.pop(address)
