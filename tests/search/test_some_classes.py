"""A search with the images of some classes, whose network is trained with all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fbnet_zoo import create
from fbnet_zoo.datasets import ImageDataset, some_classes
from fbnet_zoo.errors import InputError
from fbnet_zoo.search import SearchJob, run_search, train_best
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.marks import first_is_quick
from tests.helpers.search_spaces import nano_space
from tests.helpers.training import RECIPE

LIMITS = {"macs": 45_000.0}
CONFIGS: list[MethodConfig] = [
    DnasConfig(epochs=2, warmup_epochs=1, penalty=None, limits=LIMITS, samples=1, candidates=3, split_seed=5),
    RandomConfig(budget=2, train_epochs=1, limits=LIMITS, split_seed=5),
]


def job(config: MethodConfig, dataset: ImageDataset, classes: int | None = 4) -> SearchJob:
    return SearchJob(
        space=nano_space(),
        dataset=dataset,
        config=config,
        recipe=RECIPE.model_copy(update={"epochs": 1}),
        batch_size=8,
        classes=classes,
    )


@pytest.mark.parametrize("config", first_is_quick(CONFIGS), ids=lambda config: config.method)
def test_the_network_is_trained_with_all(config: MethodConfig, few_digits: ImageDataset, tmp_path: Path) -> None:
    asked = job(config, few_digits)
    run = train_best(run_search(asked, tmp_path), asked)
    data = run.record.data
    assert data is not None
    assert data.classes == len(data.class_names) == 4
    assert set(data.class_names) < set(few_digits.classes)
    images = sum(few_digits.classes[label] in data.class_names for label in few_digits.train.labels.tolist())
    assert data.weights + data.selection == images
    assert create(tmp_path / "result.yaml", pretrained=True, num_classes=10).class_names == few_digits.classes
    whole = replace(asked, classes=None)
    limited = {name: cost.of(run.record.best.positions) for name, cost in whole.costs(_encoding(whole)).items()}
    assert run.record.best.costs == limited, "costs are those of the network with all classes"


def _encoding(job: SearchJob) -> object:
    from fbnet_zoo.search import METHODS

    return METHODS[job.config.method].load().encoding(job)


def test_the_supernet_has_some_outputs(few_digits: ImageDataset, tmp_path: Path) -> None:
    run_search(job(CONFIGS[0], few_digits), tmp_path)
    saved = RunFolder(tmp_path).load()
    assert saved is not None
    assert [value.shape[0] for name, value in saved["supernet"].items() if name == "classifier.bias"] == [4]


@pytest.mark.parametrize("seed", range(3))
def test_images_keep_their_classes(few_digits: ImageDataset, seed: int) -> None:
    found = some_classes(few_digits, 3, seed=seed)
    assert list(found.classes) == [name for name in few_digits.classes if name in found.classes]
    for part, whole in ((found.train, few_digits.train), (found.held_out, few_digits.held_out)):
        kept = [at for at, label in enumerate(whole.labels.tolist()) if few_digits.classes[label] in found.classes]
        assert len(part.labels) == len(kept)
        for new, old in enumerate(kept):
            assert found.classes[int(part.labels[new])] == few_digits.classes[int(whole.labels[old])]
            assert torch.equal(torch.as_tensor(part.image(new)), torch.as_tensor(whole.image(old)))


def test_seeds_draw_other_classes(few_digits: ImageDataset) -> None:
    assert len({some_classes(few_digits, 5, seed=seed).classes for seed in range(20)}) > 10


@pytest.mark.parametrize("count", [1, 11])
def test_a_number_of_classes_that_there_is_not(few_digits: ImageDataset, count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"few_digits has 10 classes, of which {count} cannot be drawn; expected 2 to"):
        run_search(job(CONFIGS[0], few_digits, classes=count), tmp_path / "run")
    assert not (tmp_path / "run").exists()
