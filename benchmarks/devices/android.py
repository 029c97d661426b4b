"""Android devices, measured with ExecuTorch's `executor_runner` over adb."""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Self

import numpy as np

from fbnet_zoo import programs
from fbnet_zoo.benchmarks.context import measurement
from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android_process import (
    FOLDER,
    RUNNER,
    STOP,
    TRACE,
    AndroidRun,
    RunTimes,
    elf_abi,
    execute,
    find_runner,
    peak_memory_mb,
    time_runs,
)
from fbnet_zoo.benchmarks.devices.android_state import INFO_COMMAND, STATE_COMMAND, fast_cores, parse_info, parse_state
from fbnet_zoo.benchmarks.devices.battery import BatteryMeter
from fbnet_zoo.benchmarks.measure import (
    RUNS,
    WARMUP,
    Device,
    DeviceState,
    Inputs,
    Measurement,
    ModelFile,
    check_counts,
)
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import (
    DeviceError,
    DeviceLostError,
    DeviceTimeoutError,
    DeviceUnavailableError,
    InputError,
    RunnerError,
    RunnerUnusableError,
)
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.device import DeviceInfo

log = logging.getLogger(__name__)

_LOOK_MS, _MOST_LOOKS = 500, 500
"""Target duration and maximum number of runs of the process that is sampled for peak memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Temperature and time limits of measurements.

    Attributes:
        warmest_celsius: highest battery temperature at which a measurement starts.
        cooldown_s: time limit of waiting for it, seconds.
        poll_s: interval between temperature readings, seconds.
        run_s: time limit of one process, seconds.
        metered_s: duration of the pause and of the runs whose energy is measured, seconds.
        meter_poll_s: interval between readings of the battery's current, seconds.
    """

    warmest_celsius: float = 37.0
    cooldown_s: float = 900
    poll_s: float = 10
    run_s: float = 600
    metered_s: float = 10
    meter_poll_s: float = 0.1


