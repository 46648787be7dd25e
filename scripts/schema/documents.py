"""What `schema` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document

Kind = Literal[
    "table", "type", "column", "sequence", "constraint", "index", "storage", "statistics", "row security", "policy", "replica identity",
    "trigger", "comment",
]  # fmt: skip


class Difference(Document):
    """One difference of the two catalogs."""

    table: str
    kind: Kind
    name: str
    #: As the source has it; null: it has none.
    source: str | None
    #: As the target has it; null: it has none.
    target: str | None
    #: What mends it on the target, in the place that ``mend`` has for it.
    sql: str
    #: Whether it can decide what a row holds, whether one is taken or who sees it: `copy`, `verify` and the canary stop at these alone.
    of_rows: bool = True


class Left(Document):
    """Something of a table that the target does not get, which is no difference."""

    table: str
    kind: Literal["check", "default", "index", "policy", "statistics", "trigger"]
    name: str
    #: `leaveBehind`, not in `carryTriggers`, or that the source does not use it either.
    why: str


class SchemaDiff(Document):
    """The comparison of the two catalogs."""

    match: bool
    differences: list[Difference]
    #: Keys and indexes that `copy` makes after the rows; they spoil the match only once the copy is done.
    pending: list[Difference]
    #: What stays behind.
    left: list[Left]
    #: Each difference in words.
    text: str
    #: The whole SQL for the target, in the order in which it can be run.
    mend: str

    @property
    def drift(self) -> list[Difference]:
        """The differences that are about rows."""
        return [one for one in self.differences if one.of_rows]


class SchemaApplied(SchemaDiff):
    """What `schema apply` made (with --dry-run: would make) on the target, and the comparison afterwards."""

    #: Tables.
    created: list[str]
    statements: list[str]
    #: The target role; null when it does not exist.
    role: str | None
    role_changed: Literal["created", "password"] | None
    warnings: list[str]


class OperatorRole(Document):
    """`schema role --operator`: the role that commands log in with on the target."""

    role: str
    #: ``password``: it was there, and did not log in with the one of its secret, which it has now.
    status: Literal["created", "there", "password"]
    #: With --force: what may show a password to others.
    warnings: list[str]
