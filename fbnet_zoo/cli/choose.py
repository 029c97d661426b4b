"""`--precision auto` of `fbnet-zoo convert`: the fastest precision that passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnet_zoo.cli import screen
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import FLOATING, Precision
from fbnet_zoo.converters.targets import Target
from fbnet_zoo.deploy.platforms import Platform, of_target

if TYPE_CHECKING:
    from fbnet_zoo.converters.artifact import Artifact
    from fbnet_zoo.deploy.record import Choice
    from fbnet_zoo.model import FBNet


def check(chosen: Sequence[Target], options: Mapping[str, Any]) -> None:
    """Check options against every precision to choose from.

    Raises:
        InputError: a target has no automatic choice, or does not have an option.
    """
    for target in chosen:
        for each in _variants(of_target(target.name), options).values():
            targets.make_options([target], each)


def count_steps(target: Target) -> int:
    """Return the number of steps of a target: four per file, calibrations, and timing."""
    variants = of_target(target.name).variants
    return sum(4 if precision in FLOATING else 5 for precision in variants) + 1


def convert(
    model: "FBNet",
    chosen: Sequence[Target],
    *,
    out: Path,
    options: Mapping[str, Any],
    progress: Callable[[str], None],
) -> "Iterator[Artifact | Exception]":
    """Yield the chosen file of each target, or the error."""
    from fbnet_zoo.deploy.choose import choose

    for target in chosen:
        platform = of_target(target.name)
        try:
            targets.require_libraries(target)
            variants = _variants(platform, options)
            artifact, choice = choose(model, platform, out=out, options=variants, progress=progress)
        except Exception as error:  # libraries raise any; the next target uses another library
            yield error
        else:
            _report(target, choice)
            yield artifact


def _variants(platform: Platform, options: Mapping[str, Any]) -> dict[Precision, dict[str, Any]]:
    """Return the options for each precision, without those that do not apply to it."""
    variants = {}
    for precision in platform.variants:
        foreign = {"calibration"} if precision in FLOATING else set[str]()
        if precision != "mixed":
            foreign.add("keep")
        taken = {name: value for name, value in options.items() if name not in foreign}
        variants[precision] = {**taken, "precision": precision}
    return variants


def _report(target: Target, choice: "Choice") -> None:
    screen.say("note", f"{target.name}: {choice.chosen}. {choice.reason}", "cyan")
    for variant in choice.variants:
        if variant.dropped:
            screen.say("note", f"{target.name}: {variant.precision}: {variant.describe()}", "cyan")
