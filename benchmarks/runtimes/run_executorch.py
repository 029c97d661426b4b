"""The process that measures an ExecuTorch file on this machine; see `child`.

It uses the compiled library below `executorch.runtime`: that module imports the whole exporter, 150 MB that no
application loads, and adds 0.02 ms to each run.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnet_zoo._private import executorch_runtime, load_program, set_threads
from fbnet_zoo.benchmarks.runtimes.child import HostRun, RuntimeAdapter, Tensor, serve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METHOD = "forward"
_DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64"}
"""Data types by number, which ExecuTorch shares with PyTorch's `ScalarType`."""


class ExecuTorch(RuntimeAdapter):
    """The runtime in ExecuTorch's Python package."""

    def start(self, run: HostRun) -> dict[str, str]:
        import torch  # before the library, which links to it

        self._torch = torch
        self._library = executorch_runtime()
        set_threads(self._library, run.threads)
        return {"executorch": version("executorch"), "torch": torch.__version__}

    def load(self, path: Path) -> None:
        self._program = load_program(self._library, str(path))
        self._method = self._program.load_method(_METHOD)

    def inputs(self) -> Sequence[Tensor]:
        meta = self._method.method_meta()
        tensors = [meta.input_tensor_meta(position) for position in range(meta.num_inputs())]
        return [Tensor(tuple(tensor.sizes()), _DTYPES[tensor.dtype()]) for tensor in tensors]

    def bind(self, inputs: "Sequence[NDArray[Any]]") -> Callable[[], object]:
        tensors, call = [self._torch.from_numpy(array) for array in inputs], self._method
        return lambda: call(tensors)


if __name__ == "__main__":
    serve(ExecuTorch())
