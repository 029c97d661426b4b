"""The tiny network in every format that this machine can run."""

import pytest
import torch

from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.program import export
from fbnet_zoo.model import FBNet


@pytest.fixture(scope="session")
def tiny_files(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    """A file for each target, with a manifest beside it if written by a converter. Do not modify them."""
    folder = tmp_path_factory.mktemp("tiny_files")
    artifacts = convert(shared_tiny_model, to=["onnx", "executorch"], out=folder)
    files = {each.target: each.path for each in artifacts} | {"torch": folder / "tiny.pt2"}
    torch.export.save(export(shared_tiny_model, ConvertOptions()).exported, files["torch"])
    return {
        target: ModelFile(path=path, name="tiny", target=target, precision="fp32") for target, path in files.items()
    }
