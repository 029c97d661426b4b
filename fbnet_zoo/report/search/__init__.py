"""The report page of a search."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.report.search.page import search_page

__all__ = [
    "search_page",
]

__getattr__, __dir__ = public_names(
    __name__,
    page=("search_page",),
)
