"""Search by prediction: predictors of accuracy, and the genetic search that they steer.

`limited_problem` and `genetic_search` find the best networks of a space by any score within limits; the methods
`chamnet` and `nars` use them with an `AccuracyPredictor`.
"""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.predictive.accuracy import AccuracyPredictor, Prediction, PredictorErrors
    from fbnet_zoo.search.predictive.encoder import EncoderFeatures
    from fbnet_zoo.search.predictive.features import DecisionFeatures, StatisticFeatures, joined
    from fbnet_zoo.search.predictive.genetic import Generation, GeneticConfig, generations, genetic_search
    from fbnet_zoo.search.predictive.problem import Problem
    from fbnet_zoo.search.predictive.within import limited_problem

__all__ = [
    "AccuracyPredictor",
    "DecisionFeatures",
    "EncoderFeatures",
    "Generation",
    "GeneticConfig",
    "Prediction",
    "PredictorErrors",
    "Problem",
    "StatisticFeatures",
    "generations",
    "genetic_search",
    "joined",
    "limited_problem",
]

__getattr__, __dir__ = public_names(
    __name__,
    accuracy=(
        "AccuracyPredictor",
        "Prediction",
        "PredictorErrors",
    ),
    encoder=("EncoderFeatures",),
    features=(
        "DecisionFeatures",
        "StatisticFeatures",
        "joined",
    ),
    genetic=(
        "Generation",
        "GeneticConfig",
        "generations",
        "genetic_search",
    ),
    problem=("Problem",),
    within=("limited_problem",),
)
