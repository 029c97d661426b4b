"""Which device a latency is from."""

from typing import Annotated

from pydantic import Field

from fbnet_zoo.spec import Record

Milliseconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class DeviceInfo(Record):
    """A device that networks run on.

    Attributes:
        kind: `android`, for one.
        id: tells devices of one model apart, without giving the serial number away.
        system: name and version.
        abis: instruction sets that it takes, the best first, as the system calls them.
    """

    kind: str
    id: str
    manufacturer: str | None = None
    model: str | None = None
    soc: str | None = None
    system: str | None = None
    abis: tuple[str, ...] = ()
    cores: int | None = None
    memory_mb: float | None = None
