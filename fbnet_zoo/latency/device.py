"""Description of the device that a latency belongs to."""

from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, Field

from fbnet_zoo import limits
from fbnet_zoo.spec import Record

Milliseconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Threads = Annotated[Count, AfterValidator(limits.within("threads"))]


class DeviceInfo(Record):
    """A device that networks run on.

    Attributes:
        kind: kind of device, such as `android`.
        id: distinguishes devices of one model without revealing the serial number.
        system: name and version of the operating system.
        abis: supported instruction sets, preferred first, as the system names them.
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


def device_id(secret: str) -> str:
    """Return the `id` of a device: the first eight digits of the SHA-256 of its serial number."""
    return sha256(secret.encode()).hexdigest()[:8]
