"""From names to definitions: bundled entries, those of the user's own zoo, and those registered in this process.

Definitions, and pydantic, which validates them, are loaded on demand: names alone take milliseconds.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from fbnet_zoo import own_zoo
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.spec import ArchSpec, Family


class _Registered(NamedTuple):
    """A registered definition and the folder of its file."""

    spec: ArchSpec
    folder: Path


_registered: dict[str, _Registered] = {}


def list_models(pattern: str = "*", *, family: Family | None = None, pretrained: bool | None = None) -> list[str]:
    """Return the sorted names of the entries: bundled ones, those of the user's own zoo and registered ones.

    Without `family` and `pretrained`, no definition is read, so that invalid files of the own zoo are included.

    Args:
        pattern: shell pattern for the names, such as `fbnetv3_*`.
        family: family of the entries (default: any).
        pretrained: only entries with (`True`) or without (`False`) weights (default: both).

    Raises:
        UnknownNameError: there is no such family.

    >>> list_models("fbnet_[ab]")
    ['fbnet_a', 'fbnet_b']
    """
    if family is None and pretrained is None:
        return _names(pattern)
    return [spec.name for spec in list_specs(pattern, family=family, pretrained=pretrained)]


def list_specs(
    pattern: str = "*", *, family: Family | None = None, pretrained: bool | None = None
) -> tuple[ArchSpec, ...]:
    """Return the definitions of `list_models`; an invalid file of the own zoo is left out, with a warning.

    Raises:
        UnknownNameError: there is no such family.
    """
    _check_family(family)
    return tuple(spec for spec in _specs(_names(pattern)) if _matches(spec, family, pretrained))


@functools.cache
def bundled() -> tuple[str, ...]:
    """Return the sorted names of the entries in the package."""
    folder = files("fbnet_zoo.arch_defs")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def get_spec(name: str | Path) -> ArchSpec:
    """Return the definition of a name, an alias, a `name.tag` or a YAML path.

    Raises:
        UnknownNameError: there is no such entry or tag.
        DefinitionError: the file is not a valid definition.
        InputError: the file cannot be read, or `name` is neither a name nor a path.

    >>> get_spec("FBNetV3_A").name
    'fbnetv3_a'
    """
    return resolve(name)[0]


def resolve(name: str | Path) -> tuple[ArchSpec, str | None]:
    """Return the definition and the weights tag (`None` without one) of a name as in `get_spec`.

    Raises:
        UnknownNameError: there is no such entry or tag.
        DefinitionError: the file is not a valid definition.
        InputError: the file cannot be read, or `name` is neither a name nor a path.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected the name or path of a definition; got {type(name).__name__}")
    if isinstance(name, Path) or _is_path(name):
        from fbnet_zoo import arch_file

        return arch_file.load(Path(name)), None
    if "/" in name or "\\" in name:
        raise InputError(f"{name!r} is not the path of a definition; expected a .yaml or .yml file")
    base, dot, tag = name.partition(".")
    spec = _find(base, name)
    tags = [entry.tag for entry in spec.weights]
    if dot and tag not in tags:
        offer = tag_hint(spec, tag) or f"; it has {', '.join(tags) or 'no published weights'}"
        raise UnknownNameError(f"{spec.name} has no weights {tag!r}{offer}")
    return spec, tag or None


def published_top1(spec: ArchSpec) -> float | None:
    """Return the ImageNet-1k top-1, percent, published with the default weights, else in fp32, else first."""
    if spec.weights and spec.weights[0].top1 is not None:
        return spec.weights[0].top1
    results = sorted(spec.reported, key=lambda result: result.precision == "int8")
    return next((result.value for result in results if result.metric == "top1"), None)


def tag_hint(spec: ArchSpec, tag: str) -> str:
    """Return `; did you mean 'x'?` with the tag nearest to an unknown one, or an empty string."""
    sibling = f"{spec.name}_timm"
    if sibling in bundled() and tag in {entry.tag for entry in _known(sibling).weights}:
        return f"; did you mean '{sibling}.{tag}'?"
    return did_you_mean(tag, [entry.tag for entry in spec.weights])


def folder(name: str | Path) -> Path:
    """Return the folder of the weights files (`file:…`) of a definition; `name` as in `get_spec`.

    It is the folder of the definition; for bundled definitions, `arch_defs/weights`.

    Raises:
        UnknownNameError: there is no such entry or tag.
        DefinitionError: the file is not a valid definition.
        InputError: the file cannot be read, or `name` is neither a name nor a path.
    """
    if isinstance(name, Path) or _is_path(name):
        return Path(name).parent
    entry = get_spec(name).name
    if entry in _registered:
        return _registered[entry].folder
    return Path(str(files("fbnet_zoo.arch_defs"))) / "weights" if entry in bundled() else own_zoo.home()


def register(path: str | Path) -> ArchSpec:
    """Add the definition in a YAML file to the zoo, for this process; `fbnet_zoo.install` does so permanently.

    Raises:
        DefinitionError: the file is not a valid definition, or an entry has its name or one of its aliases.
        InputError: the file cannot be read.
    """
    from fbnet_zoo import arch_file, yaml_reader

    text, origin = yaml_reader.load_text(Path(path)), str(path)
    spec = arch_file.parse(text, origin)
    _check_free(spec, text, origin, _taken() | _own_words())
    _registered[spec.name] = _Registered(spec, Path(path).absolute().parent)
    return spec


