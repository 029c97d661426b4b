"""The phone of the tests answers only if what it is asked to run is really there."""

from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.errors import DeviceLostError, RunnerError
from tests.helpers.adb_daemon import Fault
from tests.helpers.phone import Phone, device_of

COPY = 'for option in "$@"; do case $option in --model_path=*) cp "${option#*=}" "$SANDBOX/model";; esac; done'


def sent(phone: Phone, suffix: str) -> list[Path]:
    return sorted((phone.root / "data/local/tmp").rglob(f"*{suffix}"))


def test_what_runs_is_the_file(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("meanwhile", COPY)
    device.run(model_file, runs=9, warmup=1)
    assert (phone.root / "model").read_bytes() == model_file.path.read_bytes()
    model_file.path.write_bytes(b"another network")
    device.run(model_file, runs=9, warmup=1)
    assert (phone.root / "model").read_bytes() == b"another network"


def test_a_model_that_is_not_there_is_not_measured(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.replay("x86_64/fb_10")
    with device_of(any_phone, runner) as device:
        device.push(model_file)
        (there,) = sent(any_phone, ".pte")
        there.unlink()
        with pytest.raises(RunnerError, match=r"fbnet_c: .*(No such file|model)"):
            device.run(model_file, runs=9, warmup=1)


def test_an_input_that_is_not_there_is_not_measured(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    tensor = np.zeros(3, np.float32)
    device.run(model_file, inputs=[tensor], runs=9, warmup=1)
    (there,) = sent(phone, ".bin")
    there.unlink()
    with pytest.raises(RunnerError, match=r"fbnet_c: .*input"):
        device.run(model_file, inputs=[tensor], runs=9, warmup=1)


def test_a_model_that_was_lost_on_the_way_is_not_measured(
    phone: Phone, device: AndroidDevice, model_file: ModelFile
) -> None:
    """A transfer that stores nothing and does not say so."""
    phone.replay("x86_64/fb_10")
    phone.faults.append(Fault(kind="lose", service=r"push:.*\.pte", times=5))
    with pytest.raises(DeviceLostError, match=r"\.pte did not arrive"):
        device.run(model_file, runs=9, warmup=1)
