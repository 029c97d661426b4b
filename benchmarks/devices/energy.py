"""The interface of energy meters, and what they have in common.

The idle power of a device, which other things than the model consume, is measured directly before the runs, subtracted
and recorded. A figure that is not above it, or that a device cannot know, is refused.
"""

from abc import ABC, abstractmethod

from fbnet_zoo.benchmarks.measure import Inputs, ModelFile, RunEnergy
from fbnet_zoo.errors import EnergyUnavailableError


class EnergyMeter(ABC):
    """Measures the energy of runs of models on one device."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What is read, such as `RAPL: package-0`."""

    @abstractmethod
    def measure(self, model: ModelFile, inputs: Inputs = (), *, run_ms: float, threads: int = 1) -> RunEnergy:
        """Measure the energy of a run: the mean of many in one process, which is not the one that is timed.

        Args:
            model: model to run.
            inputs: input tensors (default: chosen by the device, as for times).
            run_ms: time of a run, which determines how many are needed.
            threads: number of threads (default: 1).

        Raises:
            EnergyUnavailableError: no figure can be given; the text explains why.
            DeviceError: the device or its runtime failed.
        """


def above_idle(source: str, *, total_mj: float, idle_mw: float, runs: int, seconds: float) -> RunEnergy:
    """Return the energy of one of several runs, above that of the idle device in the same time.

    Args:
        source: what was read.
        total_mj: energy of the device during all runs.
        idle_mw: power of the idle device.
        runs: number of runs.
        seconds: duration of all runs.

    Raises:
        EnergyUnavailableError: the device consumed no more than when it was idle.

    >>> above_idle("a meter", total_mj=500.0, idle_mw=100.0, runs=10, seconds=2.0).mj
    30.0
    """
    net_mj = total_mj - idle_mw * seconds
    if net_mj <= 0:
        raise EnergyUnavailableError(
            f"{source}: {runs} runs consumed {total_mj:.4g} mJ in {seconds:.3g} s, no more than the idle device, "
            f"{idle_mw:.4g} mW; stop other programs and measure again"
        )
    return RunEnergy(mj=net_mj / runs, idle_mw=idle_mw, source=source, runs=runs, seconds=seconds)
