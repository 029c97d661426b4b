"""Tables joined, compared, checked and calibrated."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from fbnet_zoo.benchmarks.lut.network_figures import read_figures
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.calibration import calibrate
from fbnet_zoo.latency.checks import table_warnings
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.merging import diff_tables, merge_tables
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import Calibration, OperatorLatency
from fbnet_zoo.stats import mape, spearman
from tests.helpers.latency_tables import conv, table

LATER = datetime(2026, 2, 1, tzinfo=UTC)


def test_a_merged_table_has_what_either_has() -> None:
    merged = merge_tables([table(1.0, 2.0), table(1.04, 2.0, 3.0, name="more", date=LATER)], name="both")
    assert (merged.name, merged.date) == ("both", LATER)
    assert [merged.operator_ms(conv(16 * at)) for at in (1, 2, 3)] == [1.04, 2.0, 3.0]


def test_limits_of_the_clock_stay_if_all_tables_have_the_same() -> None:
    fast, slow = table(1.0, limits_khz=(3_600_000,)), table(1.0, 2.0, limits_khz=(1_200_000,), date=LATER)
    assert merge_tables([fast, fast]).limits_khz == (3_600_000,)
    assert merge_tables([fast, slow]).limits_khz == ()


def test_the_newer_figure_stays_in_whatever_order_they_are_given() -> None:
    old, new = table(1.0), table(2.0, date=LATER)
    for order in ([old, new], [new, old]):
        assert merge_tables(order, conflicts="newer").operator_ms(conv()) == 2.0


def test_figures_too_far_apart_are_an_error() -> None:
    tables = [table(1.0), table(1.2, date=LATER)]
    with pytest.raises(InputError, match=r"conv 8->16, 8 px, relu has 1 ms and 1\.2 ms, more than 5% apart"):
        merge_tables(tables)
    assert merge_tables(tables, tolerance=0.2).operator_ms(conv()) == 1.2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"device": DeviceInfo(kind="host", id="theirs")}, "device differs: ours and theirs"),
        ({"runtime": "torch"}, "runtime differs: onnxruntime and torch"),
        ({"precision": "int8"}, "precision"),
        ({"threads": 2}, "threads"),
        ({"kind": "estimate"}, "kind"),
    ],
)
def test_tables_of_different_things_are_not_merged(change: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=f"cannot be merged: their {field}"):
        merge_tables([table(1.0), table(1.0, **change)])


def test_a_calibration_does_not_outlive_its_operators(caplog: pytest.LogCaptureFixture) -> None:
    fit = Calibration(networks=9, mape=1.0, spearman=1.0, sum_mape=2.0)
    same = merge_tables([table(1.0), table(1.0, 2.0, date=LATER, calibration=fit)])
    assert same.calibration == fit
    with caplog.at_level(logging.WARNING):
        assert merge_tables([table(1.0, 2.0), table(1.0, date=LATER, calibration=fit)]).calibration is None
    assert "calibrate it again" in caplog.text


def test_a_comparison_tells_ratios_and_what_is_missing() -> None:
    diff = diff_tables(table(1.0, 2.0, 4.0), table(2.0, 4.0))
    assert [each.ratio for each in diff.shared] == [2.0, 2.0]
    assert (diff.median_ratio, diff.rank_correlation) == (2.0, 1.0)
    assert diff.only_a == (conv(48),)
    assert diff.only_b == ()
    with pytest.raises(InputError, match="their relative_to is None and skip"):
        diff_tables(table(1.0), find_table("pixel3"))


def test_other_versions_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A new compiler counts otherwise: vela 5.2 by a fifth."""
    old, new = (table(1.0, versions={"python": python, "vela": vela}) for python, vela in (("3", "5.1"), ("4", "5.2")))
    for compare in (lambda: diff_tables(old, new), lambda: merge_tables([old, new])):
        caplog.clear()
        compare()
        (line,) = caplog.messages
        assert line.endswith(
            "come from other versions, whose figures may differ for the same operator: vela 5.1 and 5.2"
        )
        assert "python" not in line
    caplog.clear()
    diff_tables(old, old)
    diff_tables(old, table(1.0))
    assert caplog.messages == []


