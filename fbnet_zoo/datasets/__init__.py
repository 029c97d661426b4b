"""Data sets of labelled images, each with a part to train on and a part held out."""

from fbnet_zoo.datasets.names import NAMES, open_dataset
from fbnet_zoo.datasets.records import Files, ImageDataset, ImageSet, Pixels, normalised

__all__ = ["NAMES", "Files", "ImageDataset", "ImageSet", "Pixels", "normalised", "open_dataset"]
