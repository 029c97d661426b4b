"""Calibration of a latency table: how well its sums agree with whole networks, and a linear correction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.table import Calibration
from fbnet_zoo.stats import mape, spearman

FEWEST = 3
"""A line through fewer networks does not generalize."""

_Floats = NDArray[np.float64]


def calibrate(sums_ms: Sequence[float], measured_ms: Sequence[float]) -> Calibration:
    """Fit a linear correction of the sums; kept only if it improves the prediction of networks left out of the fit.

    The fit minimizes relative errors, so that small networks count as much as large ones.

    Args:
        sums_ms: uncorrected sums of a table.
        measured_ms: measured latencies of the same networks.

    Raises:
        InputError: there are fewer than three networks, or a value is not positive.

    >>> fit = calibrate([1.0, 2.0, 3.0, 4.0], [2.5, 4.5, 6.5, 8.5])
    >>> round(fit.slope, 6), round(fit.intercept_ms, 6)
    (2.0, 0.5)
    """
    sums, measured = np.asarray(sums_ms, dtype=np.float64), np.asarray(measured_ms, dtype=np.float64)
    if len(sums) != len(measured) or len(sums) < FEWEST or (sums <= 0).any() or (measured <= 0).any():
        raise InputError(f"a calibration needs at least {FEWEST} networks, with sums and latencies above 0 ms")
    sum_mape = mape(sums_ms, measured_ms)
    others = [np.delete(np.arange(len(sums)), left_out) for left_out in range(len(sums))]
    fits = [_line(sums[rest], measured[rest]) for rest in others]
    predicted = [slope * each + intercept for (slope, intercept), each in zip(fits, sums_ms, strict=True)]
    slope, intercept = _line(sums, measured)
    if mape(predicted, measured_ms) >= sum_mape or slope <= 0:
        slope, intercept, predicted = 1.0, 0.0, list(sums_ms)
    return Calibration(
        slope=slope,
        intercept_ms=intercept,
        networks=len(sums),
        mape=mape(predicted, measured_ms),
        spearman=spearman(predicted, measured_ms),
        sum_mape=sum_mape,
    )


def _line(sums: _Floats, measured: _Floats) -> tuple[float, float]:
    rows = np.stack([sums, np.ones_like(sums)], axis=1) / measured[:, None]
    slope, intercept = np.linalg.lstsq(rows, np.ones_like(measured), rcond=None)[0]
    return float(slope), float(intercept)
