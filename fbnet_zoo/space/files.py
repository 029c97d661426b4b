"""Search spaces by name, and from YAML text to `Space`, with errors that name file and line."""

import functools
import itertools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fbnet_zoo import arch_file, planner, yaml_reader
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean, located
from fbnet_zoo.planner import ResolvedBlock
from fbnet_zoo.space.choices import Choices
from fbnet_zoo.space.places import Place, check_places
from fbnet_zoo.space.records import CandidateSpec, SpaceRow, SpaceSpec
from fbnet_zoo.space.space import Space
from fbnet_zoo.spec import LETTERS
from fbnet_zoo.yaml_reader import Node


def list_spaces() -> list[str]:
    """Return the names of the search spaces, sorted.

    >>> "fbnet" in list_spaces()
    True
    """
    folder = files("fbnet_zoo.arch_defs") / "spaces"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_space(name: str | Path) -> Space:
    """Return a search space by its name or the path of its YAML file.

    Raises:
        UnknownNameError: there is no such space.
        DefinitionError: the file is not a valid search space; the text gives the line and the reason.
        InputError: the file cannot be read.

    >>> load_space("fbnet_cifar").layers[0].name
    'stages.1.0'
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected the name or path of a search space; got {type(name).__name__}")
    if isinstance(name, Path) or name.lower().endswith((".yaml", ".yml")):
        return parse(yaml_reader.load_text(Path(name)), origin=str(name))
    if name not in list_spaces():
        hint = did_you_mean(name, list_spaces()) or f"; expected a .yaml file or one of {', '.join(list_spaces())}"
        raise UnknownNameError(f"no search space is named {name!r}{hint}")
    return _bundled(name)


@functools.cache
def _bundled(name: str) -> Space:
    resource = files("fbnet_zoo.arch_defs") / "spaces" / f"{name}.yaml"
    return parse(resource.read_text(encoding="utf-8"), origin=f"arch_defs/spaces/{name}.yaml")


def parse(text: str, origin: str = "<text>") -> Space:
    """Return the search space in a text, checked to give valid networks; `origin` is its name in errors.

    Raises:
        DefinitionError: the text is not a valid search space.
    """
    root = yaml_reader.read(text, origin)
    spec = yaml_reader.validate(SpaceSpec, _fields(root, origin), root, origin, LETTERS)
    space = Space(spec=spec)
    with yaml_reader.errors_at(root, origin, LETTERS):
        _check_networks(space)
    return space


def _fields(root: Node, origin: str) -> dict[str, Any]:
    """Return the fields of the record of a search space: letters spelled out, named entries as sequences."""
    data = arch_file.fields(root, origin, SpaceRow)
    for key, read in (("candidates", _candidate), ("variants", _variant), ("recipe", _recipe)):
        if key in root.entries:
            named = yaml_reader.mapping(root.entries[key], origin, f"a mapping of names to values in {key!r}")
            for node in named.values():
                if "name" in node.entries:
                    line = node.entries["name"].line
                    yaml_reader.fail(origin, line, "unknown key 'name': the name is the key of the entry; remove it")
            data[key] = tuple({"name": name, **read(node, origin)} for name, node in named.items())
    return data


def _candidate(node: Node, origin: str) -> dict[str, Any]:
    return arch_file.row_fields(node, origin, CandidateSpec)


def _variant(node: Node, origin: str) -> dict[str, Any]:
    parts = yaml_reader.mapping(node, origin, "a mapping for a variant, with parts of the space such as 'head'")
    return {
        key: arch_file.row_fields(part, origin) if key in {"stem", "head"} else part.plain()
        for key, part in parts.items()
    }


def _recipe(node: Node, _: str) -> dict[str, Any]:
    return {"values": node.plain()}


def _check_networks(space: Space) -> None:
    """Plan networks until every candidate and every variant was used; then check each place for itself.

    Raises:
        InputError: a network cannot be built; `location` is the row of the space.
    """
    check_places(space.layers, space.spec)
    previous = None
    for index in itertools.count():
        choices = space.draw(functools.partial(_nth, index))
        if choices == previous:
            break
        _check_network(space, choices)
        previous = choices
    for position, variant in enumerate(space.spec.variants):
        with located("variants", position):
            planner.plan(space.decode(choices.model_copy(update={"variant": variant.name})))
    rows = {layer.name: layer.location for layer in space.layers}
    for place in space.places():
        with located(*rows[place.name.removesuffix(".rest")]):
            _check_place(space, place)


def _check_place(space: Space, place: Place) -> None:
    """Refuse two names for one block, and groups that do not divide some of the channels."""
    names: dict[ResolvedBlock, str] = {}
    for name, block in place.blocks.items():
        if names.setdefault(block.row, name) != name:
            raise InputError(f"the candidates {names[block.row]!r} and {name!r} are the same block; remove one")
    for block in place.narrowed():
        if block.row.groups > 1 or block.row.depthwise_groups:
            space.plan(block)


def _nth(index: int, options: Sequence[Any]) -> Any:
    return options[min(index, len(options) - 1)]


def _check_network(space: Space, choices: Choices) -> None:
    try:
        planner.plan(space.decode(choices))
    except InputError as error:
        if "blocks" in error.location:
            chosen = zip(space.layers, choices.layers, strict=True)
            rows = [layer.location for layer, choice in chosen for _ in layer.rows(choice)]
            of_stage = [row for row in rows if row[1] == error.location[1]]
            error.location = of_stage[int(error.location[3])]
        raise
