"""Energy of this machine, with counters in a folder that looks like Linux's."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest

from fbnet_zoo.benchmarks.devices import rapl
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.devices.rapl import RaplMeter, find_zones
from fbnet_zoo.benchmarks.fleet import ModelRun, measure_all
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile, RunEnergy
from fbnet_zoo.benchmarks.runtimes import metering
from fbnet_zoo.benchmarks.runtimes.child import HostResult, HostRun
from fbnet_zoo.errors import EnergyUnavailableError

RANGE_UJ = 262_143_328_850

Files = dict[str, ModelFile]

pytestmark = pytest.mark.onnx


def zone(root: Path, folder: str, name: str, energy_uj: object = 1_000, range_uj: object = RANGE_UJ) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


@dataclass
class Machine:
    """A machine whose packages consume so much in every run, and so much in the pause before, uJ."""

    counters: Mapping[Path, tuple[int, int]]

    def run(self) -> None:
        self._add(0)

    def pause(self, seconds: float) -> None:
        self._add(1)
        time.sleep(seconds)

    def _add(self, which: int) -> None:
        for counter, consumed in self.counters.items():
            limit = int((counter.parent / "max_energy_range_uj").read_text())
            value = int(counter.read_text()) + consumed[which]
            counter.write_text(str(value % limit if limit else value))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Mapping[Path, tuple[int, int]]], RunEnergy]:
    """Measures on a machine, with the process's own way to read counters, but in this process."""

    def measured(root: Path, counters: Mapping[Path, tuple[int, int]]) -> RunEnergy:
        machine = Machine(counters)

        def in_this_process(_: ModelFile, run: HostRun, **__: float) -> HostResult:
            return HostResult(metered=metering.metered(machine.run, run.counters, run.metered_s))

        monkeypatch.setattr(metering, "sleep", machine.pause)
        monkeypatch.setattr(rapl, "measure", in_this_process)
        model = ModelFile(path=root / "any.onnx", name="any", target="onnx", precision="fp32")
        return RaplMeter(root=root, seconds=0.002).measure(model, run_ms=1.0)

    return measured


Measured = Callable[[Path, Mapping[Path, tuple[int, int]]], RunEnergy]


def test_the_energy_of_a_run_is_what_the_runs_consumed_without_the_idle_power(
    tmp_path: Path, measured: Measured
) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0")
    found = measured(tmp_path, {counter: (9_000_000, 40)})
    assert found.runs >= 1
    assert found.seconds >= 0.002
    assert 0 < found.idle_mw <= 0.040 / 0.002, "40 uJ in the pause, which lasts 2 ms or more"
    assert found.mj + found.idle_mw * found.seconds / found.runs == pytest.approx(9_000)
    assert found.source == "RAPL: package-0"


def test_packages_and_their_memory_add_up_and_counters_wrap_around(tmp_path: Path, measured: Measured) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0")
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", energy_uj=RANGE_UJ - 10)
    second = zone(tmp_path, "intel-rapl:1", "package-1", energy_uj=RANGE_UJ - 2)
    found = measured(tmp_path, {first: (4_000_000, 0), memory: (200_000, 0), second: (2_800_000, 0)})
    assert found.idle_mw == 0
    assert found.mj == pytest.approx(4_000 + 200 + 2_800)
    assert found.source == "RAPL: package-0, dram of package-0, package-1"


def test_a_counter_may_wrap_around_in_the_pause(tmp_path: Path, measured: Measured) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=RANGE_UJ - 2)
    found = measured(tmp_path, {counter: (9_000_000, 40)})
    assert 0 < found.idle_mw <= 0.040 / 0.002


