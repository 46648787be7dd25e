"""What `finalize`, `rollback --abandon` and `rollback --scenario copy|data` answer."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document
from scripts.verify.documents import WritesProof


class Privileges(Document):
    """What the monolith's role can do with one table of the source, by whatever grant."""

    table: str
    select: bool
    insert: bool
    update: bool
    delete: bool

    @property
    def writes(self) -> bool:
        """Whether it can write."""
        return self.insert or self.update or self.delete


class TableRows(Document):
    """A table's rows when both sides were compared for the last time."""

    table: str
    rows: int


class Finalization(Document):
    """The end of the migration, or with ``--dry-run`` what it would do; ``removed`` are then the things still there."""

    status: Literal["finalized", "already-finalized", "dry-run"]
    #: The SQL run, or to be run, on the source.
    statements: list[str]
    privileges: list[Privileges]
    rows: list[TableRows]
    #: That the target has every write of the source; None where this was not looked at.
    proof: WritesProof | None = None
    removed: list[str]
    leftovers: list[str]
    #: Tables that now belong to the service's role (`handOverOwnership`).
    handed_over: list[str]
    warnings: list[str]


class Abandonment(Document):
    """The attempt given up, or with ``--dry-run`` what would be removed."""

    status: Literal["abandoned", "nothing-there", "dry-run"]
    #: Whether what the Task Service wrote was brought back to the monolith first.
    drained: bool
    #: Writes of the target, by table, that the source lacks and that were given up.
    lost: dict[str, int]
    removed: list[str]
    leftovers: list[str]


class StartOver(Document):
    """The target emptied, so that step 1 can start again, or with ``--dry-run`` what would be."""

    scenario: Literal["copy", "data"]
    status: Literal["emptied", "dry-run"]
    drained: bool
    #: Rows by table of which nothing proves that the source has them.
    only_on_target: dict[str, int]
    removed: list[str]
    leftovers: list[str]
    truncated: list[str]
    next: str
