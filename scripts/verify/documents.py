"""What `verify` and the proof of a rollback answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scripts.replication.documents import LostWrite, SequenceBand, ToldKind, WriteCounts
from scripts.schema.documents import Difference
from scripts.support.document import Document
from scripts.support.sides import Side, other

Kind = Literal["missing_on_target", "missing_on_source", "different"]
#: Writes or rows that an error names.
NAMED = 5


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
    """Values of a foreign key that lead to no row, which of the source is meant where the key crosses the border."""

    constraint: str
    table: str
    columns: list[str]
    references: str
    #: Whose rows refer so; of ``both``, the same values on both sides.
    side: Side | Literal["both"]
    #: The key is NOT VALID on the source and both sides have them: it never promised more, and the match is not spoilt.
    known: bool
    count: int
    samples: list[dict[str, str | None]]


class Verification(Document):
    """Both sides compared. ``match`` is about rows, orphans, sequences, the schema and our own triggers and functions, without which
    equal rows would not stay so; after a repair, about what is left."""

    match: bool
    tables: list[ComparedTable]
    sequences: list[SequenceBand]
    orphans: list[Orphans]
    #: After a repair, what of the rows that are left a person has to decide, a sentence each; at most
    #: ``scripts.verify.run.LISTED``.
    undecided: list[str] = Field(default_factory=list)
    #: After a repair, what became of rows that were the same on both sides and referred to one that it deleted, as their keys say; likewise.
    followed: list[str] = Field(default_factory=list)
    schema_match: bool
    schema_differences: list[Difference] = Field(alias="schema")
    #: Triggers and functions of ours that are gone, switched off or changed, in words; each begins with its side.
    recording: list[str]
    #: Whether replication ran, so that rows under way could be told from differences.
    live: bool
    algorithm: Literal["hash", "md5"]
    #: Of an incremental run: so many rows were written since the last match and compared; counts and checksums are those of the part that
    #: was compared beside them, and ``match`` is about both. None: every row was compared.
    written: int | None = None


class UnequalRow(Document):
    """A row that the side which is left wrote, and that is not the same on the other; key values as text."""

    table: str
    key: dict[str, str]
    kind: Kind
    columns: list[str]


class MissingWrite(Document):
    """A write of the side which is left that is not on the other as it was made; ``v`` is its record's number."""

    v: int
    table: str
    key: list[str]
    kind: str


class WritesProof(Document):
    """Whether the side that stays has every write of the one that is left. Not proven as soon as one of ``missing``,
    ``unsettled`` and ``different_total`` is not 0. Lists name at most 100."""

    #: The side that is left, whose writes these are.
    side: Side
    #: All its writes since its first one.
    writes: WriteCounts
    #: Of these, proven earlier, and pruned.
    pruned: int
    missing: int
    missing_writes: list[MissingWrite]
    #: Rows that these writes were made to, compared on both sides, without those of writes pruned; and how many are the same.
    checked: int
    equal: int
    #: Rows and writes that could not be compared: written again at every look, or of a table that is not configured.
    unsettled: int
    different_total: int
    different: list[UnequalRow]
    #: Lost writes that the conflict logs of both sides tell of, and the newest of them.
    told: int
    losses: list[LostWrite]
    #: All of them, counted.
    told_by_kind: list[ToldKind] = Field(default_factory=list)

    @property
    def proven(self) -> bool:
        """Whether nothing is missing, different or not known."""
        return not (self.missing or self.unsettled or self.different_total)

    def problem(self) -> str:
        """What keeps it from being proven, with the first few, for an error."""
        stays = other(self.side)
        told = []
        if self.missing:
            first = "; ".join(f"{one.kind} of {one.table} {'/'.join(one.key)}" for one in self.missing_writes[:NAMED])
            told.append(
                f"{self.missing:,} writes of the {self.side} never arrived at the {stays}, none may be missing: {first}"
            )
        if self.different_total:
            first = "; ".join(f"{one.table} {one.key} {one.kind}" for one in self.different[:NAMED])
            told.append(
                f"{self.different_total:,} rows that the {self.side} wrote are not the same on the {stays}, none may differ: {first}"
            )
        if self.unsettled:
            told.append(
                f"{self.unsettled:,} rows or writes could not be compared, as they went on being written; none may be"
            )
        return "; ".join(told)
