"""Writes the shipped latency tables of devices measured by others: `python -m … FACTS.json`.

For the 32 px FBNet networks of HW-NAS-Bench, FACTS has the latency of the network in which every layer is a skip, and
for every layer shape and candidate the difference to a skip: figures solved from the latencies published with HELP.
FACTS is not part of the repository; the resulting tables are.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.files import TABLES, save_table
from fbnet_zoo.latency.importers.hw_nas_bench import operator_of
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable, OperatorLatency
from fbnet_zoo.reading import read_json

_DEVICES: dict[str, tuple[DeviceInfo, Literal["measured", "estimate"]]] = {
    "raspi4": (DeviceInfo(kind="published", id="raspi4", manufacturer="Raspberry Pi", model="4"), "measured"),
    "pixel3": (DeviceInfo(kind="published", id="pixel3", manufacturer="Google", model="Pixel 3"), "measured"),
    "eyeriss": (DeviceInfo(kind="published", id="eyeriss", model="Eyeriss, an accelerator in a simulator"), "estimate"),
    "fpga": (DeviceInfo(kind="published", id="fpga", manufacturer="Xilinx", model="ZC706"), "estimate"),
}
_SOURCE = (
    "Solved from the latencies of 5,000 networks published with HELP (Lee et al., NeurIPS 2021), whose columns for "
    "this device come from HW-NAS-Bench (Li et al., ICLR 2021)."
)
_CREDIT = (
    "HELP: MIT, Copyright (c) 2024 HayeonLee",
    "HW-NAS-Bench: MIT, Copyright (c) 2022 GaTech-EIC",
)


def published_table(name: str, facts: Mapping[str, Any]) -> LatencyTable:
    """Return the table of a device.

    Args:
        name: `raspi4`, `pixel3`, `eyeriss` or `fpga`.
        facts: content of FACTS.

    Raises:
        InputError: a key is missing.
    """
    device, kind = _DEVICES[name]
    try:
        about = facts["devices"][name]
        return LatencyTable(
            name=name,
            device=device,
            kind=kind,
            source=_SOURCE,
            credit=_CREDIT,
            relative_to="skip",
            base_ms=about["base_all_skip_ms"],
            base_operators=tuple(_base(facts)),
            operators=tuple(_differences(facts, about["delta_vs_skip_ms"])),
        )
    except KeyError as error:
        raise InputError(f"the facts of {name} lack the key {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"the facts of {name} have a value of a wrong kind ({error})") from error


def _base(facts: Mapping[str, Any]) -> Iterator[Operator]:
    """Yield the operators of the network of skips; a skip that changes the shape is a convolution."""
    channels, size, *_ = facts["input"]
    stem, head, last = facts["stem_channels"], facts["header_channels"], facts["layers"][-1]
    yield operator_of("ConvNorm", H=size, Cin=channels, Cout=stem, kernel=3)
    yield from (_layer("Skip", layer) for layer in facts["layers"])
    size = last["H"] // last["stride"]
    yield operator_of("ConvNorm", H=size, Cin=last["cout"], Cout=head)
    yield operator_of("AvgP", H=size, Cin=head, Cout=head)
    yield operator_of("FC", Cin=head, Cout=facts["classes"])


def _differences(facts: Mapping[str, Any], differences: Mapping[str, Any]) -> Iterator[OperatorLatency]:
    for group in facts["shape_groups"]:
        for candidate, median_ms in differences[str(group["group"])].items():
            yield OperatorLatency(operator=_candidate(candidate, group), median_ms=median_ms)


def _candidate(name: str, layer: Mapping[str, Any]) -> Operator:
    """Return the block of a candidate such as `k3_e1_g2`; it always has the first pointwise convolution."""
    letters = {part[0]: int(part[1:]) for part in name.split("_")}
    return _layer("ConvBlock", layer, kernel=letters["k"], exp=letters["e"], group=letters.get("g", 1))


def _layer(kind: str, layer: Mapping[str, Any], **numbers: int) -> Operator:
    return operator_of(kind, H=layer["H"], Cin=layer["cin"], Cout=layer["cout"], stride=layer["stride"], **numbers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--out", type=Path, default=TABLES)
    chosen = parser.parse_args(arguments)
    try:
        facts = read_json(chosen.facts, "the facts of devices")
        for name in _DEVICES:
            save_table(published_table(name, facts), chosen.out / f"{name}.json")
    except FbnetZooError as error:
        sys.stderr.write(f"error: {chosen.facts}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
