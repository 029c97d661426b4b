"""Fixtures of the benchmark suites, and the table of figures at the end of a run.

Nothing here asserts a time: machines differ. What the documentation quotes is a ratio to a peer
measured in the same rounds, beside its target.
"""

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fbnet_zoo.benchmarks.suites import figures


@pytest.fixture
def versus(benchmark: BenchmarkFixture) -> figures.Versus:
    """Time a callable against a peer."""
    return figures.Versus(benchmark)


@pytest.fixture
def within(benchmark: BenchmarkFixture) -> figures.Within:
    """Time a statement in fresh processes."""
    return figures.Within(benchmark)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as a phone app often does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line per figure: what was measured, its spread, and what was promised."""
    session = getattr(config, "_benchmarksession", None)
    lines = [figures.line(bench.name, bench.extra_info) for bench in session.benchmarks] if session else []
    if lines:
        terminalreporter.section("figures: ratios are peer / ours, median (p10 to p90)")
        for line in lines:
            terminalreporter.write_line(line)
