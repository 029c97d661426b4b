"""The commands `fbnet-zoo bench`: measure networks on devices, profile them, and compare results."""
