"""Every reader of files and of what other programs print, in one table: a valid input, and what is done with it."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console, RenderableType
from safetensors.numpy import save as save_arrays

from fbnet_zoo import arch_file, complexity
from fbnet_zoo.benchmarks import store, zoo_results
from fbnet_zoo.benchmarks.devices import apple_process
from fbnet_zoo.benchmarks.devices.apple_process import CoreMLRequest, CoreMLResult
from fbnet_zoo.benchmarks.devices.command import Output
from fbnet_zoo.benchmarks.lut.network_figures import read_figures
from fbnet_zoo.cli import network
from fbnet_zoo.cli.bench import compare
from fbnet_zoo.cli.bench import profile as bench_profile
from fbnet_zoo.cli.lut import networks, show
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.deploy.record import Bundle, Deployed, FileEntry
from fbnet_zoo.deploy.reference import ReferenceImages
from fbnet_zoo.latency.checks import table_warnings
from fbnet_zoo.latency.files import load_table, table_text
from fbnet_zoo.latency.importers.hw_nas_bench import read_hw_nas_bench
from fbnet_zoo.latency.importers.mobile_vision import read_mobile_vision
from fbnet_zoo.report import files as report_files
from fbnet_zoo.report import profile_page, search_page
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.importers import import_table
from fbnet_zoo.search.oracle import read_oracle
from fbnet_zoo.search.record import load_record
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import load_space
from fbnet_zoo.train import RunFolder, load_recipe
from fbnet_zoo.train.loop import EpochMetrics
from fbnet_zoo.train.recipe import Recipe, load_over
from fbnet_zoo.weights import checkpoints
from tests.helpers.latency_tables import LATENCIES, table
from tests.helpers.measurements import measurement
from tests.helpers.paths import TINY
from tests.helpers.published_accuracies import published_archive, published_csv, published_results
from tests.helpers.report_records import CASES, manifest, profile
from tests.helpers.search_oracles import table as known_accuracies
from tests.helpers.search_records import course, search_record
from tests.helpers.search_spaces import NANO, POINTS, nano_space
from tests.helpers.training import TINY as TINY_16

RUN = {"network": "tiny", "recipe": {"epochs": 3, "lr": 0.004}, "classes": ["a", "b"]}
VERSIONS = {"fbnet_zoo": "0.1.0"}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader of one file.

    Attributes:
        file: name of the file.
        content: a valid content.
        read: reads the file and uses what is in it.
        is_text: whether a byte-order mark may precede the content.
    """

    file: str
    content: Callable[[], str | bytes]
    read: Callable[[Path], object]
    is_text: bool = True

    @property
    def valid(self) -> bytes:
        """The valid content."""
        content = self.content()
        return content.encode() if isinstance(content, str) else content


def _dumped(content: Any) -> str:
    return json.dumps(content)


