"""Training networks on data sets: recipes, the training loop, run folders, fine-tuning for int8, and evaluation."""

from fbnet_zoo.train.batches import Inputs
from fbnet_zoo.train.evaluate import Evaluation, evaluate
from fbnet_zoo.train.loop import EpochMetrics, fit
from fbnet_zoo.train.matching import inputs_of, matching_dataset
from fbnet_zoo.train.recipe import (
    Augmentation,
    Recipe,
    default_recipe,
    load_recipe,
    qat_recipe,
    recipe_over,
    require_ranges,
)
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.train.runs import Trained, train

__all__ = [
    "Augmentation",
    "EpochMetrics",
    "Evaluation",
    "Inputs",
    "Recipe",
    "RunFolder",
    "Trained",
    "default_recipe",
    "evaluate",
    "fit",
    "inputs_of",
    "load_recipe",
    "matching_dataset",
    "qat_recipe",
    "recipe_over",
    "require_ranges",
    "train",
]
