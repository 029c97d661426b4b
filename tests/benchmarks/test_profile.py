"""Readers of traces: a real ETDump against ExecuTorch's own tool, and onnxruntime's events."""

import json
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo._require import quiet, require
from fbnet_zoo.benchmarks.profile import TraceContext, from_etdump, from_onnxruntime
from fbnet_zoo.errors import InputError
from tests.helpers.paths import DATA

ETDUMP = DATA / "small_xnnpack.etdp"
NODE = {"op_name": "Conv", "provider": "CPUExecutionProvider"}


@pytest.fixture(scope="module")
def told() -> dict[str, list[list[float]]]:
    """What the tool says: the runs of every event of a name."""
    tools = require("executorch.devtools", extra="executorch")
    with quiet():
        blocks = {block.name: block.events for block in tools.Inspector(etdump_path=str(ETDUMP)).event_blocks}
    events: dict[str, list[list[float]]] = {}
    for event in blocks["Execute"]:
        events.setdefault(event.name, []).append(event.perf_data.raw)
    return events


@pytest.mark.executorch
class TestEtdump:
    def test_operators(self, told: dict[str, list[list[float]]]) -> None:
        profile = from_etdump(ETDUMP, TraceContext(model="small"))
        assert [(each.name, each.kind, each.delegated) for each in profile.operators] == [
            ("Transpose (ND, X32) #1", "Transpose (ND, X32)", True),
            ("Convolution (NHWC, F32) IGEMM #1", "Convolution (NHWC, F32) IGEMM", True),
            ("Convolution (NHWC, F32) DWConv #1", "Convolution (NHWC, F32) DWConv", True),
            ("HardSwish (NC) #1", "HardSwish (NC)", True),
            ("Transpose (ND, X32) #2", "Transpose (ND, X32)", True),
            ("delegate 1", "between operators", True),
            ("mean.out", "mean.out", False),
            ("Fully Connected (NC, F32) GEMM #1", "Fully Connected (NC, F32) GEMM", True),
            ("delegate 2", "between operators", True),
        ]
        mean = next(each for each in profile.operators if each.name == "mean.out")
        assert mean.samples_ms == pytest.approx(told["native_call_mean.out"][0])

    def test_operators_are_the_time_of_all_calls(self, told: dict[str, list[list[float]]]) -> None:
        profile = from_etdump(ETDUMP, TraceContext(model="small"))
        calls = [sum(run) for run in zip(*told["DELEGATE_CALL"], *told["native_call_mean.out"], strict=True)]
        operators = [sum(run) for run in zip(*(each.samples_ms for each in profile.operators), strict=True)]
        assert operators == pytest.approx(calls, abs=1e-5)

    def test_whole(self, told: dict[str, list[list[float]]]) -> None:
        profile = from_etdump(ETDUMP, TraceContext(model="small", file="small.pte", threads=2))
        assert profile.total_ms == sorted(told["Method::execute"][0])[1]
        assert profile.load_ms == pytest.approx(0.353114)
        assert (profile.runs, profile.file, profile.threads) == (3, "small.pte", 2)
        left = next(each.median_ms for each in profile.operators if not each.delegated)
        assert profile.undelegated_share == pytest.approx(left / sum(each.median_ms for each in profile.operators))

    def test_warmup_is_left_out(self, told: dict[str, list[list[float]]]) -> None:
        profile = from_etdump(ETDUMP, TraceContext(model="small", warmup=1))
        assert profile.runs == 2
        assert profile.total_ms == pytest.approx(sum(told["Method::execute"][0][1:]) / 2)
        assert all(len(each.samples_ms) == 2 for each in profile.operators)

    def test_nothing_but_warmup(self) -> None:
        with pytest.raises(InputError, match="has no runs after 3 warm-up runs; trace more"):
            from_etdump(ETDUMP, TraceContext(model="small", warmup=3))

    @pytest.mark.parametrize(
        "content", [b"", b"not a trace", ETDUMP.read_bytes()[:1500]], ids=["empty", "text", "half"]
    )
    def test_damaged(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "trace.etdp"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"trace\.etdp: not an ETDump, or damaged"):
            from_etdump(path, TraceContext(model="small"))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such file"):
            from_etdump(tmp_path / "trace.etdp", TraceContext(model="small"))


class TestOnnxruntime:
    """Events as onnxruntime 1.31 writes them; `test_host` reads real ones."""

    def events(self, *providers: str) -> list[dict[str, Any]]:
        events = [event("model_loading_uri", 0, 900), event("session_initialization", 1000, 4100)]
        for run, slower in enumerate((10, 2, 1)):
            start = 10_000 * (run + 1)
            events.append(event("model_run", start, 1000 * slower))
            for position, provider in enumerate(providers):
                about = {"op_name": f"Op{position}", "provider": provider}
                events.append(event(f"node_{position}_kernel_time", start + 1 + position, 100 * slower, about))
        return events

    def read(self, path: Path, content: object, **options: Any) -> Any:
        path.write_text(json.dumps(content))
        return from_onnxruntime(path, TraceContext(model="net", **options))

    def test_runs_after_the_warmup_count(self, tmp_path: Path) -> None:
        profile = self.read(tmp_path / "p.json", self.events("CPUExecutionProvider"), warmup=1)
        assert (profile.runs, profile.total_ms, profile.load_ms) == (2, 1.5, 5.0)
        assert [(each.name, each.kind, each.samples_ms) for each in profile.operators] == [
            ("node_0", "Op0", (0.2, 0.1))
        ]

    @pytest.mark.parametrize(
        ("providers", "share"),
        [(("CPUExecutionProvider",) * 4, 0.0), (("XnnpackExecutionProvider",) * 3 + ("CPUExecutionProvider",), 0.25)],
        ids=["alone", "beside_another"],
    )
    def test_undelegated_is_what_another_provider_left(
        self, providers: tuple[str, ...], share: float, tmp_path: Path
    ) -> None:
        assert self.read(tmp_path / "p.json", self.events(*providers)).undelegated_share == share

    @pytest.mark.parametrize("content", [{"a": 1}, 3, [1, 2], None], ids=str)
    def test_other_json(self, content: object, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a profile of onnxruntime; expected a JSON list of events"):
            self.read(tmp_path / "p.json", content)

    def test_nothing_but_warmup(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has no runs after 3 warm-up runs; profile more"):
            self.read(tmp_path / "p.json", self.events("CPUExecutionProvider"), warmup=3)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read: No such file"):
            from_onnxruntime(tmp_path / "none.json", TraceContext(model="net"))


def event(name: str, start: int, duration: int, about: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "cat": "Session" if about is None else "Node",
        "name": name,
        "ts": start,
        "dur": duration,
        "args": about or {},
    }
