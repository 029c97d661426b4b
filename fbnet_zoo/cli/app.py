"""The four commands, and what holds for all of them."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fbnet_zoo.cli import convert, deploy, evaluate, lint, network, options, predict, screen, show, space, train, verify
from fbnet_zoo.cli.bench.app import app as bench
from fbnet_zoo.cli.lut.app import app as lut
from fbnet_zoo.cli.search import app as search
from fbnet_zoo.complexity import cost
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.registry import list_specs, resolve

_INTERRUPTED = 130


class _Commands(TyperGroup):
    """Turns every error into one line on stderr and an exit code."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> None:
        words = sys.argv[1:] if args is None else list(args)
        settings["standalone_mode"] = False
        with screen.opened():
            try:
                code = super().main(words or ["--help"], *rest, **settings)
            except Exception as error:  # the last place where it can be said in one line
                code = screen.report(error, as_json="--json" in words)
            if code == _INTERRUPTED:
                screen.say("error", "interrupted", "bold red")
        sys.exit(code)


class _ConvertCommand(TyperCommand):
    """Lets several targets follow one `--to`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, convert.spread(args, "--to"))


app = typer.Typer(
    cls=_Commands, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
app.add_typer(bench, name="bench")
app.add_typer(lut, name="lut")
app.add_typer(space.app, name="space")
app.command("deploy", cls=deploy.Command, epilog=deploy.EPILOG)(deploy.command)
app.command("lint", epilog=lint.EPILOG)(lint.command)
app.command("eval", epilog=evaluate.EPILOG)(evaluate.command)
app.command("search", epilog=search.EPILOG)(search.command)
app.command("train", epilog=train.EPILOG)(train.command)
app.command("verify", epilog=verify.EPILOG)(verify.command)


def main() -> None:
    """Run the command line of this process."""
    app()


@app.callback()
def _root(version: options.Version = False) -> None:
    """The FBNet family of mobile image classifiers: definitions, PyTorch models and files for phones."""


@app.command("list", epilog=options.examples("list 'fbnetv3_*'", "list --family fbnetv2 --pretrained --json"))
def list_(
    pattern: options.Pattern = "*",
    family: options.InFamily = None,
    pretrained: options.Pretrained = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List the networks of the zoo, with what they cost and the accuracy that others published."""
    specs = list_specs(pattern, family=family, pretrained=pretrained)
    entries = [show.entry(spec, cost(spec)) for spec in specs]
    if as_json:
        screen.show_json({"models": entries})
    elif entries:
        screen.show(show.listing(entries, columns=screen.columns()))
    else:
        screen.say("note", "no network fits; PATTERN is a shell's, such as 'fbnetv3_*'", "cyan")


@app.command(
    "show",
    epilog=options.examples("show fbnet_b", "show FBNetV3_A --input-size 256 --layers", "show my_network.yaml"),
)
def show_(
    name: options.Name,
    input_size: options.InputSize = None,
    layers: options.Layers = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a definition, its cost, and the results and weights that others published."""
    spec, tag = resolve(name)
    costs = cost(spec, input_size)
    if as_json:
        screen.show_json(show.details(spec, costs, tag=tag, with_layers=layers))
    else:
        screen.show(show.page(spec, costs, tag=tag, with_layers=layers))


@app.command(
    "predict",
    epilog=options.examples(
        "predict fbnet_b dog.jpg cat.png",
        "predict fbnetv3_b *.jpg --weights hf://timm/fbnetv3_b.ra2_in1k --top 3",
        "predict my_network.yaml photo.jpg --weights my.safetensors --labels my.txt --json",
    ),
)
def predict_(  # noqa: PLR0913 - one per option
    name: options.Name,
    images: options.Images,
    weights: options.Weights = None,
    seed: options.Seed = None,
    top: options.Top = 5,
    labels: options.Labels = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Classify image files."""
    names = network.read_labels(labels) if labels else None
    predict.check_files(images)
    model = network.load(name, weights=weights, seed=seed, labels=names)
    if weights == network.NO_WEIGHTS:
        screen.say("warning", f"{model.spec.name} has weights from {model.weights}: its answers mean nothing", "yellow")
    results = predict.classify(model, images, labels=names, top=top, device=device)
    if as_json:
        about = {"model": model.spec.name, "weights": model.weights, "license": model.license}
        screen.show_json({**about, "images": results})
    else:
        screen.show(*predict.tables(results))
    raise typer.Exit(int(any("error" in result for result in results)))


@app.command(
    "convert",
    cls=_ConvertCommand,
    epilog=options.examples(
        "convert fbnet_b --to onnx coreml executorch --out build",
        "convert fbnet_a fbnet_b --to coreml --precision fp16 --image-input --out build",
        "convert fbnet_b --to onnx executorch --precision int8 --calibration my_photos --out build",
        "convert fbnetv3_a --to executorch --precision mixed --keep stem --keep '*.se' --out build",
        "convert my.yaml --weights none --seed 0 --to onnx --dynamic-batch --out build --json",
    ),
)
def convert_(  # noqa: PLR0913 - one per option
    context: typer.Context,
    names: options.Names,
    to: options.To,
    out: options.Out,
    weights: options.Weights = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    calibration: options.Calibration = None,
    keep: options.Keep = None,
    allow_degraded: options.AllowDegraded = False,
    batch: options.Batch = None,
    dynamic_batch: options.DynamicBatch = False,
    input_size: options.InputSize = None,
    labels: options.Labels = None,
    image_input: options.ImageInput = False,
    deployment_target: options.DeploymentTarget = None,
    opset: options.Opset = None,
    bundled: options.Bundled = False,
    backend: options.Backend = None,
    min_snr_db: options.MinSnr = None,
    max_error: options.MaxError = None,
    min_top1_agreement: options.MinTop1 = None,
    allow_unchecked: options.AllowUnchecked = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert networks, run every file again, and keep the files that compute what the PyTorch model computes."""
    chosen = _conversion_options(context.params)
    request = convert.Request(names=names, to=convert.split(to), out=out, weights=weights, seed=seed, options=chosen)
    records = convert.run(request)
    if as_json:
        screen.show_json({"files": records})
    else:
        screen.show(convert.table(records))
    raise typer.Exit(convert.exit_code(records))


def _conversion_options(params: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `ConvertOptions` among the options, those that were given."""
    given = {field.name: params.get(field.name) for field in fields(ConvertOptions)}
    given["labels"] = network.read_labels(Path(given["labels"])) if given["labels"] else None
    given["keep"] = tuple(given["keep"]) if given["keep"] else None
    return {name: value for name, value in given.items() if value is not None and value is not False}
