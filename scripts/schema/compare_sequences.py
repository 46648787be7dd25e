"""What differs between the sequences of the two sides. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from scripts.database.catalog import Sequence, Table, quoted
from scripts.schema import sequences
from scripts.schema.drift import CREATE, SEQUENCE, Drift
from scripts.schema.sequences import Taken


def identity(table: Table, column: str) -> Sequence | None:
    """The sequence of the column's identity."""
    return next((s for s in table.sequences if s.identity and s.column == column), None)


def identity_into_band(table: Table, column: str, band: int | None) -> list[str]:
    """What gives the identity that a mend gives the column its own options, and sets it into the band."""
    sequence = identity(table, column)
    if sequence is None:
        return []
    one = Taken(sequence, [(table, table.column(column))])
    return [*sequences.retyped(table.column(column), sequence), *sequences.into_band(one, band)]


def identities(wanted: Table, found: Table) -> Iterator[Drift]:
    """Of identities: its name is PostgreSQL's choice, and its type the column's."""
    for sequence in (one for one in wanted.sequences if one.identity):
        other = identity(found, sequence.column)
        if other is not None:
            yield from _altered(
                Taken(sequence, [(wanted, wanted.column(sequence.column))]), replace(other, owner=sequence.owner)
            )


def shared(wanted: Mapping[str, Table], found: Mapping[str, Table], band: int | None) -> Iterator[Drift]:
    """Of all but identities: each once, whichever tables take from it."""
    every = [one.sequence for one in sequences.taken(found.values())]
    theirs = {(one.schema, one.name): one for one in every if not one.identity}
    for one in sequences.taken(wanted.values()):
        if not one.sequence.identity:
            other = theirs.pop((one.sequence.schema, one.sequence.name), None)
            yield from _missing(one, found, band) if other is None else _altered(one, other)
    for (schema, name), extra in theirs.items():
        user = next(t.name for t in found.values() for s in t.sequences if (s.schema, s.name) == (schema, name))
        drop = (f"DROP SEQUENCE IF EXISTS {quoted(schema, name)}",) if extra.owner else ()
        yield Drift(user, "sequence", name, None, sequences.options(extra), drop, SEQUENCE)


def _missing(one: Taken, found: Mapping[str, Table], band: int | None) -> Iterator[Drift]:
    sequence, table = one.sequence, one.columns[0][0]
    text = f"{sequence.type} {sequences.options(sequence)}"
    # An identity's own sequence may have the very name.
    create = [
        f"ALTER TABLE {taker.identifier.as_string(None)} ALTER COLUMN {quoted(column.name)} DROP IDENTITY IF EXISTS"
        for taker, column in one.columns
        if taker.name in found and any(c.name == column.name and c.identity for c in found[taker.name].columns)
    ]
    create.append(sequences.create(sequence).as_string(None))
    yield Drift(table.name, "sequence", sequence.name, text, None, tuple(create), CREATE)
    bound = [sequences.owned_by(sequence)] if sequence.owner else []
    if bound := [*bound, *sequences.into_band(one, band)]:
        # When its columns are there, as numbers.
        yield Drift(table.name, "sequence", sequence.name, text, None, tuple(bound), SEQUENCE)


def _altered(one: Taken, other: Sequence) -> Iterator[Drift]:
    sequence, mend = one.sequence, list[str]()
    text, shown = (f"{each.type} {sequences.options(each)}" for each in (sequence, other))
    if text != shown:
        mend.append(sequences.as_is(sequence, other))
    if other.owner != sequence.owner:
        mend.append(sequences.owned_by(sequence))
        text, shown = (f"{said} {_owner(each)}" for said, each in ((text, sequence), (shown, other)))
    if mend:
        yield Drift(one.columns[0][0].name, "sequence", sequence.name, text, shown, tuple(mend), SEQUENCE)


def _owner(sequence: Sequence) -> str:
    return f"owned by {'.'.join((*sequence.owner[0], sequence.owner[1]))}" if sequence.owner else "owned by nobody"
