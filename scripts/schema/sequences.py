"""Sequences: made as on the source, bound to their columns, and set into the target's band. Pure, as SQL."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from dataclasses import dataclass, replace

from psycopg import sql

from scripts.database.catalog import Column, Sequence, Table, quoted

_LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
_INTEGERS = {"int2", "int4", "int8"}


def literal(text: str) -> str:
    """``text`` as an SQL literal."""
    return sql.Literal(text).as_string(None)


def option_parts(sequence: Sequence) -> list[str]:
    """Its options as ALTER SEQUENCE takes them; where it starts and stands is not among them, as that is the band's."""
    return [
        f"INCREMENT BY {sequence.increment}",
        f"MINVALUE {sequence.minimum}",
        f"MAXVALUE {sequence.maximum}",
        f"CACHE {sequence.cache}",
        "CYCLE" if sequence.cycle else "NO CYCLE",
    ]


def options(sequence: Sequence) -> str:
    """The options in one text."""
    return " ".join(option_parts(sequence))


def identity_text(column: Column, sequence: Sequence | None) -> str:
    """GENERATED .. AS IDENTITY, with the options of its sequence where they are not the defaults, and its name where others take from it."""
    text = f"GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'} AS IDENTITY"
    if sequence is None:
        return text
    plain = replace(sequence, increment=1, minimum=1, maximum=_LARGEST.get(column.type, 0), cache=1, cycle=False)
    # As pg_dump writes it.
    other = sequence.type != column.type
    said = [f"SEQUENCE NAME {sequence.identifier.as_string(None)}"] * (bool(sequence.shared) or other)
    said += [options(sequence)] * (options(sequence) != options(plain) and not other)
    return f"{text} ({' '.join(said)})" if said else text


def retyped(column: Column, sequence: Sequence | None) -> list[str]:
    """What gives an identity's sequence its own type and options, where the type is not the column's."""
    return [] if sequence is None or sequence.type == column.type else [as_is(sequence, sequence)]


def as_is(sequence: Sequence, other: Sequence) -> str:
    """The ALTER SEQUENCE that gives ``other`` type and options of ``sequence``."""
    return f"ALTER SEQUENCE {other.identifier.as_string(None)} AS {sequence.type} {options(sequence)}"


def create(sequence: Sequence) -> sql.Composed:
    """CREATE SEQUENCE IF NOT EXISTS."""
    return sql.SQL("CREATE SEQUENCE IF NOT EXISTS {} AS {} START WITH {} {}").format(
        sequence.identifier,
        sql.SQL(sequence.type),
        sql.Literal(sequence.start),
        sql.SQL(options(sequence)),
    )


def owned_by(sequence: Sequence) -> str:
    """The ALTER SEQUENCE that binds it to its column, or to none."""
    owner = "NONE" if sequence.owner is None else quoted(*sequence.owner[0], sequence.owner[1])
    return f"ALTER SEQUENCE {sequence.identifier.as_string(None)} OWNED BY {owner}"


@dataclass(frozen=True)
class Taken:
    """A sequence with all columns of some tables that take ids from it."""

    sequence: Sequence
    columns: abc.Sequence[tuple[Table, Column]] = ()

    @property
    def numbers(self) -> bool:
        """Whether each of those columns is a number: what others make of an id cannot be read back from them."""
        return all(_is_number(column) for _, column in self.columns)

    @property
    def top(self) -> str:
        """The SQL of the largest id in the columns that are numbers, 0 where there is none."""
        parts = ["0"]
        for table, column in self.columns:
            name, place = quoted(column.name), table.identifier.as_string(None)
            if column.base_type in _INTEGERS:
                parts.append(f"(SELECT coalesce(max({name}), 0) FROM {place})")
            elif _is_number(column):
                number = f"{name}::numeric"
                parts.append(f"(SELECT coalesce(trunc(max({number})), 0) FROM {place} WHERE {number} < {2**63 - 1})")
        return f"greatest({', '.join(parts)})"


def _is_number(column: Column) -> bool:
    return column.root in _INTEGERS | {"numeric"} and not column.many


def taken(tables: Iterable[Table]) -> list[Taken]:
    """Each sequence once, those that several columns or tables take from as well."""
    found: dict[tuple[str, str], Taken] = {}
    for table in tables:
        for sequence in table.sequences:
            name, place = (sequence.schema, sequence.name), (table, table.column(sequence.column))
            one = found.setdefault(name, Taken(sequence))
            # Others may take from an identity's.
            found[name] = Taken(sequence if sequence.identity else one.sequence, [*one.columns, place])
    return list(found.values())


def from_identities(table: Table, every: Iterable[Taken]) -> set[str]:
    """Columns whose default takes from another column's identity, which comes with its table; ``every``: what :func:`taken` says."""
    identities = {(one.sequence.schema, one.sequence.name) for one in every if one.sequence.identity}
    return {s.column for s in table.sequences if not s.identity and (s.schema, s.name) in identities}


def into_band(one: Taken, band: int | None) -> list[str]:
    """The statement that sets a sequence made by a mend into the target's band, above every id there is."""
    sequence = one.sequence
    if band is None or not sequence.minimum <= band < sequence.maximum:
        return []
    name = f"{literal(sequence.identifier.as_string(None))}::regclass"
    if sequence.identity:
        # Its name is PostgreSQL's choice.
        table = next(t for t, column in one.columns if column.identity and column.name == sequence.column)
        name = f"pg_get_serial_sequence({literal(table.identifier.as_string(None))}, {literal(sequence.column)})"
    return [f"SELECT setval({name}, greatest({band}, {one.top} + 1)::bigint, false)"]
