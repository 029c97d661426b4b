"""Deployment bundles: a folder with checked files, code that runs them, a model card and a report; and its check."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.deploy.build import deploy
    from fbnet_zoo.deploy.options import DeployOptions
    from fbnet_zoo.deploy.platforms import PLATFORMS
    from fbnet_zoo.deploy.record import Bundle
    from fbnet_zoo.deploy.verification import verify

__all__ = [
    "PLATFORMS",
    "Bundle",
    "DeployOptions",
    "deploy",
    "verify",
]

__getattr__, __dir__ = public_names(
    __name__,
    build=("deploy",),
    options=("DeployOptions",),
    platforms=("PLATFORMS",),
    record=("Bundle",),
    verification=("verify",),
)
