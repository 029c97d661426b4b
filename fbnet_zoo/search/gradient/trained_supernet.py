"""The supernet of a completed search as an evaluator of networks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fbnet_zoo import arch_file
from fbnet_zoo.class_names import difference
from fbnet_zoo.datasets import dataset_digest
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.evaluator import SupernetEvaluator
from fbnet_zoo.search.gradient.images import search_data
from fbnet_zoo.search.gradient.method import GradientMethod
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.space.encoding import Decision, Encoding, Positions
from fbnet_zoo.train import Augmentation
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """An evaluator with the weights of the supernet of a completed search.

    Attributes:
        evaluator: evaluator with the encoding of that search.
        encoding: encoding of the networks to evaluate, which may omit decisions with one option.
        about: how accuracy is determined, in words.
    """

    evaluator: SupernetEvaluator
    encoding: Encoding
    about: str
    candidates: None = None

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Return the accuracy of each network, percent."""
        own = self.evaluator.supernet.encoding
        return self.evaluator.top1([own.positions(self.encoding.choices(each)) for each in networks])


def trained_supernet(run: Path, job: SearchJob, encoding: Encoding, *, device: str = "cpu") -> TrainedSupernet:
    """Return an evaluator with the weights of the supernet in a run folder.

    Batch norm is recalibrated, and accuracy measured, on the two parts of the images of that search: none of the second
    part was used to train the weights.

    Args:
        run: folder of a `dnas` or `dmasking` search of the same space.
        job: the search that needs the evaluator, with the same data set.
        encoding: encoding of the job's space.
        device: device to compute on.

    Raises:
        InputError: the folder holds no such search, or one of another space or data set.
    """
    before = _config(run)
    content = json.dumps({"method": before["method"], **before["search"]})
    config = METHODS[before["method"]].config.model_validate_json(content)
    if not isinstance(config, GradientConfig):
        raise InputError(f"{run} is a run of {config.method}, which has no supernet; expected one of dnas or dmasking")
    augmentation = Augmentation.model_validate(before["augmentation"])
    own = replace(
        job,
        config=config,
        input_size=before["input_size"],
        batch_size=before["batch_size"],
        recipe=job.recipe.model_copy(update={"augmentation": augmentation}),
    )
    method = METHODS[before["method"]].load()
    assert isinstance(method, GradientMethod)  # noqa: S101 - `METHODS` pairs method and config
    _check(run, before, own, encoding, method.encoding(own))
    supernet, saved = method.supernet(own), RunFolder(run).load()
    if saved is None:
        raise InputError(f"{run} has no checkpoint.pt; expected the folder of a dnas or dmasking search")
    supernet.load_state_dict(saved["supernet"])
    supernet.to(device=device)
    evaluator = SupernetEvaluator(
        supernet=supernet,
        data=search_data(own.required_dataset, own.loading),
        recalibration_batches=config.recalibration_batches,
        processes=Processes(device=device),
    )
    about = f"with the weights of the supernet in {run.name}"
    return TrainedSupernet(evaluator=evaluator, encoding=encoding, about=about)


def _open(encoding: Encoding) -> list[Decision]:
    return [decision for decision in encoding.decisions if len(decision.options) > 1]


def _config(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run} is not the folder of a search: its config.json cannot be read") from error


def _check(run: Path, before: dict[str, Any], job: SearchJob, encoding: Encoding, own: Encoding) -> None:
    dataset, data = job.required_dataset, before["data"]
    if before["definition"] != arch_file.dump(job.space.frame) or _open(own) != _open(encoding):
        raise InputError(f"{run} searched {before['space']}, whose definition is not that of {job.space.name} here")
    if data["classes"] != job.num_classes or data["name"] != dataset.name:
        raise InputError(f"{run} was searched with {data['name']}; use the same --data")
    if (names := data.get("class_names", list(dataset.classes))) != list(dataset.classes):
        raise InputError(
            f"{run} was searched with other classes than those of {dataset.name}: "
            f"{difference(names, dataset.classes)}; use the same --data"
        )
    if "images_sha256" in data and data["images_sha256"] != dataset_digest(dataset):
        raise InputError(f"{run} was searched with other images of the name {dataset.name}; use the same --data")