def store(spec: ArchSpec, contents: Mapping[str, bytes], *, replace: bool = False) -> ArchSpec:
    """Write a definition and its weights files to the user's own zoo; `fbnet_zoo.install` also checks the weights.

    Args:
        spec: the definition.
        contents: file name to content, for weights with a `file:…` source.
        replace: replace another entry of this name.

    Raises:
        DefinitionError: the definition is not valid, or another entry has its name or one of its aliases.
        InputError: the own zoo has an entry of this name, or cannot be written.
    """
    from fbnet_zoo import arch_file

    text = arch_file.dump(spec)
    with own_zoo.writing() as home:
        path = home / f"{spec.name}.yaml"
        _check_free(arch_file.parse(text, str(path)), text, str(path), _taken() | _own_words(besides=spec.name))
        if path.exists() and not replace and path.read_bytes() != text.encode():
            raise InputError(f"{path} is another entry of this name; pass replace=True, or choose another name")
        own_zoo.write(home, spec, contents)
    return spec


def _is_path(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _check_free(spec: ArchSpec, text: str, origin: str, taken: set[str]) -> None:
    """Refuse a definition with a name or alias of another entry, with the line."""
    from fbnet_zoo import yaml_reader

    for key, name in (("name", spec.name), *(("aliases", alias) for alias in spec.aliases)):
        if name in taken:
            line = yaml_reader.line_of(yaml_reader.read(text, origin), (key,), {})
            yaml_reader.fail(origin, line, f"an entry named {name!r} exists; choose another name")


def _taken() -> set[str]:
    """Return the names and aliases of bundled and registered entries."""
    return {word for name in (*bundled(), *_registered) for word in (name, *_known(name).aliases)}


def _own_words(besides: str = "") -> set[str]:
    """Return the names and aliases of the entries in the user's own zoo, except those of `besides`."""
    own = [name for name in own_zoo.files() if name != besides]
    return {*own, *(alias for spec in _specs(own) for alias in spec.aliases)}


def _find(name: str, given: str) -> ArchSpec:
    own = own_zoo.files()
    if name in own:
        return _load_own(own[name])
    if name in _registered or name in bundled():
        return _known(name)
    specs = tuple(_specs(_names()))
    found = [spec for spec in specs if name in spec.aliases]
    if len(found) > 1:
        both = " and ".join(spec.name for spec in found)
        raise UnknownNameError(f"{name!r} is an alias of {both}; remove it from one of them")
    if found:
        return found[0]
    known = [word for spec in specs for word in (spec.name, *spec.aliases)]
    hint = did_you_mean(name, known) or "; list_models() lists all names"
    raise UnknownNameError(f"no entry of the zoo is named {given!r}{hint}")


def _names(pattern: str = "*") -> list[str]:
    own, others = own_zoo.files(), {*bundled(), *_registered}
    for name in sorted(own.keys() & others):
        own_zoo.warn(f"{own[name]}: an entry named {name!r} exists; rename the file and its definition, or delete it")
    return sorted(name for name in own.keys() | others if fnmatch.fnmatchcase(name, pattern))


def _specs(names: list[str]) -> Iterator[ArchSpec]:
    """Yield definitions; an invalid file of the own zoo is left out, with a warning."""
    for name in names:
        try:
            known = name in _registered or name in bundled()
            yield _known(name) if known else _load_own(own_zoo.home() / f"{name}.yaml")
        except InputError as error:
            own_zoo.warn(str(error))


def _check_family(family: str | None) -> None:
    from fbnet_zoo import spec

    known = get_args(spec.Family)
    if family is not None and family not in known:
        hint = did_you_mean(str(family), known) or f"; expected one of {', '.join(known)}"
        raise UnknownNameError(f"there is no family {family!r}{hint}")


def _matches(spec: ArchSpec, family: Family | None, pretrained: bool | None) -> bool:
    return family in {None, spec.family} and pretrained in {None, bool(spec.weights)}


def _known(name: str) -> ArchSpec:
    return _registered[name].spec if name in _registered else _load_bundled(name)


@functools.cache
def _load_bundled(name: str) -> ArchSpec:
    resource = files("fbnet_zoo.arch_defs") / f"{name}.yaml"
    from fbnet_zoo import arch_file

    # tests compare the counts
    return arch_file.parse_uncounted(resource.read_text(encoding="utf-8"), origin=f"arch_defs/{name}.yaml")


def _load_own(path: Path) -> ArchSpec:
    from fbnet_zoo import arch_file, yaml_reader

    text, origin = yaml_reader.load_text(path), str(path)
    spec = arch_file.parse(text, origin)
    if spec.name != path.stem:
        line = yaml_reader.line_of(yaml_reader.read(text, origin), ("name",), {})
        yaml_reader.fail(origin, line, f"'name' is {spec.name!r}, unlike the name of the file; rename one of them")
    _check_free(spec, text, origin, _taken() | own_zoo.files().keys() - {spec.name})
    return spec
