"""What `schema` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document

Kind = Literal["table", "type", "column", "sequence", "constraint", "index"]


class Difference(Document):
    """One difference of the two catalogs: as either side has it (None: it has none), and the SQL for the target."""

    table: str
    kind: Kind
    name: str
    source: str | None
    target: str | None
    sql: str


class SchemaDiff(Document):
    """The comparison of the two catalogs.

    ``pending`` are keys and indexes that `copy` makes after the rows; they spoil the match only once the copy is done. ``mend``
    is the whole SQL for the target, in the order in which it can be run; ``text`` tells each difference in words.
    """

    match: bool
    differences: list[Difference]
    pending: list[Difference]
    text: str
    mend: str = ""


class SchemaApplied(SchemaDiff):
    """What `schema apply` made (would make) on the target, and the comparison afterwards."""

    created: list[str]
    statements: list[str]
    role: str | None
    role_changed: Literal["created", "password"] | None
    warnings: list[str]
