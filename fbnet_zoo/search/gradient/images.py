"""The data of a search by gradients, from a data set."""

from collections.abc import Iterator

from fbnet_zoo.datasets import ImageDataset, ImageSet, Subset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.gradient.batches import Part, SearchData
from fbnet_zoo.search.images import Loading, split
from fbnet_zoo.train import Augmentation
from fbnet_zoo.train.batches import WHOLE, Batch, Shard, TrainingLoader, epoch_indices, seed_of


def search_data(dataset: ImageDataset, loading: Loading) -> SearchData:
    """Return a random split of a data set's training images: most for the weights, the rest for theta.

    Raises:
        InputError: a part has fewer images than a batch.
    """
    own, others = split(dataset, loading)
    return SearchData(
        weights=_part(Subset(dataset.train, own), loading, loading.augmentation, seed_of(loading.seed, 0)),
        theta=_part(Subset(dataset.train, others), loading, Augmentation(), seed_of(loading.seed, 1)),
    )


def _part(images: ImageSet, loading: Loading, augmentation: Augmentation, seed: int) -> Part:
    count, size = len(images.labels), loading.batch_size
    if count < size:
        raise InputError(f"{count} images are fewer than a batch of {size}; lower batch_size")

    loader = TrainingLoader(images, loading.inputs, augmentation, seed=seed, workers=loading.workers)

    def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
        chosen = epoch_indices(count, size, seed=seed, epoch=epoch)[first:, shard.rows(size)]
        return loader.batches(chosen, epoch=epoch)

    return Part(steps=count // size, batches=batches)
