"""Data sets of labeled images, each with training and held-out images."""

from fbnet_zoo.data import normalised
from fbnet_zoo.datasets.layout import find_split
from fbnet_zoo.datasets.names import NAMES, open_dataset
from fbnet_zoo.datasets.reading import dataset_digest, read_each, read_images
from fbnet_zoo.datasets.records import Files, ImageDataset, ImageSet, Pixels, Subset, some_classes, with_classes
from fbnet_zoo.datasets.walker import SUFFIXES, find_images

__all__ = [
    "NAMES",
    "SUFFIXES",
    "Files",
    "ImageDataset",
    "ImageSet",
    "Pixels",
    "Subset",
    "dataset_digest",
    "find_images",
    "find_split",
    "normalised",
    "open_dataset",
    "read_each",
    "read_images",
    "some_classes",
    "with_classes",
]
