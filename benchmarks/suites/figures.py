"""Figures that hold on any machine: ratios to a peer measured in the same run, and time limits of new processes."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

Run = Callable[[], object]


class Versus:
    """Times a callable and its peer alternately, so that both run under the same conditions."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self.benchmark: Any = benchmark  # its methods are not annotated

    def __call__(self, ours: Run, peer: Run, *, target: float, rounds: int = 15) -> None:
        """Record the speedup of `ours` over `peer`; `target` is the promised one."""
        own_seconds, peer_seconds = [], []
        ours()

        def time_peer() -> None:
            peer_seconds.append(_seconds(peer))

        self.benchmark.pedantic(lambda: own_seconds.append(_seconds(ours)), setup=time_peer, rounds=rounds)
        ratios = sorted(theirs / own for theirs, own in zip(peer_seconds, own_seconds, strict=True))
        self.benchmark.extra_info.update(
            ours_ms=1e3 * statistics.median(own_seconds),
            peer_ms=1e3 * statistics.median(peer_seconds),
            ratio=statistics.median(ratios),
            ratio_low=ratios[len(ratios) // 10],
            ratio_high=ratios[-1 - len(ratios) // 10],
            target=target,
        )


def compare_memory(
    benchmark: BenchmarkFixture, ours: Callable[[], float], peer: Callable[[], float], *, target: float
) -> None:
    """Record the peak memory of `ours` and `peer`, MB; `target` is the promised ratio."""
    own, theirs = ours(), peer()
    recorded: Any = benchmark  # its methods are not annotated
    recorded.pedantic(ours, rounds=1)
    recorded.extra_info.update(ours_mb=own, peer_mb=theirs, ratio=theirs / own, target=target)


class Within:
    """Times a statement in new processes, without their startup, against a limit."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self.benchmark: Any = benchmark  # its methods are not annotated

    def __call__(self, statement: str, *, limit_ms: float, before: str = "", after: str = "") -> None:
        """Record the median of nine processes; `before` and `after` are not timed."""
        stop = "print(1e3 * (time.perf_counter() - start))"
        code = "\n".join(("import sys, time", before, "start = time.perf_counter()", statement, stop, after))
        taken: list[float] = []
        self.benchmark.pedantic(lambda: taken.append(float(_python(code))), rounds=9, warmup_rounds=1)
        self.benchmark.extra_info.update(ms=statistics.median(taken), limit_ms=limit_ms)


def _python(code: str) -> str:
    return subprocess.run(  # noqa: S603  our own code in our own interpreter
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def line(name: str, info: Mapping[str, float]) -> str:
    """Return one figure as text, with its spread and its target."""
    if "ratio" not in info:
        verdict = "met" if info["ms"] <= info["limit_ms"] else "MISSED"
        return f"{name:52s} {info['ms']:9.1f} ms, limit {info['limit_ms']:.0f} ms {verdict}"
    verdict = "met" if info["ratio"] >= info["target"] else "MISSED"
    if "ours_mb" in info:
        sizes = f"{info['ours_mb']:9.1f} MB, peer {info['peer_mb']:9.1f} MB"
        return f"{name:52s} {sizes}, {info['ratio']:5.2f}x, target {info['target']:.2f}x {verdict}"
    spread = f"{info['ratio_low']:.2f} to {info['ratio_high']:.2f}"
    times = f"{info['ours_ms']:9.1f} ms, peer {info['peer_ms']:9.1f} ms"
    return f"{name:52s} {times}, {info['ratio']:5.2f}x ({spread}), target {info['target']:.2f}x {verdict}"
