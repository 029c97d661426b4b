"""Passes over the MIL program of a network while coremltools converts it: compression, image input, classifier outputs.

These are not in the exported graph, which all targets share.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from fbnet_zoo._require import require

PROBABILITIES = "probabilities"
"""Name of the output that `add_probabilities` adds."""

_NAMESPACE = "fbnet_zoo"


def pipeline(*, compress: Callable[[Any], None] | None, std: Sequence[float] | None, probabilities: bool) -> Any:
    """Return coremltools' passes followed by the requested passes of this module.

    Args:
        compress: function that compresses the finished program of the network.
        std: divisor of the input, one value per channel. Core ML itself scales an image by one factor and subtracts a
            mean per channel, before this.
        probabilities: also output the softmax of the logits.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    passes = require("coremltools", extra="coreml").PassPipeline()
    _register()
    # Ours come last, when an fp16 program has its casts at both ends, so that they compute in float32.
    if compress is not None:
        passes.append_pass(f"{_NAMESPACE}::compress")
        passes.set_options(f"{_NAMESPACE}::compress", {"function": compress})
    if std is not None:
        passes.append_pass(f"{_NAMESPACE}::divide_by_std")
        passes.set_options(f"{_NAMESPACE}::divide_by_std", {"std": tuple(std)})
    if probabilities:
        passes.append_pass(f"{_NAMESPACE}::add_probabilities")
    return passes


@cache
def _register() -> None:
    base: Any = require("coremltools.converters.mil.mil.passes.graph_pass", extra="coreml").AbstractGraphPass
    register = require("coremltools.converters.mil.mil.passes.pass_registry", extra="coreml").register_pass

    class Compress(base):  # type: ignore[misc]  # coremltools is not annotated
        function: Callable[[Any], None] | None = None

        def apply(self, program: Any) -> None:
            if self.function is not None:
                self.function(program)

    class DivideByStd(base):  # type: ignore[misc]
        std: tuple[float, ...] = ()

        def apply(self, program: Any) -> None:
            _divide_by_std(program.functions["main"], self.std)

    class AddProbabilities(base):  # type: ignore[misc]
        def apply(self, program: Any) -> None:
            _add_probabilities(program.functions["main"])

    register(namespace=_NAMESPACE, name="compress")(Compress)
    register(namespace=_NAMESPACE, name="divide_by_std")(DivideByStd)
    register(namespace=_NAMESPACE, name="add_probabilities")(AddProbabilities)


def _divide_by_std(main: Any, std: Sequence[float]) -> None:
    builder = require("coremltools.converters.mil", extra="coreml").Builder
    (image,) = main.inputs.values()
    factor = 1 / np.array(std, np.float32).reshape(1, -1, 1, 1)
    with main, builder.set_before_op(main.operations[0]), builder.scope(*origin()):
        scaled = builder.mul(x=image, y=factor)
    main.replace_uses_of_var_after_op(anchor_op=scaled.op, old_var=image, new_var=scaled)


def _add_probabilities(main: Any) -> None:
    builder = require("coremltools.converters.mil", extra="coreml").Builder
    (logits,) = main.outputs
    with main, builder.scope(*origin()):
        main.set_outputs([logits, builder.softmax(x=logits, axis=1, name=PROBABILITIES)])
    # The writer of classifiers counts the requested outputs, and accepts no others besides the label.
    main.set_output_types(None)


def origin() -> list[Any]:
    """Return the origin of an operation, which coremltools requires for programs from PyTorch."""
    scope = require("coremltools.converters.mil.mil.scope", extra="coreml")
    sources = (scope.ScopeSource.EXIR_STACK_TRACE, scope.ScopeSource.EXIR_DEBUG_HANDLE)
    return [scope.ScopeInfo(source=source, data=[None]) for source in sources]
