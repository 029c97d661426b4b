"""Self-contained HTML pages about networks, files, measurements and searches, with SVG charts."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.report.deployment import deployment_page
    from fbnet_zoo.report.profile import profile_page
    from fbnet_zoo.report.search import search_page

__all__ = [
    "deployment_page",
    "profile_page",
    "search_page",
]

__getattr__, __dir__ = public_names(
    __name__,
    deployment=("deployment_page",),
    profile=("profile_page",),
    search=("search_page",),
)
