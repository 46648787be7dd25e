"""A 64-bit hash of a whole row, as one SQL expression that is the same on both sides. Pure: builds SQL, does no I/O.

The value of every column goes through one chain, each step seeded with the state that the columns before it left, so that
a row's hash depends on which value stands in which column of which row: values swapped between rows or columns do not
cancel in a sum, which they do in a sum of ``hash_record_extended`` (it adds up ``31^n * hash(column)``).

PostgreSQL's hash functions agree with a type's equality, and equality passes over differences that can be seen: numeric
1.0 and 1.00, -0 and 0, intervals of 1 month and 30 days, texts under a non-deterministic collation. So only types whose
equal values print equal are hashed as they are, texts by their bytes (collation "C"), everything else by its text. A bigint
is mixed in whole, as ``hashint8extended`` folds it to 32 bits (1 and 4294967296 hash equal). Timestamps are folded so
too: a changed timestamp has a chance of 1 in 2^32 to hash as before, everything else of 1 in 2^64. ``md5`` has no such fold.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Literal

from psycopg import sql

from scripts.database.catalog import Column, Table
from scripts.writes import record

Algorithm = Literal["hash", "md5"]
Round = Callable[[sql.Composable], sql.Composable]

#: What stands for NULL in the chain. Each is drawn at random once; for smallint and integer it lies outside of the type.
NULL_TEXT = "\x01NULL 7d2b1c90e45f"
NULL_UUID = "0d5ad2c2-3c1c-4d44-b6a0-0d2a71a5bb11"
NULL_TIMESTAMP = "198437-05-17 03:41:52.847261"
NULL_NUMERIC = "-86173502914.640271953"
NULL_INTEGER = 2459565876494606882
#: Columns whose calls stand in each other: servers and Python follow nested calls by their stacks (PostgreSQL, 'max_stack_depth').
#: A wider table has a chain for each so many, begun differently and mixed in one after the other.
LINKS = 100
_FIXED_NUMERIC = re.compile(r"numeric\(\d+,-?\d+\)")


def shared(table: Table, theirs: Table) -> tuple[str, ...]:
    """Names of the stored columns that both sides have, in the source's order; the others are the schema's difference."""
    have = set(theirs.stored)
    return tuple(name for name in table.stored if name in have)


def as_text(column: Column, row: str = "t") -> sql.Composable:
    """The column of a row as text, everything that can be seen of it; NULL stays NULL."""
    return record.text_of(column, sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(column.name)))


def row_hash(table: Table, algorithm: Algorithm, theirs: Table | None = None) -> sql.Composable:
    """A bigint expression over a row ``t``; never NULL.

    Args:
        table: the columns in its order count, by name, so that the other side's order does not matter.
        algorithm: ``hash`` (PostgreSQL's own hash functions) or ``md5`` (of the row's text, cut to 64 bits to be summed).
        theirs: the same table on the other side; columns that it lacks are left out, and a column of another type or one
            that may be NULL there is hashed so that both sides' values compare.
    """
    names = table.stored if theirs is None else shared(table, theirs)
    if algorithm == "md5":
        fields = sql.SQL(", ").join(as_text(table.column(name)) for name in names)
        return sql.SQL("('x' || substr(md5(ROW({})::text), 1, 16))::bit(64)::bigint").format(fields)
    return hash_of(table, names, theirs or table)


def hash_of(table: Table, names: Sequence[str], theirs: Table) -> sql.Composable:
    """The chain over some columns of a row ``t``, the key's for example; never NULL."""
    chains = [_chain_of(table, names[start : start + LINKS], theirs, start) for start in range(0, len(names), LINKS)]
    state = chains[0]
    for further in chains[1:]:
        state = sql.SQL("hashint8extended(0, {})").format(_xor(state, further))
    return state


def _chain_of(table: Table, names: Sequence[str], theirs: Table, first: int) -> sql.Composable:
    """The chain over as many columns as one expression may hold in each other; ``first`` is the place of the first of them."""
    numbers: list[sql.Composable] = []
    flags: list[sql.Composable] = []
    rounds: list[Round] = []
    for place, name in enumerate(names, first):
        column, other = table.column(name), theirs.column(name)
        filled = column.not_null and other.not_null
        if column.builtin and other.builtin and column.is_integer and other.is_integer:
            numbers.append(_number(column, filled))
        elif column.builtin and other.builtin and column.base_type == other.base_type == "bool":
            flags.append(_flag(column, place, filled))
        else:
            rounds.append(_round(column, other, filled))
    return _chain(numbers, flags, rounds, _constant(f"seed {first}" if first else "seed"))


def _chain(
    numbers: list[sql.Composable], flags: list[sql.Composable], rounds: list[Round], seed: int
) -> sql.Composable:
    """One number is mixed into the state before each round, whole; a hash in between keeps two from cancelling."""
    state: sql.Composable = sql.Literal(seed)
    for flag in flags:
        state = _xor(state, flag)
    waiting = list(numbers)
    for step in rounds:
        if waiting:
            state = _xor(state, waiting.pop(0))
        state = step(state)
    for number in waiting:
        state = sql.SQL("hashint8extended({}, {})").format(number, _xor(state, number))
    if not rounds and not numbers:
        state = sql.SQL("hashint8extended(0, {})").format(state)
    return state


def _constant(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _xor(left: sql.Composable, right: sql.Composable) -> sql.Composable:
    return sql.SQL("({} # {})").format(left, right)


def _or(value: sql.Composable, instead: sql.Composable, filled: bool) -> sql.Composable:
    return value if filled else sql.SQL("coalesce({}, {})").format(value, instead)


def _number(column: Column, filled: bool) -> sql.Composable:
    return _or(sql.SQL("t.{}::int8").format(sql.Identifier(column.name)), sql.Literal(NULL_INTEGER), filled)


def _flag(column: Column, place: int, filled: bool) -> sql.Composable:
    # Constants of their own for each column and value: any number of them may be mixed in at once.
    name = sql.Identifier(column.name)
    null: sql.Composable = sql.SQL("")
    if not filled:
        null = sql.SQL("WHEN t.{} IS NULL THEN {}").format(name, sql.Literal(_constant(f"null {place}")))
    return sql.SQL("CASE WHEN t.{} THEN {} {} ELSE 0::int8 END").format(
        name, sql.Literal(_constant(f"true {place}")), null
    )


def _round(column: Column, other: Column, filled: bool) -> Round:
    value: sql.Composable = sql.SQL("t.{}").format(sql.Identifier(column.name))
    base = column.base_type if column.builtin and other.builtin else ""
    same = base == other.base_type
    if base == "uuid" and same:
        call, null = "uuid_hash_extended", sql.Literal(NULL_UUID) + sql.SQL("::uuid")
    elif base == "timestamp" and same:
        call, null = "timestamp_hash_extended", sql.Literal(NULL_TIMESTAMP) + sql.SQL("::timestamp")
    elif base == "numeric" and column.type == other.type and _FIXED_NUMERIC.fullmatch(column.type):
        # All values of such a column have one scale, so equal ones print equal.
        call, null = "hash_numeric_extended", sql.Literal(NULL_NUMERIC) + sql.SQL("::numeric")
    else:
        if base not in ("text", "varchar"):
            value = as_text(column)
        text = _or(value, sql.Literal(NULL_TEXT), filled)
        return lambda state: sql.SQL('hashtextextended({} COLLATE "C", {})').format(text, state)
    known = _or(value, null, filled)
    return lambda state: sql.SQL("{}({}, {})").format(sql.SQL(call), known, state)