class AndroidDevice(Device):
    """An Android device. All files are removed from it, even after a failure.

    Args:
        link: connection to the device.
        runner: ExecuTorch's `executor_runner`, built for the device (default: `FBNET_ZOO_RUNNER`).
        limits: temperature and time limits (default: 37 °C, 900 s to cool down, 600 s per process).

    Raises:
        InputError: no runner is given, or it does not exist.
    """

    def __init__(self, link: Link, *, runner: Path | None = None, limits: Limits | None = None) -> None:
        self._link, self._limits = link, limits or Limits()
        self._runner = find_runner(runner)
        self._info: DeviceInfo | None = None
        self._sent: set[str] = set()
        self._prepared = self._touched = self._lost = False

    @classmethod
    def find(cls, serial: str | None = None, *, runner: Path | None = None, limits: Limits | None = None) -> Self:
        """Return the device with a serial number (default: the only connected device).

        Raises:
            DeviceUnavailableError: no device or several are connected, or the device is not ready.
            InputError: no runner is given, or it does not exist.
        """
        server = Server()
        return cls(Link(server, server.pick(serial)), runner=runner, limits=limits)

    def info(self) -> DeviceInfo:
        if self._info is None:
            self._link.check()
            self._info = parse_info(self._link.shell(f"{{ {INFO_COMMAND}; }} 2>/dev/null").text, self._link.serial)
        return self._info

    def push(self, model: ModelFile) -> None:
        with self._tidy():
            self._send(_content(model), model.path.suffix)

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        check_counts(runs=runs, warmup=warmup, threads=threads)
        with self._tidy():
            job = self._job(model, inputs, threads)
            before = self._cool_down()
            job = replace(job, mask=self._mask(before, threads))
            timing = time_runs(self._link, job, runs=runs, warmup=warmup, timeout_s=self._limits.run_s)
            after = self._state()
            peak_mb = self._peak_mb(job, timing)
        if timing.traced:
            log.warning("%s: the runner has a tracer, which slows down every operator", self._link.serial)
        return measurement(
            model,
            before,
            after,
            runtime="executor_runner with tracer" if timing.traced else "executor_runner",
            device=self.info(),
            threads=threads,
            affinity=job.mask,
            warmup=warmup,
            warmup_ms=timing.warmup_ms,
            samples_ms=timing.samples_ms,
            runs_per_sample=timing.runs_per_sample,
            load_ms=timing.load_ms,
            first_ms=timing.first_ms,
            peak_rss_mb=peak_mb,
            versions={
                "adb": self._link.server.version(),
                "executor_runner": f"sha256:{FileRecord.of(self._runner).sha256[:16]}",
            },
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        check_counts(runs=runs, threads=threads)
        with self._tidy():
            job = replace(self._job(model, inputs, threads), trace=TRACE)
            if execute(self._link, job, executions=runs, timeout_s=self._limits.run_s).trace is None:
                raise RunnerUnusableError(
                    f"{self._link.serial}: the runner has no tracer; build it with -DEXECUTORCH_ENABLE_EVENT_TRACER=ON"
                )
            self._link.pull(TRACE, out)

    def energy_meter(self) -> BatteryMeter:
        limits = self._limits
        return BatteryMeter(
            self._link,
            self._prepared_job,
            seconds=limits.metered_s,
            poll_s=limits.meter_poll_s,
            timeout_s=limits.run_s,
        )

    @contextmanager
    def _prepared_job(self, model: ModelFile, inputs: Inputs, threads: int) -> Iterator[AndroidRun]:
        """Yield the run of a model on a cool device, with its cores."""
        with self._tidy():
            job = self._job(model, inputs, threads)
            yield replace(job, mask=self._mask(self._cool_down(), threads))

    def cleanup(self) -> None:
        """Remove our files, and stop the runner; if the device was lost, do so if it is connected again."""
        self._sent.clear()
        self._prepared = False
        if self._touched and not (self._lost and not self._link.is_ready()):
            self._link.shell(f"{STOP}; rm -rf {FOLDER}")
            self._touched = self._lost = False

    @contextmanager
    def _tidy(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # including KeyboardInterrupt
            self._lost = isinstance(error, DeviceLostError | DeviceUnavailableError)
            self._clean_after(error)
            raise

    def _clean_after(self, error: BaseException) -> None:
        try:
            self.cleanup()
        except DeviceError as failure:
            if not self._lost:
                error.add_note(f"cleanup failed too: {failure}")
            self._lost = True
        if self._touched and self._lost:
            error.add_note(f"{FOLDER} is still on the device; the next measurement there removes it")

    def _prepare(self) -> None:
        if self._prepared:
            return
        abis, built_for = self.info().abis, elf_abi(self._runner)
        if built_for and abis and built_for not in abis:
            raise RunnerUnusableError(
                f"{self._link.serial}: {self._runner} is built for {built_for}, the device supports "
                f"{' and '.join(abis)}: build it with -DANDROID_ABI={abis[0]}"
            )
        self._touched = True
        self._link.shell(f"{STOP}; rm -rf {FOLDER}")
        self._link.push(self._runner, RUNNER)
        self._link.shell(f"chmod 755 {RUNNER}")
        self._prepared, self._lost = True, False

    def _job(self, model: ModelFile, inputs: Inputs, threads: int) -> AndroidRun:
        remote = self._send(_content(model), model.path.suffix)
        files = [self._send(np.ascontiguousarray(tensor).tobytes(), ".bin") for tensor in inputs]
        return AndroidRun(name=model.name, model=remote, inputs=files, threads=threads)

    def _send(self, content: bytes, suffix: str) -> str:
        """Copy content to the device, unless it is there, under a name derived from its digest; return the path."""
        self._prepare()
        remote = f"{FOLDER}/{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
        if remote not in self._sent:
            with temporary() as folder:
                local = folder / Path(remote).name
                local.write_bytes(content)
                self._link.push(local, remote)
            self._sent.add(remote)
        return remote

    def _state(self) -> DeviceState:
        return parse_state(self._link.shell(f"{{ {STATE_COMMAND}; }} 2>/dev/null").text)

    def _cool_down(self) -> DeviceState:
        limits, deadline = self._limits, time.monotonic() + self._limits.cooldown_s
        while (warmth := (state := self._state()).battery_celsius) is not None and warmth > limits.warmest_celsius:
            if time.monotonic() > deadline:
                raise DeviceTimeoutError(
                    f"{self._link.serial}: the battery is still at {warmth:g} C after {limits.cooldown_s:g} s, above "
                    f"the limit of {limits.warmest_celsius:g} C: let it cool, unplug the charger or raise the limit"
                )
            log.info("%s: cooling down, %g C", self._link.serial, warmth)
            programs.pause(limits.poll_s)
        return state

    def _mask(self, state: DeviceState, threads: int) -> str | None:
        mask = fast_cores(state.policies, threads)
        if mask is None or self._link.shell(f"taskset {mask} true").exit_code == 0:
            return mask
        log.warning("%s: taskset does not work; the system chooses the cores", self._link.serial)
        return None

    def _peak_mb(self, job: AndroidRun, timing: RunTimes) -> float | None:
        executions = min(_MOST_LOOKS, ceil(_LOOK_MS / max(timing.samples_ms[0], 1e-3)))
        try:
            peak_mb = peak_memory_mb(self._link, job, executions=executions, timeout_s=self._limits.run_s)
        except RunnerError as error:  # the times are still valid
            log.warning("%s", error)
            return None
        if peak_mb is None:
            log.warning("%s: %s exited before its memory was read", self._link.serial, job.name)
        return peak_mb


def _content(model: ModelFile) -> bytes:
    try:
        return model.path.read_bytes()
    except OSError as error:
        raise InputError(f"{model.path}: the model cannot be read: {error.strerror}") from error
