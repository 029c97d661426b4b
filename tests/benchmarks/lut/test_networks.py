"""Whole networks, measured where a table was."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.lut.networks import device_speed, is_of, network_samples
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.operators import network_operators
from fbnet_zoo.latency.table import LatencyTable, OperatorLatency
from tests.helpers.latency_tables import table
from tests.helpers.search_spaces import nano_space


@contextlib.contextmanager
def quiet_steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    del title, total
    yield lambda _: None


@pytest.fixture(scope="module")
def ours() -> LatencyTable:
    return table(1.0, device=HostDevice().info(), runtime="torch", precision="fp32", threads=1)


@pytest.mark.slow
def test_networks_run_where_the_table_is_of(ours: LatencyTable, tmp_path: Path) -> None:
    networks = [nano_space().decode(nano_space().sample(seed), name=f"nano_{seed}") for seed in (0, 1)]
    found = network_samples(ours, networks, HostDevice(), tmp_path, quiet_steps, num_classes=4, rounds=1)
    assert list(found) == ["nano_0", "nano_1"]
    for samples in found.values():
        assert len(samples) > 0
        assert 0 < samples[0] <= samples[-1]
    stored = (tmp_path / "measurements.jsonl").read_text()
    again = network_samples(ours, networks, HostDevice(), tmp_path, quiet_steps, num_classes=4, rounds=1)
    assert {name: each.tolist() for name, each in again.items()} == {
        name: each.tolist() for name, each in found.items()
    }
    assert (tmp_path / "measurements.jsonl").read_text() == stored


@pytest.mark.slow
def test_speed_is_that_of_the_table(tmp_path: Path) -> None:
    """A table of the times that this machine takes is right; one of half the times says that it takes twice as long."""
    network = nano_space().decode(nano_space().sample(0), name="nano_0")
    told = {"device": HostDevice().info(), "runtime": "torch", "precision": "fp32", "threads": 1}
    for per_operator in (0.01, 0.02):
        operators = network_operators(network, num_classes=4)
        entries = [OperatorLatency(operator=each, median_ms=per_operator) for each in dict.fromkeys(operators)]
        own = table(1.0, **told, operators=tuple(entries))
        folder = tmp_path / str(per_operator)
        found = device_speed(own, network, HostDevice(), folder, quiet_steps, num_classes=4)
        assert found.predicted_ms == pytest.approx(per_operator * len(operators))
        assert found.ratio == pytest.approx(found.measured_ms / found.predicted_ms)
        assert found.measured_ms > 0


def test_computers_are_known_by_their_processors(ours: LatencyTable) -> None:
    info = HostDevice().info().model_copy(update={"soc": "a processor", "cores": 8})
    device = mock.create_autospec(HostDevice, instance=True)
    device.info.return_value = info.model_copy(update={"id": "another", "system": "another"})
    assert is_of(ours.model_copy(update={"device": info}), device)
    for changed in ({"soc": "another"}, {"cores": 4}, {"soc": None}, {"kind": "android"}):
        assert not is_of(ours.model_copy(update={"device": info.model_copy(update=changed)}), device)


@pytest.mark.parametrize(
    "fields",
    [{"device": {"kind": "host", "id": "another"}}, {"runtime": "tflite"}, {"kind": "estimate"}, {"precision": None}],
)
def test_tables_of_others_are_refused(ours: LatencyTable, tmp_path: Path, fields: dict[str, object]) -> None:
    assert is_of(ours, HostDevice())
    other = LatencyTable.model_validate(ours.model_dump() | fields)
    assert not is_of(other, HostDevice())
    network = nano_space().decode(nano_space().sample(0))
    with pytest.raises(InputError, match="was not measured on this host with a runtime of 'fbnet-zoo lut measure'"):
        network_samples(other, [network], HostDevice(), tmp_path / "files", quiet_steps, num_classes=4)
    assert not (tmp_path / "files").exists()
