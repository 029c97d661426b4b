"""Importers of tables of accuracies that others published."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.importers.published import ImportedTable, import_table
    from fbnet_zoo.search.importers.tables import TABLES

__all__ = [
    "TABLES",
    "ImportedTable",
    "import_table",
]

__getattr__, __dir__ = public_names(
    __name__,
    published=(
        "ImportedTable",
        "import_table",
    ),
    tables=("TABLES",),
)