def _printed(*what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(*what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _table(path: Path) -> object:
    found = load_table(path)
    return _printed(*show.page(found, found.operators)), _dumped(show.details(found)), table_warnings(found)


def _manifest(path: Path) -> object:
    found = Manifest.load(path)
    return [kind([found]) for kind in (report_files.files, report_files.parity, report_files.quantization)]


def bundle(**changes: Any) -> Bundle:
    """Return the manifest of a bundle for onnxruntime."""
    files = {name: FileEntry(size=3, sha256="0" * 64) for name in ("onnx/model.onnx", "onnx/classify.py", "labels.txt")}
    deployed = Deployed(
        platform="onnx",
        path="onnx/model.onnx",
        snippets=("classify.py",),
        manifest=manifest(),
        on_reference=CASES[0],
    )
    fields: dict[str, Any] = {
        "model": "tiny",
        "weights": None,
        "license": None,
        "created": "2026-03-04T05:06:07+00:00",
        "labels": "class numbers",
        "deployed": (deployed,),
        "versions": VERSIONS,
        "files": files,
    }
    return Bundle(**fields | changes)


def sealed(content: bytes) -> bytes:
    """Return the manifest of a bundle with the right digest in it, whatever else it says."""
    try:
        data = json.loads(content)
        text = json.dumps(data | {"sha256": "0" * 64})
    except (ValueError, TypeError):
        return content
    return text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


def _bundle(path: Path) -> Bundle:
    path.write_bytes(sealed(path.read_bytes()))
    path.rename(path.with_name("manifest.json"))
    return Bundle.load(path.parent)


def _reference(path: Path) -> ReferenceImages:
    path.rename(path.with_name("reference.safetensors"))
    return ReferenceImages.load(path.parent)


def _pixels() -> bytes:
    return save_arrays({"pixels": np.zeros((2, 8, 8, 3), np.uint8), "logits": np.ones((2, 10), np.float32)})


def _profile(path: Path) -> object:
    found = bench_profile.read(path)
    return profile_page(found), _printed(bench_profile.page(found, top=3))


def _onnxruntime() -> str:
    node = {"op_name": "Conv", "provider": "CPUExecutionProvider"}
    events = [{"name": "model_loading_uri", "ts": 0, "dur": 700}]
    for run in range(3):
        events += [
            {"name": "model_run", "ts": 1000 * run + 1000, "dur": 900},
            {"name": "stem_kernel_time", "ts": 1000 * run + 1100, "dur": 500, "args": node},  # type: ignore[dict-item]
        ]
    return _dumped(events)


def _search(path: Path) -> str:
    record = load_record(path)
    return search_page(record, course(record), arch_file.parse(TINY_16))


def _store(path: Path) -> object:
    return [compare.grouped(store.read(path)), read_figures(path)]


def _mobile_vision() -> str:
    line = {
        "op_type": "Int8Conv",
        "op_args": ['name: "kernel" i: 3', 'name: "stride" i: 2', 'name: "pad" i: 1', 'name: "order" s: "NHWC"'],
        "input_shapes": [[1, 224, 224, 3], [16, 3, 3, 3], [16]],
        "device": "phone",
        **{f"runtime_us_p{share}": 100 + share for share in (0, 10, 50, 90)},
    }
    return "".join(
        _dumped(line | {"input_shapes": [[1, 56 * at, 56 * at, 3], [16, 3, 3, 3], [16]]}) + "\n" for at in (1, 2)
    )


def _hw_nas_bench() -> str:
    keys = ("ConvBlock_H32_W32_Cin16_Cout24_exp6_kernel3_stride1_group1", "FC_Cin1504_Cout100")
    return _dumped({"pixel3_latency": dict.fromkeys(keys, 0.25), "pixel3_energy": dict.fromkeys(keys, 3.5)})


def _predictor() -> str:
    with LATENCIES.open(encoding="utf-8") as file:
        rows = [row for row, _ in zip(csv.reader(file), range(5), strict=False)]
    return "".join(",".join(row) + "\n" for row in rows)


def _read_predictor(path: Path) -> object:
    return networks.read_networks(path, key="choices", columns=["pixel3"], space="fbnet_cifar", classes=100)


def _oracle(path: Path) -> object:
    found = read_oracle(path, Encoding(nano_space()))
    return [each.least for each in found.costs()]


def _import(path: Path) -> object:
    return import_table("accel-nasbench", path).text


def _folder(path: Path, name: str) -> RunFolder:
    path.rename(path.with_name(name))
    return RunFolder(path.parent)


def _resumed(path: Path) -> None:
    with _folder(path, "config.json").claimed(RUN, VERSIONS, resume=True):
        pass


def _metrics() -> str:
    line = {"loss": 2.3, "train_top1": 10.0, "top1": None, "lr": 0.004, "seconds": 1.5}
    return "".join(_dumped({"epoch": epoch, "step": 8 * epoch, **line}) + "\n" for epoch in (1, 2, 3))


def _evaluations() -> str:
    line = {"seconds": 1.5, "top1": 50.0, "best": 60.0, "costs": {"macs": 1000.0}}
    return "".join(_dumped({"step": step, "positions": [0, 1, step], **line}) + "\n" for step in (1, 2, 3))


def _definition(path: Path) -> object:
    found = arch_file.load(path)
    return arch_file.dump(found), complexity.cost(found)


def _counted() -> str:
    spec = arch_file.parse(TINY_16)
    cost = complexity.cost(spec)
    return f"{TINY_16}counts: {{params: {cost.params}, macs: {cost.macs}}}\n"


def _space(path: Path) -> object:
    space = load_space(path)
    return space.decode(space.sample(0))


def _checkpoint(suffix: str) -> bytes:
    spec = arch_file.load(TINY)
    values = {name: torch.rand(shape) for name, shape in _shapes(spec).items()}
    if suffix == ".pth":
        file = io.BytesIO()
        torch.save(values, file)
        return file.getvalue()
    return save_arrays({name: value.numpy() for name, value in values.items()})


def _shapes(spec: Any) -> dict[str, tuple[int, ...]]:
    from fbnet_zoo.model import FBNet

    return {name: tuple(value.shape) for name, value in FBNet(spec, num_classes=3, init=False).state_dict().items()}


def _weights(path: Path) -> object:
    return checkpoints.read(path, (arch_file.load(TINY),)).num_classes


def _core_ml(path: Path) -> object:
    def run(command: Sequence[str], _: float) -> Output:
        path.rename(command[-1])
        return Output(exit_code=0, stdout=b"", stderr=b"")

    request = CoreMLRequest(model="net.mlpackage", compute_units="all", runs=2)
    return apple_process.execute(run, request, (), timeout_s=1).samples_ms


_LABELS = "zero\nun café\n日本\n"
_RECIPE = "epochs: 3\nlr: 0.01\naugmentation: {degrees: 10, flip: true}\n"
_CONFIG = "epochs: 3\nwarmup_epochs: 1\ntemperature: {start: 4.0}\n"

READERS: dict[str, Reader] = {
    "definition": Reader(file="net.yaml", content=_counted, read=_definition),
    "space": Reader(file="nano.yaml", content=lambda: NANO, read=_space),
    "recipe": Reader(file="recipe.yaml", content=lambda: _RECIPE, read=lambda path: load_recipe(path, Recipe())),
    "search settings": Reader(file="s.yaml", content=lambda: _CONFIG, read=lambda path: load_over(path, DnasConfig())),
    "labels": Reader(file="labels.txt", content=lambda: _LABELS, read=network.read_labels),
    "latency table": Reader(file="t.json", content=lambda: table_text(table(1.0, 2.5)), read=_table),
    "hw_nas_bench": Reader(
        file="hw.json",
        content=_hw_nas_bench,
        read=partial(read_hw_nas_bench, name="pixel3", metric="pixel3_latency"),
    ),
    "mobile_vision": Reader(
        file="lut.json", content=_mobile_vision, read=partial(read_mobile_vision, name="s8", source="a test")
    ),
    "latencies": Reader(file="p.csv", content=_predictor, read=_read_predictor),
    "accuracies": Reader(
        file="known.csv",
        content=lambda: known_accuracies(Encoding(nano_space()), POINTS[:4], energy=lambda row: 1.0 + sum(row)),
        read=_oracle,
    ),
    "published accuracies": Reader(file="anb.csv", content=lambda: published_csv(2), read=_import),
    "archive of accuracies": Reader(
        file="anb.tar.gz", content=lambda: published_archive(published_results(2)), read=_import, is_text=False
    ),
    "measurements": Reader(
        file="m.jsonl", content=lambda: "".join(measurement().model_dump_json() + "\n" for _ in range(3)), read=_store
    ),
    "results of the zoo": Reader(
        file="zoo.jsonl",
        content=lambda: zoo_results.RESULTS.read_text(encoding="utf-8").partition("\n")[0] + "\n",
        read=zoo_results.read,
    ),
    "profile": Reader(file="p.json", content=lambda: profile().model_dump_json(), read=_profile),
    "profile of onnxruntime": Reader(file="o.json", content=_onnxruntime, read=_profile),
    "manifest": Reader(file="net.onnx.json", content=lambda: manifest().model_dump_json(), read=_manifest),
    "manifest of a bundle": Reader(file="manifest.in", content=lambda: bundle().model_dump_json(), read=_bundle),
    "reference": Reader(file="reference.in", content=_pixels, read=_reference, is_text=False),
    "search.json": Reader(file="search.json", content=lambda: search_record().model_dump_json(), read=_search),
    "config.json": Reader(
        file="config.in",
        content=lambda: _dumped({"config": RUN, "versions": VERSIONS}),
        read=_resumed,
    ),
    "metrics of a training": Reader(
        file="metrics.in", content=_metrics, read=lambda path: _folder(path, "metrics.jsonl").read(EpochMetrics)
    ),
    "metrics of a search": Reader(
        file="metrics.in", content=_evaluations, read=lambda path: _folder(path, "metrics.jsonl").read(EvaluatedNetwork)
    ),
    "result of Core ML": Reader(
        file="answer.json", content=lambda: CoreMLResult(samples_ms=(1.0, 2.0)).model_dump_json(), read=_core_ml
    ),
    "weights": Reader(file="w.safetensors", content=partial(_checkpoint, ".safetensors"), read=_weights, is_text=False),
    "weights of PyTorch": Reader(file="w.pth", content=partial(_checkpoint, ".pth"), read=_weights, is_text=False),
}
"""Name of each kind of file to its reader."""
