"""What the catalogs say of the configured tables, with the schema of every name. Nothing about columns, keys or sequences is listed
anywhere else, and nothing is decided by a bare name or a list of columns.

`read` describes tables, `types` the types that they need, `types_of` others; `objects` is what both return.
"""

from scripts.database.catalog.objects import (
    Column,
    Constraint,
    Element,
    Index,
    Policy,
    Sequence,
    Statistics,
    Table,
    TableName,
    Trigger,
    Type,
)
from scripts.database.catalog.reading import crossing, existing, identifiers, last_value, quoted, read, types, types_of

__all__ = [
    "Column",
    "Constraint",
    "Element",
    "Index",
    "Policy",
    "Sequence",
    "Statistics",
    "Table",
    "TableName",
    "Trigger",
    "Type",
    "crossing",
    "existing",
    "identifiers",
    "last_value",
    "quoted",
    "read",
    "types",
    "types_of",
]
