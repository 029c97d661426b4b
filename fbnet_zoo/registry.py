"""Names to definitions: the bundled entries and those registered by the user.

Definitions are read on demand, and the library that checks them (pydantic) is imported then: the names
alone are had in milliseconds.
"""

from __future__ import annotations

import fnmatch
import functools
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.spec import ArchSpec, Family

_registered: dict[str, ArchSpec] = {}


def list_models(pattern: str = "*", *, family: Family | None = None, pretrained: bool | None = None) -> list[str]:
    """Return the names of the entries, sorted.

    Args:
        pattern: shell pattern that the name must match, such as `fbnetv3_*`.
        family: only entries of this family.
        pretrained: only entries with (`True`) or without (`False`) published weights.

    Raises:
        UnknownNameError: there is no such family.

    >>> list_models("fbnet_[ab]")
    ['fbnet_a', 'fbnet_b']
    """
    names = sorted(name for name in {*_bundled(), *_registered} if fnmatch.fnmatchcase(name, pattern))
    if family is None and pretrained is None:
        return names
    _check_family(family)
    return [name for name in names if _matches(_entry(name), family, pretrained)]


def get_spec(name: str | Path) -> ArchSpec:
    """Return the definition of a name, an alias, a `name.tag` or a YAML path.

    Raises:
        UnknownNameError: there is no such entry or no such tag.
        DefinitionError: the file is no valid definition.
        InputError: the file cannot be read, or `name` is neither a name nor a path.

    >>> get_spec("FBNetV3_A").name
    'fbnetv3_a'
    """
    return resolve(name)[0]


def resolve(name: str | Path) -> tuple[ArchSpec, str | None]:
    """Return the definition and the weights tag (`None`: not said) of a name as `get_spec` takes it.

    Raises:
        UnknownNameError: there is no such entry or no such tag.
        DefinitionError: the file is no valid definition.
        InputError: the file cannot be read, or `name` is neither a name nor a path.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected a name or a path of a definition; got {type(name).__name__}")
    if isinstance(name, Path) or name.lower().endswith((".yaml", ".yml")):
        return _load(Path(name)), None
    if "/" in name or "\\" in name:
        raise InputError(f"{name!r} is neither a name of the zoo nor a definition; expected a .yaml or .yml file")
    base, dot, tag = name.partition(".")
    spec = _find(base, name)
    tags = [entry.tag for entry in spec.weights]
    if dot and tag not in tags:
        offer = tag_hint(spec, tag) or f"; it has {', '.join(tags) or 'no published weights'}"
        raise UnknownNameError(f"{spec.name} has no weights {tag!r}{offer}")
    return spec, tag or None


def tag_hint(spec: ArchSpec, tag: str) -> str:
    """Return `; did you mean 'x'?` for the weights nearest to an unknown tag, or an empty string."""
    sibling = f"{spec.name}_timm"
    if sibling in list_models(sibling) and tag in {entry.tag for entry in _entry(sibling).weights}:
        return f"; did you mean '{sibling}.{tag}'?"
    return did_you_mean(tag, [entry.tag for entry in spec.weights])


def register(path: str | Path) -> ArchSpec:
    """Add the definition in a YAML file to the zoo, for this process.

    Raises:
        DefinitionError: the file is no valid definition, or an entry has its name or one of its aliases.
        InputError: the file cannot be read.
    """
    from fbnet_zoo import arch_file, yaml_reader

    text, origin = yaml_reader.load_text(Path(path)), str(path)
    spec = arch_file.parse(text, origin)
    taken = {*_bundled(), *_registered, *_aliases()}
    for key, name in (("name", spec.name), *(("aliases", alias) for alias in spec.aliases)):
        if name in taken:
            line = yaml_reader.line_of(yaml_reader.read(text, origin), (key,), {})
            yaml_reader.fail(origin, line, f"an entry named {name!r} exists; give the definition another name")
    _registered[spec.name] = spec
    return spec


def _find(name: str, said: str) -> ArchSpec:
    if name in _registered or name in _bundled():
        return _entry(name)
    aliases = _aliases()
    if name in aliases:
        return _entry(aliases[name])
    known = [*_bundled(), *_registered, *aliases]
    hint = did_you_mean(name, known) or "; list_models() tells all"
    raise UnknownNameError(f"no entry of the zoo is named {said!r}{hint}")


def _check_family(family: str | None) -> None:
    from fbnet_zoo import spec

    known = get_args(spec.Family)
    if family is not None and family not in known:
        hint = did_you_mean(str(family), known) or f"; expected one of {', '.join(known)}"
        raise UnknownNameError(f"there is no family {family!r}{hint}")


def _matches(spec: ArchSpec, family: Family | None, pretrained: bool | None) -> bool:
    return family in {None, spec.family} and pretrained in {None, bool(spec.weights)}


def _entry(name: str) -> ArchSpec:
    return _registered.get(name) or _load_bundled(name)


def _aliases() -> dict[str, str]:
    return {alias: name for name in (*_bundled(), *_registered) for alias in _entry(name).aliases}


@functools.cache
def _bundled() -> tuple[str, ...]:
    folder = files("fbnet_zoo.arch_defs")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


@functools.cache
def _load_bundled(name: str) -> ArchSpec:
    resource = files("fbnet_zoo.arch_defs") / f"{name}.yaml"
    from fbnet_zoo import arch_file

    return arch_file.parse(resource.read_text(encoding="utf-8"), origin=f"arch_defs/{name}.yaml")


def _load(path: Path) -> ArchSpec:
    from fbnet_zoo import arch_file

    return arch_file.load(path)
