"""Queues of several devices, with devices that only pretend."""

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.fleet import ModelRun, measure_all
from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, Inputs, Measurement, ModelFile
from fbnet_zoo.errors import DeviceError, DeviceLostError, InputError, ModelFileError
from fbnet_zoo.latency.device import DeviceInfo
from tests.helpers.measurements import PHONE, measurement

TASKS = [
    ModelRun(model=ModelFile(path=Path(name), name=name, target="executorch", precision="fp32"), threads=threads)
    for threads, name in enumerate("abcd", start=1)
]


class Pretender(Device):
    """Takes what `act` returns, or fails as `act` does."""

    def __init__(
        self,
        act: Callable[[str], None] = lambda name: None,
        *,
        clean: Callable[[], None] = lambda: None,
        name: str = "x",
    ) -> None:
        self.act, self.clean, self.name = act, clean, name
        self.ran: list[str] = []
        self.cleaned = 0

    def info(self) -> DeviceInfo:
        return PHONE.model_copy(update={"id": self.name})

    def push(self, model: ModelFile) -> None: ...

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        self.ran.append(model.name)
        self.act(model.name)
        return measurement(model=model.name, device=self.info(), threads=threads, warmup=warmup)

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None: ...

    def cleanup(self) -> None:
        self.cleaned += 1
        self.clean()


def failing(name: str, error: Exception) -> Callable[[str], None]:
    def act(model: str) -> None:
        if model == name:
            raise error

    return act


def test_every_device_does_every_task_in_order() -> None:
    devices = {"x": Pretender(), "y": Pretender()}
    kept: list[Measurement] = []
    assert measure_all(devices, TASKS, kept.append) == ()
    assert [device.ran for device in devices.values()] == [list("abcd")] * 2
    assert sorted((each.model, each.threads) for each in kept) == sorted(
        list(zip("abcd", range(1, 5), strict=True)) * 2
    )
    assert [device.cleaned for device in devices.values()] == [1, 1]


def test_a_failure_costs_one_measurement() -> None:
    error = ModelFileError("damaged")
    device = Pretender(failing("b", error))
    kept: list[Measurement] = []
    (failure,) = measure_all({"x": device}, TASKS, kept.append)
    assert (failure.device, failure.model.name, failure.error) == ("x", "b", error)
    assert [each.model for each in kept] == ["a", "c", "d"]


def test_a_lost_device_fails_all_that_is_left() -> None:
    device = Pretender(failing("b", DeviceLostError("gone")))
    failures = measure_all({"x": device}, TASKS, lambda measurement: None)
    assert [failure.model.name for failure in failures] == ["b", "c", "d"]
    assert device.ran == ["a", "b"]


def test_an_error_of_our_own_stops_every_device() -> None:
    def record(measurement: Measurement) -> None:
        if measurement.device.id == "full":
            raise InputError("the disk is full")

    devices = {"full": Pretender(name="full"), "other": Pretender(lambda name: time.sleep(0.01))}
    with pytest.raises(InputError, match="the disk is full"):
        measure_all(devices, TASKS * 500, record)
    assert devices["full"].ran == ["a"]
    assert len(devices["other"].ran) < 2000
    assert [device.cleaned for device in devices.values()] == [1, 1]


def test_devices_that_cannot_be_cleaned_up_do_not_cost_results(caplog: pytest.LogCaptureFixture) -> None:
    def clean() -> None:
        raise DeviceLostError("unplugged")

    kept: list[Measurement] = []
    with caplog.at_level(logging.WARNING):
        assert measure_all({"x": Pretender(clean=clean)}, TASKS, kept.append) == ()
    assert len(kept) == 4
    assert "x: cleanup failed: unplugged" in caplog.text


def test_no_device_is_no_work() -> None:
    assert measure_all({}, TASKS, lambda measurement: None) == ()


def test_leaving_a_device_cleans_it_and_keeps_the_first_error() -> None:
    with Pretender() as device:
        pass
    assert device.cleaned == 1

    def clean() -> None:
        raise DeviceError("no way")

    with pytest.raises(DeviceError, match="no way"), Pretender(clean=clean):
        pass
    with pytest.raises(ValueError, match="first") as caught, Pretender(clean=clean):
        raise ValueError("first")
    assert caught.value.__notes__ == ["cleanup failed too: no way"]


def test_each_may_have_tasks_of_its_own() -> None:
    devices = {"one": Pretender(name="one"), "two": Pretender(name="two")}
    measure_all(devices, {"one": TASKS[:1], "two": TASKS[1:]}, lambda _: None)
    assert (devices["one"].ran, devices["two"].ran) == (["a"], ["b", "c", "d"])


def test_threads_see_what_the_caller_has_set() -> None:
    where: ContextVar[str] = ContextVar("where")
    seen: list[str] = []
    where.set("here")
    measure_all({"one": Pretender()}, TASKS[:1], lambda _: seen.append(where.get()))
    assert seen == ["here"]
