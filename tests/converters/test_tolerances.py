"""Every tolerance of a parity report holds at its limit, and not beyond; NaN is beyond."""

import math

import pytest

from fbnet_zoo.converters.parity import FLAT_LENIENCY_DB, CaseResult, ParityReport, Tolerances

LIMITS = Tolerances(min_snr_db=40.0, max_error=0.02, min_top1_agreement=0.9)


def report(**changes: float) -> ParityReport:
    fields = {"snr_db": 50.0, "max_abs_error": 0.1, "max_error": 0.01, "top1_agreement": 1.0, "near_ties": 0}
    good = CaseResult(name="good", **fields)
    return ParityReport(
        runtime="a test", tolerances=LIMITS, cases=(good, CaseResult(name="odd", **{**fields, **changes}), good)
    )


@pytest.mark.parametrize(
    ("field", "within", "beyond", "told"),
    [
        ("snr_db", 40.0, 39.99, "40.0 dB on odd, expected at least 40.0 dB"),
        ("snr_db", 300.0, math.nan, "nan dB on odd"),
        ("max_error", 0.02, 0.0201, "an error of 0.02 of the largest logit on odd"),
        ("max_error", 0.0, math.nan, "an error of nan of the largest logit on odd"),
        ("max_error", 0.0, math.inf, "an error of inf of the largest logit on odd"),
        ("top1_agreement", 0.9, 0.89, "the same top-1 class for 89% of odd, expected at least 90%"),
    ],
)
def test_each_limit(field: str, within: float, beyond: float, told: str) -> None:
    assert report(**{field: within}).passed
    failed = report(**{field: beyond})
    assert not failed.passed
    (phrase,) = failed.failures()
    assert phrase.startswith(told)


def test_only_images_of_one_color_are_given_less() -> None:
    lenient = 40.0 - FLAT_LENIENCY_DB
    assert report(snr_db=lenient, flat=True).passed
    assert not report(snr_db=lenient - 0.01, flat=True).passed
    assert not report(snr_db=lenient).passed


def test_the_worst_is_that_of_every_figure() -> None:
    worst = report(snr_db=1.0, max_abs_error=9.0, max_error=8.0, top1_agreement=0.5, near_ties=3).worst
    assert (worst.snr_db, worst.max_abs_error, worst.max_error) == (1.0, 9.0, 8.0)
    assert (worst.top1_agreement, worst.near_ties) == (0.5, 3)
