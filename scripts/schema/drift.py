"""One difference of the two catalogs, with the SQL that mends it."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.schema.documents import Difference, Kind

#: The order in which mends are carried out: what others lean on goes last and comes first.
DROP_FOREIGN_KEY, DROP, CREATE, COLUMN, SEQUENCE, KEY, INDEX, FOREIGN_KEY, PART = range(9)
#: Kinds of parts that are made anew where they differ.
REMADE = ("policy", "statistics", "trigger")


@dataclass(frozen=True)
class Drift:
    """One difference; ``sql`` mends it on the target when all are run in the order of their ``stage``."""

    table: str
    kind: Kind
    name: str
    source: str | None
    target: str | None
    sql: tuple[str, ...]
    stage: int
    #: `copy` makes it after the rows, so it is missing until then.
    after_rows: bool = False
    of_rows: bool = True

    def document(self) -> Difference:
        """As ``schema diff`` prints it."""
        return Difference(
            table=self.table,
            kind=self.kind,
            name=self.name,
            source=self.source,
            target=self.target,
            sql=";\n".join(self.sql),
            of_rows=self.of_rows,
        )

    def line(self) -> str:
        """In words, for a refusal."""
        said = f"{self.table}: {self.kind} {self.name}: source {self.source or 'has none'}; target {self.target or 'has none'}"
        return said + "".join(f"\n  mend on the target: {statement};" for statement in self.sql)
