"""`fbnet-zoo space`: list, show and sample search spaces."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fbnet_zoo import arch_file
from fbnet_zoo.cli import options, screen
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.space import Space, list_spaces, load_space
from fbnet_zoo.space.choices import short
from fbnet_zoo.space.layers import words

app = typer.Typer()


def _complete_space(incomplete: str) -> list[str]:
    return [name for name in list_spaces() if name.startswith(incomplete)]


SpaceName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="search space, or path of its YAML file", autocompletion=_complete_space),
]
SampleSeed = Annotated[
    int, typer.Option("--seed", metavar="N", callback=options.in_range, help="seed of the random choices")
]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="write the definition to this .yaml file")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """List, show and sample search spaces."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list", epilog=options.examples("space list", "space list --json"))
def list_(as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """List the search spaces, with the number of networks in each."""
    spaces = [load_space(name) for name in list_spaces()]
    if as_json:
        screen.show_json({"spaces": [_entry(space) for space in spaces]})
        return
    table = screen.table("name", "family", "px", ">layers", ">networks")
    for space in spaces:
        sizes = words(space.spec.input_size)
        count = f"{space.size():.2e}"
        table.add_row(Text(space.name, style="bold"), space.spec.family, sizes, str(len(space.layers)), count)
    screen.show(table)


@app.command("show", epilog=options.examples("space show fbnet", "space show my_space.yaml --json"))
def show_(name: SpaceName, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Show the options of each layer of a search space."""
    from fbnet_zoo.space.encoding import Encoding

    space = load_space(name)
    if as_json:
        layers = [{"name": layer.name, "choices": layer.size(), "offer": layer.offer()} for layer in space.layers]
        definition = space.spec.model_dump(mode="json", exclude_unset=True)
        decisions = [decision.model_dump(mode="json") for decision in Encoding(space).decisions]
        about = {**_entry(space), "layers": layers, "decisions": decisions, **_recipe_decisions(space)}
        screen.show_json({**about, "operators": len(space.operators()), "space": definition})
    else:
        screen.show(_page(space))


@app.command(
    "sample",
    epilog=options.examples("space sample digits_tiny --seed 3", "space sample fbnet --seed 0 --out mine.yaml"),
)
def sample_(
    name: SpaceName,
    seed: SampleSeed = 0,
    out: Out = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Print or write the definition of a random network of a search space."""
    if out is not None and out.suffix not in {".yaml", ".yml"}:
        raise InputError(f"--out cannot be {out}; expected a .yaml or .yml file")
    space = load_space(name)
    choices = space.sample(seed)
    arch = space.decode(choices)
    if out is not None:
        arch_file.save(arch, out)
        screen.say("note", f"wrote {arch.name} to {out}: {choices}", "cyan")
    if as_json:
        costs = cost(arch)
        counts = {"params": costs.params, "macs": costs.macs, "input_size": costs.input_size}
        chosen = choices.model_dump(mode="json", exclude_none=True)
        screen.show_json({"name": arch.name, "seed": seed, "choices": chosen, "cost": counts, "file": out and str(out)})
    elif out is None:
        typer.echo(arch_file.dump(arch), nl=False)


def _recipe_decisions(space: Space) -> dict[str, Any]:
    """Return the decisions that a joint search adds to those of the network, if there are any."""
    if not space.spec.recipe:
        return {}
    from fbnet_zoo.search.joint import JointEncoding

    encoding = JointEncoding(space)
    added = encoding.decisions[len(encoding.decided) :]
    return {"recipe_decisions": [decision.model_dump(mode="json") for decision in added]}


def _entry(space: Space) -> dict[str, Any]:
    return {
        "name": space.name,
        "family": space.spec.family,
        "summary": space.spec.summary,
        "input_sizes": list(space.spec.input_size),
        "size": str(space.size()),  # as a JSON number it would lose digits
    }


def _page(space: Space) -> Group:
    spec = space.spec
    table = screen.table("layer", "choose from", "channels", ">choices")
    table.add_row("stem", "", words(spec.stem.out_channels), str(len(spec.stem.out_channels)))
    for layer in space.layers:
        options = layer.options().items()
        open_values = [f"{short(field)} {words(values)}" for field, values in options if field != "out_channels"]
        offer = "; ".join(filter(None, (" ".join(layer.candidates), *open_values)))
        table.add_row(layer.name, offer, words(layer.row.out_channels), f"{layer.size():,}")
    table.add_row("head", "", words(spec.head.out_channels), str(len(spec.head.out_channels)))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("networks", f"{space.size():,}")
    facts.add_row("image", f"{words(spec.input_size)} px")
    for variant in spec.variants:
        facts.add_row("variant", variant.name)
    for value in spec.recipe:
        facts.add_row("recipe", f"{value.name}: {words(value.values)}")
    return Group(Text(spec.summary), facts, Text(), table, *(Text(f"- {sentence}") for sentence in spec.deviations))
