"""Where the candidates of a search are trained."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Where the candidates of a search are trained; results do not depend on it.

    Attributes:
        count: number of candidates trained at once, each in a process of its own (default: one, in the process of the
            search; on a Ray cluster, as many as it has room for; with a time limit, one in a process of its own).
        ray_address: Ray cluster to train on: `auto` for that of this machine, `local` for a new one on this machine,
            or the address of another.
        limit_s: longest time that a candidate may train until its worker is taken to hang, seconds (default: no limit).
    """

    count: int | None = None
    ray_address: str | None = None
    limit_s: float | None = None

    @property
    def apart(self) -> bool:
        """Whether candidates are trained outside the process of the search."""
        return self != Workers()


HERE = Workers()
"""One candidate at a time, in the process of the search."""
