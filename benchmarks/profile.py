"""How long each operator of a model takes, as the tracer of a runtime tells it."""

from typing import Annotated, Literal

from pydantic import Field

from fbnet_zoo.benchmarks.measure import Count, DeviceInfo, Milliseconds
from fbnet_zoo.spec import Record


class OperatorTime(Record):
    """One operator of a model.

    Attributes:
        name: in the file or of the tracer; of a module of the network where it can be told.
        kind: what it computes, as the runtime calls it.
        samples_ms: one value per run.
        median_ms: of them.
        delegated: whether a backend ran it; one that did not is slow.
    """

    name: str
    kind: str
    samples_ms: tuple[Milliseconds, ...]
    median_ms: Milliseconds
    delegated: bool = True


class Profile(Record):
    """What a tracer saw of one model on one device.

    Attributes:
        runtime: name and version.
        runs: how many were traced.
        total_ms: median of the whole inference.
        load_ms: loading the model, once.
        operators: in the order in which they run.
        undelegated_share: of the time of all operators, 0 to 1.
    """

    format: Literal[1] = 1
    model: str
    file: str
    runtime: str
    device: DeviceInfo | None = None
    threads: Count | None = None
    runs: Count
    total_ms: Milliseconds
    load_ms: Milliseconds | None = None
    operators: tuple[OperatorTime, ...]
    undelegated_share: Annotated[float, Field(ge=0, le=1)]
