"""Measurements go into a file and come back as they were, whatever happens to the file meanwhile."""

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fbnet_zoo.benchmarks.context import commit, commit_of, versions
from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState, Measurement, was_throttled
from fbnet_zoo.benchmarks.minibench import minibench_rows, write_minibench
from fbnet_zoo.benchmarks.store import append, read
from fbnet_zoo.errors import InputError
from tests.helpers.measurements import measurement
from tests.helpers.paths import ROOT

durations = st.floats(0, 1e9, exclude_min=True)


@given(st.lists(durations, min_size=1, max_size=5), st.dictionaries(st.integers(0, 10**7), st.integers(0)), st.text())
def test_a_line_is_the_whole_measurement(samples: list[float], times: dict[int, int], name: str) -> None:
    state = DeviceState(policies=(CpuPolicy(name=name, cores=(1,), time_in_state=times),))
    before = measurement(samples, before=state, model=name, commit=None)
    line = before.model_dump_json()
    assert "\n" not in line
    assert Measurement.model_validate_json(line) == before


def test_what_was_added_is_read_in_that_order(tmp_path: Path) -> None:
    store = tmp_path / "new folder" / "results.jsonl"
    measurements = [measurement([float(number)], minute=number) for number in (1, 3, 2)]
    for each in measurements:
        append(store, each)
    assert read(store) == tuple(measurements)
    assert len(store.read_bytes().splitlines()) == 3


def test_threads_and_processes_may_add_at_once(tmp_path: Path) -> None:
    store = tmp_path / "results.jsonl"
    code = (
        "import sys; from pathlib import Path; from fbnet_zoo.benchmarks.store import append\n"
        "from tests.helpers.measurements import measurement\n"
        "for number in range(20): append(Path(sys.argv[1]), measurement([float(sys.argv[2]), 1.0 + number] * 500))"
    )
    root = ROOT
    others = [subprocess.Popen([sys.executable, "-c", code, store, str(one)], cwd=root) for one in (1, 2)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(80):
            pool.submit(append, store, measurement([3.0, 1.0 + number] * 500))
    assert [other.wait() for other in others] == [0, 0]
    found = sorted(each.samples_ms[:2] for each in read(store))
    assert found == sorted(
        [(float(one), 1.0 + number) for one in (1, 2) for number in range(20)]
        + [(3.0, 1.0 + number) for number in range(80)]
    )


def test_an_unfinished_line_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = tmp_path / "results.jsonl"
    append(store, measurement([1.0]))
    size = store.stat().st_size
    append(store, measurement([2.0]))
    os.truncate(store, size + 100)
    with caplog.at_level(logging.WARNING):
        assert [each.samples_ms for each in read(store)] == [(1.0,)]
    assert f"{store}:2: skipped a partial line" in caplog.text
    append(store, measurement([3.0]))
    assert [each.samples_ms for each in read(store)] == [(1.0,), (3.0,)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"samples_ms": []}, "samples_ms"),
        ({"thread": 4}, "thread: Extra inputs"),
        ({"format": 2}, "format"),
        ({"date": "2026-01-02T03:04:05"}, "date.*timezone"),
        ({"samples_ms": [-1.0]}, "samples_ms.0"),
        ({"sha256": "abc"}, "sha256"),
    ],
)
def test_lines_that_are_no_measurement_are_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    store = tmp_path / "results.jsonl"
    append(store, measurement())
    wrong = {**json.loads(store.read_text()), **change}
    with store.open("a") as file:
        file.write(json.dumps(wrong) + "\n")
    with pytest.raises(InputError, match=f"results.jsonl:2: not a measurement: {text}"):
        read(store)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl: cannot be read: No such file"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="cannot append the measurement"):
        append(tmp_path, measurement())


def test_a_disk_that_is_full_is_an_error() -> None:
    with pytest.raises(InputError, match=r"/dev/full: cannot append the measurement: .*No space left on device"):
        append(Path("/dev/full"), measurement())


def test_measurements_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        measurement().threads = 2


def policy(limit: int | None, name: str = "policy0") -> DeviceState:
    return DeviceState(policies=(CpuPolicy(name=name, cores=(0,), limit_khz=limit),))


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        (DeviceState(), DeviceState(), False),
        (DeviceState(thermal_status=1), DeviceState(thermal_status=0), True),
        (DeviceState(thermal_status=0), DeviceState(thermal_status=3), True),
        (policy(2000), policy(2000), False),
        (policy(2000), policy(1500), True),
        (policy(1500), policy(2000), False),
        (policy(2000), policy(None), False),
        (policy(None), policy(1500), False),
        (policy(2000), policy(1500, "policy4"), False),
    ],
)
def test_throttling_is_what_the_device_says_or_a_lower_clock(
    before: DeviceState, after: DeviceState, throttled: bool
) -> None:
    assert was_throttled(before, after) == throttled


def test_minibench_rows_have_the_shape_of_the_app(tmp_path: Path) -> None:
    samples = [10.0] * 9 + [30.0]
    write_minibench([measurement(samples), measurement([5.0], load_ms=None)], tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())
    device = {"device": "Sandbox", "arch": "Phone 9", "os": "Android 14", "totalMem": 4 << 30, "availMem": 2 << 30}
    model = {"name": "fbnet_c", "backend": "xnnpack", "quantization": "fp32"}
    assert all(row["deviceInfo"] == device and row["benchmarkModel"] == model for row in rows)
    assert all(row.keys() == {"benchmarkModel", "metric", "actualValue", "targetValue", "deviceInfo"} for row in rows)
    assert [(row["metric"], row["actualValue"], row["targetValue"]) for row in rows[:4]] == [
        ("avg_inference_latency(ms)", 12.0, 0.0),
        ("trimmean_inference_latency(ms)", 10.0, 0.0),
        ("model_load_time(ms)", 85.5, 0.0),
        ("load_status", 0.0, 0.0),
    ]
    assert "model_load_time(ms)" not in {row["metric"] for row in rows[4:]}
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    with pytest.raises(InputError, match="cannot be written"):
        write_minibench([], tmp_path / "nowhere" / "bench.json")


def test_memory_is_not_called_what_it_is_not() -> None:
    metrics = {row["metric"] for row in minibench_rows(measurement(peak_rss_mb=50.0))}
    assert "ram_pss_usage(mb)" not in metrics


def test_commits_are_those_of_the_repository_that_tracks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    file = tmp_path / "module.py"
    file.write_text("1\n")
    assert commit_of(file) is None
    git("init")
    assert commit_of(file) is None, "a file that the repository does not know"
    git("add", "module.py")
    git("commit", "-m", "first", "--no-gpg-sign")
    assert commit_of(file) == git("rev-parse", "HEAD")
    file.write_text("2\n")
    assert commit_of(file) == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "/nowhere")
    assert commit_of(file) is None


def test_versions_are_those_of_what_runs() -> None:
    assert versions()["python"] == sys.version.split()[0]
    assert commit() is None or len(commit() or "") >= 40
