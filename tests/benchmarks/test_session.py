"""A series of measurements that was interrupted goes on with what is not in the store yet."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo.benchmarks.fleet import ModelRun, measure_all
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile, RunEnergy
from fbnet_zoo.benchmarks.session import remaining
from fbnet_zoo.benchmarks.store import append, read
from fbnet_zoo.errors import DeviceLostError, InputError
from tests.helpers.adb_daemon import Fault
from tests.helpers.measurements import PHONE, measurement
from tests.helpers.phone import FAST, Plug, device_of, replug


@pytest.fixture
def tasks(tmp_path: Path) -> list[ModelRun]:
    """Three files, of which the first two differ in their content only."""
    files = []
    for number, precision in enumerate(("fp32", "fp32", "int8")):
        path = tmp_path / str(number) / "net.pte"
        path.parent.mkdir()
        path.write_bytes(f"weights {number}".encode())
        files.append(ModelFile(path=path, name="net", target="executorch", precision=precision))
    return [ModelRun(model=file, runs=3, warmup=2) for file in files]


def result_of(task: ModelRun, **changes: Any) -> Measurement:
    content = task.model.path.read_bytes()
    fields = {"sha256": sha256(content).hexdigest(), "precision": task.model.precision, "warmup": task.warmup}
    return measurement([1.0] * task.runs, **{"threads": task.threads, **fields, **changes})


def test_what_is_stored_is_left_out_in_whatever_order(tasks: list[ModelRun]) -> None:
    stored = [result_of(tasks[2]), result_of(tasks[0])]
    assert remaining(tasks, stored, PHONE.id) == (tasks[1],)
    assert remaining(tasks, [], PHONE.id) == tuple(tasks)
    assert remaining([], stored, PHONE.id) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"device": PHONE.model_copy(update={"id": "other"})},
        {"sha256": "1" * 64},
        {"precision": "fp16"},
        {"threads": 2},
        {"warmup": 3},
        {"samples_ms": (1.0, 1.0)},
        {"runs_per_sample": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_measured_otherwise_does_not_count(tasks: list[ModelRun], change: dict[str, Any]) -> None:
    task = tasks[0]
    assert remaining([task], [result_of(task)], PHONE.id) == ()
    assert remaining([task], [result_of(task).model_copy(update=change)], PHONE.id) == (task,)


def test_a_measurement_without_energy_does_not_count_where_energy_is_asked_for(tasks: list[ModelRun]) -> None:
    metered = RunEnergy(mj=2.5, idle_mw=100.0, source="a meter", runs=10, seconds=1.0)
    timed = result_of(tasks[0])
    known = timed.model_copy(update={"energy": metered})
    asked = replace(tasks[0], energy=True)
    assert remaining([asked], [timed], PHONE.id) == (asked,)
    assert remaining([asked], [known], PHONE.id) == ()
    assert remaining([tasks[0]], [known], PHONE.id) == ()
    assert remaining([asked, tasks[0]], [timed, known], PHONE.id) == ()
    assert remaining([asked, asked], [timed, known], PHONE.id) == (asked,)


def test_runs_of_which_only_the_total_is_known_count_as_that_many(tasks: list[ModelRun]) -> None:
    stored = result_of(tasks[0]).model_copy(update={"samples_ms": (1.0,), "runs_per_sample": 3})
    assert remaining(tasks[:1], [stored], PHONE.id) == ()


def test_a_task_that_is_there_twice_is_done_twice(tasks: list[ModelRun]) -> None:
    pair = [tasks[0], tasks[1], tasks[1], tasks[0]]
    stored = [result_of(tasks[0]), result_of(tasks[1])]
    assert remaining(pair, stored, PHONE.id) == (tasks[1], tasks[0])
    assert remaining(pair, stored * 3, PHONE.id) == ()


def test_a_file_that_changed_is_measured_again(tasks: list[ModelRun]) -> None:
    stored = [result_of(task) for task in tasks]
    tasks[1].model.path.write_bytes(b"trained further")
    assert remaining(tasks, stored, PHONE.id) == (tasks[1],)


def test_a_folder_is_known_by_its_content(tmp_path: Path, tasks: list[ModelRun]) -> None:
    package = tmp_path / "net.mlpackage"
    package.mkdir()
    (package / "weights").write_bytes(b"w")
    task = replace(tasks[0], model=replace(tasks[0].model, path=package))
    digest = sha256(f"{sha256(b'w').hexdigest()}  weights\n".encode()).hexdigest()
    stored = measurement([1.0] * 3, sha256=digest, warmup=2)
    assert remaining([task], [stored], PHONE.id) == ()
    (package / "weights").write_bytes(b"v")
    assert remaining([task], [stored], PHONE.id) == (task,)


def test_a_file_that_is_not_there_is_an_error(tasks: list[ModelRun]) -> None:
    tasks[0].model.path.unlink()
    with pytest.raises(InputError, match=r"net\.pte: the model cannot be read: No such file"):
        remaining(tasks, [], PHONE.id)


def test_after_a_lost_phone_the_rest_is_measured_and_nothing_twice(
    plug: Plug, runner: Path, tmp_path: Path, tasks: list[ModelRun]
) -> None:
    """The whole way, through the real adb: partial results are kept and a second session completes them."""
    phone, store = plug(), tmp_path / "results.jsonl"
    tasks = [replace(task, runs=9, warmup=1) for task in tasks]
    phone.replay("x86_64/fb_10")

    def record(measured: Measurement) -> None:
        append(store, measured)
        if len(read(store)) == 1:
            phone.faults.append(Fault(kind="drop", service="num_executions", times=2))

    device = device_of(phone, runner, FAST)
    failures = measure_all({"phone": device}, tasks, record)
    assert [type(failure.error) for failure in failures] == [DeviceLostError] * 2
    left = remaining(tasks, read(store), device.info().id)
    assert left == tuple(tasks[1:])
    replug(phone)
    assert measure_all({"phone": device_of(phone, runner)}, left, lambda measured: append(store, measured)) == ()
    assert [each.sha256 for each in read(store)] == [sha256(task.model.path.read_bytes()).hexdigest() for task in tasks]
    assert remaining(tasks, read(store), device.info().id) == ()
    assert phone.files == []
