"""The command `fbnet-zoo`: its subcommands in order, `list` and `show`, and what holds for all of them."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer import rich_utils
from typer.core import TyperGroup

from fbnet_zoo import interruption
from fbnet_zoo.cli import convert, deploy, evaluate, lint, options, oracle, predict, screen, show, space, train, verify
from fbnet_zoo.cli.bench.app import app as bench
from fbnet_zoo.cli.fitted_table import HelpTable
from fbnet_zoo.cli.lut.app import app as lut
from fbnet_zoo.cli.search import app as search
from fbnet_zoo.complexity import cost
from fbnet_zoo.registry import list_specs, resolve

_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_NETWORKS, _DEVICE, _TRAINING, _SEARCH = "Networks", "Onto a device", "Training", "Search"
ORDER = (
    *("list", "show", "predict"),
    *("convert", "deploy", "verify", "bench"),
    *("train", "eval"),
    *("search", "space", "lut", "oracle"),
    "lint",
)
"""The commands in the order in which a person meets them."""


class _Commands(TyperGroup):
    """Turns every error into one line on stderr and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> None:
        words = sys.argv[1:] if args is None else list(args)
        settings["standalone_mode"] = False
        _hide_types_of_flags(self)
        rich_utils.Table = HelpTable  # type: ignore[attr-defined]  # typer's own cuts names in narrow terminals
        with screen.opened():
            try:
                code = super().main(words or ["--help"], *rest, **settings)
            except Exception as error:  # the last place where it can be printed as one line
                code = interruption.received() or screen.report(error, as_json="--json" in words)
            if code and code in {screen.INTERRUPTED, interruption.received()}:
                screen.report_interruption(as_json="--json" in words)
            code = screen.finish(code)
        sys.exit(code)


def _hide_types_of_flags(command: Any) -> None:
    """Leave the column of types empty for flags, so that their names have room in narrow terminals."""
    help_option = command.get_help_option(typer.Context(command, **_HELP))
    help_option.help = "show this message and exit"
    for parameter in (*command.params, help_option):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _hide_types_of_flags(each)


app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False, context_settings=_HELP)


@app.callback()
def _root(version: options.Version = False) -> None:
    """The FBNet family of mobile image classifiers: definitions, PyTorch models, and files for phones."""


@app.command(
    "list",
    rich_help_panel=_NETWORKS,
    epilog=options.examples("list 'fbnetv3_*'", "list --family fbnetv2 --pretrained --json"),
)
def list_(
    pattern: options.Pattern = "*",
    family: options.InFamily = None,
    pretrained: options.Pretrained = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List the networks of the zoo, with their cost and published accuracy."""
    specs = list_specs(pattern, family=family, pretrained=pretrained)
    entries = [show.entry(spec, cost(spec)) for spec in specs]
    if as_json:
        screen.show_json({"models": entries})
    elif entries:
        screen.show(show.listing(entries, columns=screen.columns()))
    else:
        screen.say("note", "no network matches; PATTERN is a shell pattern, such as 'fbnetv3_*'", "cyan")


@app.command(
    "show",
    rich_help_panel=_NETWORKS,
    epilog=options.examples("show fbnet_b", "show FBNetV3_A --input-size 256 --layers", "show my_network.yaml"),
)
def show_(
    name: options.Name,
    input_size: options.InputSize = None,
    layers: options.Layers = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a definition, its cost, and published results and weights."""
    spec, tag = resolve(name)
    costs = cost(spec, input_size)
    if as_json:
        screen.show_json(show.details(spec, costs, tag=tag, with_layers=layers))
    else:
        screen.show(show.page(spec, costs, tag=tag, with_layers=layers))


app.command("predict", rich_help_panel=_NETWORKS, epilog=predict.EPILOG)(predict.command)
app.command("convert", rich_help_panel=_DEVICE, cls=convert.Command, epilog=convert.EPILOG)(convert.command)
app.command("deploy", rich_help_panel=_DEVICE, cls=deploy.Command, epilog=deploy.EPILOG)(deploy.command)
app.command("verify", rich_help_panel=_DEVICE, epilog=verify.EPILOG)(verify.command)
app.add_typer(bench, name="bench", rich_help_panel=_DEVICE)
app.command("train", rich_help_panel=_TRAINING, epilog=train.EPILOG)(train.command)
app.command("eval", rich_help_panel=_TRAINING, epilog=evaluate.EPILOG)(evaluate.command)
app.command("search", rich_help_panel=_SEARCH, epilog=search.EPILOG)(search.command)
app.add_typer(space.app, name="space", rich_help_panel=_SEARCH)
app.add_typer(lut, name="lut", rich_help_panel=_SEARCH)
app.add_typer(oracle.app, name="oracle", rich_help_panel=_SEARCH)
app.command("lint", rich_help_panel="Accelerators", epilog=lint.EPILOG)(lint.command)
