"""Accuracies that were predicted before networks were evaluated, against those that were found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.text import counted
from fbnet_zoo.search.history import EvaluatedNetwork, PredictedTop1
from fbnet_zoo.search.predictive.accuracy import Prediction, PredictorErrors

_ENOUGH = 3
"""Lowest number of networks for which errors are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForetoldView:
    """Predicted against found accuracies.

    Attributes:
        about: errors of the predictions, in words.
        chart: a point for each network, with its stated standard deviation.
    """

    about: str
    chart: Markup


def errors(networks: Sequence[EvaluatedNetwork]) -> PredictorErrors | None:
    """Return the errors of what was predicted of networks before their evaluation; `None` for fewer than three."""
    known = [(each, top1) for each, _, top1 in _foretold(networks)]
    if len(known) < _ENOUGH:
        return None
    mean = np.array([each.mean for each, _ in known])
    deviation = np.array([each.deviation for each, _ in known])
    return PredictorErrors.of(Prediction(mean=mean, deviation=deviation), [top1 for _, top1 in known])


def sentence(found: PredictorErrors) -> str:
    """Return the errors in words."""
    return (
        f"predicted before the evaluation of {found.networks} chosen networks: mean absolute error {found.mae:.2f} "
        f"points, rank correlation {found.spearman:.2f} (Spearman), {found.kendall:.2f} (Kendall); "
        f"{100 * found.within_1:.0f} % of the errors are below one stated standard deviation, "
        f"{100 * found.within_2:.0f} % below two (68 % and 95 % are expected)"
    )


def view(networks: Sequence[EvaluatedNetwork]) -> ForetoldView | None:
    """Return the view of predictions; `None` if nothing was predicted."""
    known = list(_foretold(networks))
    if not known:
        return None
    found, count = errors(networks), counted(len(known), "network")
    about = f"{count}: too few to judge predictions." if found is None else f"Accuracies {sentence(found)}."
    frame = Frame(across="top-1 found, %", up="top-1 predicted, %", diagonal=True)
    chart = scatter([_point(*each) for each in known], frame, label=f"predicted against found accuracy of {count}")
    return ForetoldView(about=about, chart=chart)


def _foretold(networks: Sequence[EvaluatedNetwork]) -> Iterator[tuple[PredictedTop1, int, float]]:
    for each in networks:
        if each.predicted is not None and each.whole is not None:
            yield each.predicted, each.number, each.whole


def _point(predicted: PredictedTop1, number: int, top1: float) -> Point:
    return Point(
        x=top1,
        y=predicted.mean,
        low=predicted.mean - predicted.deviation,
        high=predicted.mean + predicted.deviation,
        title=f"network {number}: predicted {predicted.mean:.2f} ± {predicted.deviation:.2f} %, found {top1:.2f} %",
    )
