"""Space files: names, YAML text to `Space`, and what is wrong with them."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fbnet_zoo import arch_file, planner, yaml_reader
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean
from fbnet_zoo.space.choices import Choices
from fbnet_zoo.space.places import Place
from fbnet_zoo.space.records import CandidateSpec, RestSpec, SpaceRow, SpaceSpec
from fbnet_zoo.space.space import Space
from fbnet_zoo.spec import LETTERS, BlockSpec
from fbnet_zoo.yaml_reader import Node


def list_spaces() -> list[str]:
    """Return the names of the search spaces, sorted.

    >>> "fbnet" in list_spaces()
    True
    """
    folder = files("fbnet_zoo.arch_defs") / "spaces"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_space(name: str | Path) -> Space:
    """Return the search space of a name or a YAML path.

    Raises:
        UnknownNameError: there is no such space.
        DefinitionError: the file is no valid search space; the text says where and why.
        InputError: the file cannot be read.

    >>> load_space("fbnet_cifar").layers[0].name
    'stages.1.0'
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected a name or a path of a search space; got {type(name).__name__}")
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
    """Turn the text of a space file into a space, all of whose values lead to networks; `origin` names it in errors.

    Raises:
        DefinitionError: the text is no valid search space.
    """
    root = yaml_reader.read(text, origin)
    spec = yaml_reader.validate(SpaceSpec, _fields(root, origin), root, origin, LETTERS)
    space = Space(spec=spec)
    try:
        _check_networks(space)
    except InputError as error:
        yaml_reader.fail(origin, yaml_reader.line_of(root, error.location, LETTERS), str(error))
    return space


def _fields(root: Node, origin: str) -> dict[str, Any]:
    """Turn the document's layout into the record's: letters spelled out, named entries as sequences."""
    data = arch_file.fields(root, origin, SpaceRow)
    entries = root.value if isinstance(root.value, dict) else {}
    for key, kind in (("candidates", _candidate), ("variants", _variant), ("recipe", _recipe)):
        if key in entries:
            named = entries[key].value
            if not isinstance(named, dict):
                yaml_reader.fail(origin, entries[key].line, f"{key!r} is no mapping; expected names, each with a value")
            data[key] = tuple({"name": name, **kind(node, origin)} for name, node in named.items())
    for stage, node in zip(data.get("stages", ()), _values(entries.get("stages")), strict=True):
        for row, row_node in zip(stage["blocks"], _values(node), strict=True):
            rest = row_node.value.get("rest") if isinstance(row_node.value, dict) else None
            if rest is not None:
                row["rest"] = arch_file.row_fields(rest, origin, RestSpec)
    return data


def _refuse_name(node: Node, origin: str) -> None:
    if isinstance(node.value, dict) and "name" in node.value:
        yaml_reader.fail(origin, node.value["name"].line, "unknown key 'name': the name stands in front; take it out")


def _values(node: Node | None) -> list[Node]:
    if node is None or not isinstance(node.value, dict | list):
        return []
    return list(node.value.values()) if isinstance(node.value, dict) else node.value


def _candidate(node: Node, origin: str) -> dict[str, Any]:
    _refuse_name(node, origin)
    return arch_file.row_fields(node, origin, CandidateSpec)


def _variant(node: Node, origin: str) -> dict[str, Any]:
    _refuse_name(node, origin)
    if not isinstance(node.value, dict):
        yaml_reader.fail(origin, node.line, "a variant is no mapping; expected parts of the space, such as 'head'")
    return {
        key: arch_file.row_fields(part, origin) if key in {"stem", "head"} else part.plain()
        for key, part in node.value.items()
    }


def _recipe(node: Node, _: str) -> dict[str, Any]:
    return {"values": node.plain()}


def _check_networks(space: Space) -> None:
    """Build networks until every candidate and every variant was in one; check what their combinations decide.

    Raises:
        InputError: a network cannot be built; `location` leads to the row of the space.
    """
    previous = None
    for index in itertools.count():
        choices = space.draw(functools.partial(_nth, index))
        if choices == previous:
            break
        _check_network(space, choices)
        previous = choices
    for position, variant in enumerate(space.spec.variants):
        with _at("variants", position):
            planner.plan(space.decode(choices.model_copy(update={"variant": variant.name})))
    rows = {layer.name: layer.location for layer in space.layers}
    for place in space.places():
        with _at(*rows[place.name.removesuffix(".rest")]):
            _check_place(space, place)


def _check_place(space: Space, place: Place) -> None:
    """Refuse two names of one block, and groups that do not divide some of the channels."""
    names: dict[BlockSpec, str] = {}
    for name, block in place.blocks.items():
        if names.setdefault(block.row, name) != name:
            raise InputError(f"the candidates {names[block.row]!r} and {name!r} are the same block; take one out")
    for block in place.narrowed():
        if block.row.groups > 1 or block.row.depthwise_groups is not None:
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


@contextmanager
def _at(*location: str | int) -> Iterator[None]:
    """Tell where in the file's record an error of this part stands."""
    try:
        yield
    except InputError as error:
        error.location = location
        raise