def test_a_zone_counts_once_and_only_if_it_is_a_package_or_its_memory(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", energy_uj=7)
    zone(tmp_path, "intel-rapl:0", "package-0")
    for part, name in enumerate(("core", "uncore", "dram")):
        zone(tmp_path, f"intel-rapl:0:{part}", name)
    zone(tmp_path, "intel-rapl:1", "psys")
    zone(tmp_path, "intel-rapl:10", "package-1-die-0")
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()
    zones = find_zones(tmp_path)
    assert [each.name for each in zones] == ["package-0", "dram of package-0", "package-1-die-0"]
    assert [each.path.parent.name for each in zones] == ["intel-rapl:0", "intel-rapl:0:2", "intel-rapl:10"]
    assert {each.range_uj for each in zones} == {RANGE_UJ}


@pytest.mark.parametrize(
    ("consumed", "told"),
    [
        ((1, 1_000_000_000), r"package-0: \d+ runs consumed .* mJ in .* s, no more than the idle device"),
        ((0, 10), r"package-0: the counters stood still during \d+ runs"),
        ((-100, 0), "fell from 1000 to .*, but its max_energy_range_uj is 0"),
    ],
)
def test_what_is_no_energy_is_refused(tmp_path: Path, measured: Measured, consumed: tuple[int, int], told: str) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", range_uj=0)
    with pytest.raises(EnergyUnavailableError, match=told):
        measured(tmp_path, {counter: consumed})


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnergyUnavailableError, match=r"this machine reports no energy: .* has no zone of a processor"):
        RaplMeter(root=tmp_path)
    zone(tmp_path, "intel-rapl:0", "psys")
    with pytest.raises(EnergyUnavailableError, match="has no zone of a processor package"):
        RaplMeter(root=tmp_path)
    zone(tmp_path, "intel-rapl:1", "package-0", energy_uj="")
    with pytest.raises(EnergyUnavailableError, match="energy_uj holds no whole number"):
        RaplMeter(root=tmp_path)


def test_counters_for_others_only_are_named_with_a_way_out() -> None:
    """Linux lets only root read them."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        zone(root, "intel-rapl:0", "package-0").chmod(0o000)
        root.chmod(0o755)
        with another_user(), pytest.raises(EnergyUnavailableError) as refused:
            RaplMeter(root=root)
    told = str(refused.value)
    assert "intel-rapl:0/energy_uj: Permission denied; run as root, or allow it until the next start with: sudo" in told


@contextmanager
def another_user() -> Iterator[None]:
    """Be a user without rights; root has all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class _Metered(HostDevice):
    """This machine, with counters of a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def energy_meter(self) -> RaplMeter:
        return RaplMeter(root=self._root, seconds=0.5)


@contextmanager
def consuming(counter: Path) -> Iterator[None]:
    """Let a counter rise with the processor time of the processes that this one starts, 1 uJ for a microsecond."""
    done = Event()
    content, ticks = counter.with_name("next"), os.sysconf("SC_CLK_TCK")

    def used_us() -> int:
        spent = 0
        for task in Path("/proc/self/task").glob("*/children"):
            for child in task.read_text().split():
                with suppress(OSError):
                    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                    spent += int(fields[11]) + int(fields[12])
        return spent * 1_000_000 // ticks

    def write() -> None:
        while not done.wait(0.005):
            content.write_text(str(used_us()))
            content.replace(counter)

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux has /proc")
@pytest.mark.parametrize("energy", [True, False])
def test_a_measurement_has_the_energy_only_if_it_is_asked_for(tmp_path: Path, tiny_files: Files, energy: bool) -> None:
    """The process of the runtime itself reads the counters: its start, which takes longer than the runs, is not in."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0")
    done: list[Measurement] = []
    with consuming(counter):
        task = ModelRun(model=tiny_files["onnx"], runs=2, energy=energy)
        assert measure_all({"host": _Metered(tmp_path)}, [task], done.append) == ()
    (found,) = done
    assert (found.energy is not None) is energy
    assert ("energy" in found.model_dump_json()) is energy
    assert Measurement.model_validate_json(found.model_dump_json()) == found
    if found.energy:
        total_mj = found.energy.mj * found.energy.runs + found.energy.idle_mw * found.energy.seconds
        assert 0 < total_mj <= 1.2 * 1000 * found.energy.seconds, "a core at 1 W"


def test_a_refusal_comes_before_the_times_are_measured(tmp_path: Path, tiny_files: Files) -> None:
    done: list[Measurement] = []
    task = ModelRun(model=tiny_files["onnx"], runs=2, energy=True)
    (failure,) = measure_all({"host": _Metered(tmp_path)}, [task], done.append)
    assert isinstance(failure.error, EnergyUnavailableError)
    assert done == []
