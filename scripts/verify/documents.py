"""What `verify` and the proof of a rollback answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scripts.replication.documents import SequenceBand
from scripts.schema.documents import Difference
from scripts.support.document import Document

Kind = Literal["missing_on_target", "missing_on_source", "different"]


class ShownValues(Document):
    """A row's values by column as text, None where the side has no such row; long ones are cut."""

    source: dict[str, str | None] | None
    target: dict[str, str | None] | None


class RowDifference(Document):
    """One row that is not the same on both sides."""

    #: The primary key's columns; whole numbers as numbers, everything else as text.
    key: dict[str, int | str]
    kind: Kind
    #: The columns that differ; empty where a side has no such row.
    columns: list[str]
    #: Only with ``--show-values``.
    values: ShownValues | None


class ComparedTable(Document):
    """One table. Counts and checksums are those measured last: under way they may be a moment apart though ``match`` is true."""

    table: str
    source_rows: int
    target_rows: int
    source_checksum: str
    target_checksum: str
    match: bool
    #: Those before a repair, by key, at most ``scripts.verify.run.LISTED`` of ``differences_total``.
    differences: list[RowDifference]
    differences_total: int
    differences_by_kind: dict[str, int]
    repaired: int
    #: Rows that were written again at every look.
    unsettled: int


class Orphans(Document):
    """Values of a foreign key that lead to no row: of the source where it crosses the border, else of the target."""

    constraint: str
    table: str
    columns: list[str]
    references: str
    count: int
    samples: list[dict[str, str]]


class Verification(Document):
    """Both sides compared. ``match`` is about rows, orphans, sequences and the schema; after a repair, about what is left."""

    match: bool
    tables: list[ComparedTable]
    sequences: list[SequenceBand]
    orphans: list[Orphans]
    schema_match: bool
    schema_differences: list[Difference] = Field(alias="schema")
    #: Whether replication ran, so that rows under way could be told from differences.
    live: bool
    algorithm: Literal["hash", "md5"]


class UnequalRow(Document):
    """A row that the Task Service wrote and the monolith has not, or has otherwise; key values as text."""

    table: str
    key: dict[str, str]
    kind: Kind
    columns: list[str]


class RollbackProof(Document):
    """The rows that the Task Service wrote, compared with the monolith's."""

    checked: int
    equal: int
    #: Rows that were written again at every look.
    unsettled: int
    different: list[UnequalRow]
