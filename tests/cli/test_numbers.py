"""Numbers on the command line: an option never hands on what is none, or what makes no sense."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from fbnet_zoo.cli import quantities
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.search import arguments
from fbnet_zoo.errors import InputError
from fbnet_zoo.weights.sources import WeightsSource


def options(command: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the command and the option for every option of every command."""
    for each in getattr(command, "commands", {}).items():
        yield from options(each[1], f"{name} {each[0]}")
    yield from ((f"{name} {each.opts[0]}", command, each) for each in command.params)


ALL = list(options(typer.main.get_command(app)))
FRACTIONS = [each for each in ALL if each[2].bare_type() == "float"]
SEEDS = [each for each in ALL if each[2].name == "seed"]


def refusal(command: Any, option: Any, text: str) -> str:
    with command.make_context("x", [], resilient_parsing=True) as context:
        with pytest.raises(typer.BadParameter) as caught:
            option.process_value(context, text)
        return caught.value.format_message()


def test_there_are_such_options() -> None:
    assert len(FRACTIONS) >= 7
    assert len(SEEDS) >= 5


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("command", "option"), [each[1:] for each in FRACTIONS], ids=[each[0] for each in FRACTIONS])
def test_fractions_are_finite(command: Any, option: Any, text: str) -> None:
    assert refusal(command, option, text)


@pytest.mark.parametrize("seed", [1 << 63, -1])
@pytest.mark.parametrize(("command", "option"), [each[1:] for each in SEEDS], ids=[each[0] for each in SEEDS])
def test_seeds_have_63_bits(command: Any, option: Any, seed: int) -> None:
    assert f"{seed} is not a whole number from 0 to 9223372036854775807" in refusal(command, option, str(seed))


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (quantities.count, "100K", "'100K' has the unit 'K', which is not k or M or G: write 100k"),
        (quantities.count, "3T", "'3T' has the unit 'T', which is not k or M or G; expected"),
        (quantities.milliseconds, "5", "'5' has no unit, which is us or µs or ms or s; expected a time, such as 5ms"),
        (quantities.milliseconds, "5MS", "write 5ms"),
        (quantities.milliseconds, "nan", "'nan' is not a positive quantity"),
        (quantities.count, "9" * 400, "is not a positive quantity"),
        (quantities.count, "0", "'0' is not a positive quantity"),
    ],
)
def test_quantities_name_the_value_and_the_right_form(read: Any, text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert told in str(caught.value)


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"--limit macs=2M: macs already has a limit of 1e\+06; give one of the two"):
        arguments._limits({"limit": ["macs=1M", "params=1M", "macs=2M"]}, {"macs": "MACs", "params": "parameters"})


@pytest.mark.parametrize("text", ["http://[::1", "https://", "https://host:99999/w", "http://host:x/w", "ftp://host/w"])
def test_addresses_of_no_server_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a valid address of weights; expected hf://"):
        WeightsSource.parse(text)
