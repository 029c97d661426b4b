"""The process that measures a saved `torch.export` program in PyTorch on this machine; see `child`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnet_zoo.benchmarks.runtimes.child import HostRun, RuntimeAdapter, Tensor, serve

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Torch(RuntimeAdapter):
    """PyTorch in eager mode, without compilation."""

    def start(self, run: HostRun) -> dict[str, str]:
        import torch

        self._torch: Any = torch
        torch.set_num_threads(run.threads)
        torch.set_num_interop_threads(1)
        return {"torch": torch.__version__}

    def load(self, path: Path) -> None:
        self._program = self._torch.export.load(path)
        self._module = self._program.module(check_guards=False)

    def inputs(self) -> Sequence[Tensor]:
        names = set(self._program.graph_signature.user_inputs)
        values = [node.meta["val"] for node in self._program.graph.nodes if node.name in names]
        return [
            Tensor(
                tuple(size if isinstance(size, int) else None for size in value.shape),
                str(value.dtype).removeprefix("torch."),
            )
            for value in values
        ]

    def bind(self, inputs: "Sequence[NDArray[Any]]") -> Callable[[], object]:
        tensors, module = [self._torch.from_numpy(array) for array in inputs], self._module
        guard = self._torch.inference_mode

        def run() -> None:
            with guard():
                module(*tensors)

        return run


if __name__ == "__main__":
    serve(Torch())
