"""Data sets of labeled images, each with training and held-out images."""

from fbnet_zoo.data import normalised
from fbnet_zoo.datasets.names import NAMES, open_dataset
from fbnet_zoo.datasets.records import Files, ImageDataset, ImageSet, Pixels

__all__ = ["NAMES", "Files", "ImageDataset", "ImageSet", "Pixels", "normalised", "open_dataset"]
