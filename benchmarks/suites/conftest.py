"""Fixtures of the benchmark suites, and the table of figures at the end of a run.

Nothing here asserts a time, as machines differ. The documentation quotes ratios to a peer measured in the same rounds,
next to their targets.
"""

import os

# Alternating two networks needs more kernels than oneDNN caches: it would recompile them in every round.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fbnet_zoo.benchmarks.suites import figures


@pytest.fixture
def versus(benchmark: BenchmarkFixture) -> figures.Versus:
    """Return a function that times a callable against a peer."""
    return figures.Versus(benchmark)


@pytest.fixture
def within(benchmark: BenchmarkFixture) -> figures.Within:
    """Return a function that times a statement in new processes."""
    return figures.Within(benchmark)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, as phone apps often do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line per figure, with its spread and its target."""
    session = getattr(config, "_benchmarksession", None)
    lines = [figures.line(bench.name, bench.extra_info) for bench in session.benchmarks] if session else []
    if lines:
        terminalreporter.section("figures: ratios are peer / ours, median (p10 to p90)")
        for line in lines:
            terminalreporter.write_line(line)