def test_nothing_in_common_has_no_ratio() -> None:
    other = table(operators=(OperatorLatency(operator=conv(99), median_ms=1.0),))
    diff = diff_tables(table(1.0), other)
    assert (diff.shared, diff.median_ratio, diff.rank_correlation) == ((), None, None)


def test_a_sane_table_has_no_warnings() -> None:
    assert table_warnings(table(0.01, 0.02)) == ()
    assert table_warnings(find_table("pixel3")) == ()


def test_another_unit_is_noticed() -> None:
    assert "check that the times are milliseconds" in table_warnings(table(8e6, 16e6))[0]


def test_a_spread_figure_is_noticed() -> None:
    entry = OperatorLatency(operator=conv(), median_ms=0.01, p10_ms=0.009, p90_ms=0.02)
    assert "measure it again on an idle device" in table_warnings(table(operators=(entry,)))[0]


def test_a_larger_kernel_that_is_faster_is_noticed() -> None:
    def block(kernel_size: int, median_ms: float) -> OperatorLatency:
        shape = {"input_size": 8, "in_channels": 8, "out_channels": 8, "middle_channels": 24}
        operator = Operator(op="ir", kernel_size=kernel_size, padding=kernel_size // 2, **shape)
        return OperatorLatency(operator=operator, median_ms=median_ms)

    warnings = table_warnings(table(operators=(block(3, 0.02), block(5, 0.0199), block(7, 0.01))))
    assert warnings == ("ir k7 e3 8->8, 8 px takes 0.01 ms, less than the smaller ir k3 e3 8->8, 8 px with 0.02 ms",)


def test_a_line_is_fitted_where_it_predicts_better() -> None:
    sums = np.linspace(1, 10, 20)
    fit = calibrate(sums.tolist(), (1.5 * sums + 2).tolist())
    assert (fit.slope, fit.intercept_ms) == (pytest.approx(1.5), pytest.approx(2.0))
    assert fit.mape == pytest.approx(0, abs=1e-9)
    assert fit.sum_mape == pytest.approx(mape(sums.tolist(), (1.5 * sums + 2).tolist()))


def test_a_sum_that_is_right_is_left_alone() -> None:
    fit = calibrate([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (fit.slope, fit.intercept_ms, fit.mape, fit.spearman) == (1.0, 0.0, 0.0, 1.0)


def test_the_error_is_that_of_networks_left_out() -> None:
    generator = np.random.default_rng(0)
    sums = generator.uniform(1, 10, 12)
    measured = (1.5 * sums + 2) * generator.uniform(0.9, 1.1, 12)
    predicted = []
    for at in range(12):
        rest = np.arange(12) != at
        rows = np.column_stack([sums[rest] / measured[rest], 1 / measured[rest]])
        slope, intercept = np.linalg.solve(rows.T @ rows, rows.sum(0))
        predicted.append(slope * sums[at] + intercept)
    assert calibrate(sums.tolist(), measured.tolist()).mape == pytest.approx(mape(predicted, measured.tolist()))


@pytest.mark.parametrize("values", [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 3, [0.0] * 3), ([1.0] * 3, [1.0] * 4)])
def test_too_little_is_refused(values: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError, match="at least 3 networks"):
        calibrate(*values)


def test_the_rank_correlation_is_scipys() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        a, b = generator.integers(0, 6, (2, 15)).tolist()
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman([1.0, 1.0], [1.0, 2.0]) == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("network,ms\na,1\n", r"no column 'median_ms'"),
        ("", "no column 'network'; it has nothing"),
        ("network,median_ms\na,fast\n", r"times\.csv:2: median_ms is 'fast'; expected a positive number of ms"),
        ("network,median_ms\na\n", r"times\.csv:2: median_ms is None"),
        ("network,median_ms\na,1\nb,-1\n", r"times\.csv:3: median_ms is '-1'"),
        ("network,median_ms\na,inf\n", r"times\.csv:2"),
    ],
)
def test_wrong_latencies_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_figures(path)
