"""The process that measures an ONNX file in onnxruntime on this machine's CPU; see `child`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks.runtimes.child import HostRun, RuntimeAdapter, Tensor, serve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ERRORS = 3
_TYPES = {"float": "float32", "double": "float64"}


class OnnxRuntime(RuntimeAdapter):
    """onnxruntime with its CPU provider."""

    def start(self, run: HostRun) -> dict[str, str]:
        self._library = require("onnxruntime", extra="onnx")
        self._options = self._library.SessionOptions()
        self._options.log_severity_level = _ERRORS
        self._options.intra_op_num_threads = run.threads
        self._options.inter_op_num_threads = 1
        if run.trace:
            self._options.enable_profiling = True
            self._options.profile_file_prefix = run.trace
        return {"onnxruntime": self._library.__version__}

    def load(self, path: Path) -> None:
        providers = ["CPUExecutionProvider"]
        self._session = self._library.InferenceSession(path, self._options, providers=providers)

    def inputs(self) -> Sequence[Tensor]:
        return [
            Tensor(tuple(size if isinstance(size, int) else None for size in each.shape), _dtype(each.type))
            for each in self._session.get_inputs()
        ]

    def bind(self, inputs: "Sequence[NDArray[Any]]") -> Callable[[], object]:
        names = [each.name for each in self._session.get_inputs()]
        feeds, run = dict(zip(names, inputs, strict=True)), self._session.run
        return lambda: run(None, feeds)

    def finish(self, trace: Path) -> None:
        Path(self._session.end_profiling()).replace(trace)


def _dtype(type_: str) -> str:
    """Return numpy's name of a type, such as `float32` for `tensor(float)`."""
    name = type_.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(name, name)


if __name__ == "__main__":
    serve(OnnxRuntime())
