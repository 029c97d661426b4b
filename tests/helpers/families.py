"""One network of each family: that with the fewest operations."""

from fbnet_zoo.registry import get_spec, list_models


def smallest_of_each() -> list[str]:
    """Return the name of the cheapest entry of each family of the zoo."""
    cheapest: dict[str, tuple[int, str]] = {}
    for name in list_models():
        spec = get_spec(name)
        assert spec.counts is not None
        cost = (spec.counts.macs, name)
        cheapest[spec.family] = min(cheapest.get(spec.family, cost), cost)
    return [name for _, name in cheapest.values()]
