"""Latency of the files of a bundle that a device can run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.measure import Device, Measurement, ModelFile
from fbnet_zoo.benchmarks.profile import Profile
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.deploy.platforms import Platform, of_target
from fbnet_zoo.errors import InputError

Files = Mapping[Path, Manifest]


def model_file(path: Path, manifest: Manifest) -> ModelFile:
    """Return a converted file in the form that devices accept."""
    return ModelFile(
        path=path,
        name=manifest.model,
        target=manifest.target,
        precision=manifest.precision,
        backend=manifest.facts.get("backend"),
    )


def can_run(device: Device, platform: Platform) -> bool:
    """Return whether a device can run the file of a platform."""
    return device.info().kind in platform.devices


def check(platforms: Sequence[Platform], device: Device) -> None:
    """Check that a device can run at least one of the files.

    Raises:
        InputError: it cannot run any.
        DeviceError: it cannot be reached.
    """
    if not any(can_run(device, platform) for platform in platforms):
        runs = {name for platform in platforms for name in platform.devices}
        wanted = " and ".join(platform.name for platform in platforms)
        raise InputError(
            f"the device {device.info().kind} runs no file for {wanted}; expected {' or '.join(sorted(runs))}"
        )


def measure(device: Device, files: Files) -> Iterator[Measurement]:
    """Measure the latency of every file that a device can run, on one thread.

    Raises:
        DeviceError: the device or its runtime failed.
    """
    for path, manifest in files.items():
        if can_run(device, of_target(manifest.target)):
            yield device.run(model_file(path, manifest))


def profile(device: Device, files: Files) -> list[Profile]:
    """Measure the operators of the ONNX file on this machine; other runtimes and devices are not supported.

    Raises:
        DeviceError: the runtime failed.
    """
    if not isinstance(device, HostDevice):
        return []
    onnx = [(path, manifest) for path, manifest in files.items() if manifest.target == "onnx"]
    return [device.profile_operators(model_file(path, manifest)) for path, manifest in onnx]
