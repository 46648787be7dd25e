"""The promises (docs/decisions.md, 'The seven invariants of replication'), asked of one state of a search.

The judge knows what the rules may not use: who had received what when he wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from tests.model.world import NAMES, ROW, SIDES, SOURCE, TARGET, Row, Rules, Shape, Told, Write

#: The invariants by their numbers; `sound` is what PostgreSQL alone would have kept.
Promise = Literal["1 knowledge", "2 columns", "3 unsaid", "3 told once", "3 one wins", "4 equal", "5 proof", "sound"]


class Problem(NamedTuple):
    """A promise that does not hold, and what of it."""

    promise: Promise
    what: str


def values(row: Row) -> tuple[int, ...] | None:
    """A row without who wrote it."""
    return None if row is None else tuple(cell.value for cell in row)


def _others(written: Iterable[Write], write: Write, item: str) -> list[Write]:
    """Writes that say something about ``item`` of ``write``'s row, neither knowing the other."""
    return [
        one
        for one in written
        if one.key == write.key
        and not one.knows(write)
        and not write.knows(one)
        and one.number != write.number
        and one.covers(item)
    ]


def lost(
    shape: Shape, rows: tuple[Row, ...], written: Iterable[Write], seen: Iterable[Write]
) -> Iterator[tuple[Write, str]]:
    """What of ``written`` is neither there nor replaced by a write of ``seen`` that knew it: the write and the column or :data:`ROW`."""
    seen = list(seen)
    for write in written:
        row, given = rows[write.key], dict(write.values)
        later = [one for one in seen if one.key == write.key and one.knows(write)]
        for item in write.items():
            if item == ROW:
                kept = (row is None) == (write.kind == "delete")
                kept = kept or any(one.kind not in ("update", write.kind) for one in later)
            else:
                kept = row is not None and row[shape.columns.index(item)].value == given[item]
                kept = kept or any(one.covers(item) for one in later)
            if not kept and item not in shape.bookkeeping:
                yield write, item


def _unsaid(
    losses: Iterable[tuple[Write, str]], told: Iterable[tuple[Write, str]], seen: Iterable[Write]
) -> Iterator[Problem]:
    """Losses that are not told: by value, as who reads the log cannot tell two writes of one value apart."""

    def line(write: Write, item: str) -> tuple[int, str, int | str]:
        return write.key, item, dict(write.values).get(item, write.kind)

    said = {line(*one) for one in told}
    for write, item in losses:
        if line(write, item) not in said:
            promise: Promise = "3 unsaid" if _others(seen, write, item) else "2 columns"
            yield Problem(promise, f"lost: {item} of {write}")


def _unknowing(shape: Shape, rows: tuple[Row, ...], written: Iterable[Write]) -> Iterator[Problem]:
    """Values that stand though a write that knew them says otherwise."""
    written = list(written)
    for write in written:
        for at, cell in enumerate(rows[write.key] or ()):
            name = shape.columns[at]
            later = (one for one in written if one.key == write.key and one.knows(write) and one.covers(name))
            if cell.by == write.number and any(later):
                yield Problem("1 knowledge", f"{name} of {write} is there, and a write that knew it is not")


def _told(shape: Shape, written: tuple[Write, ...], told: tuple[Told, ...]) -> Iterator[Problem]:
    """What is told though no write that did not know it says otherwise, or told again."""
    by_number = {one.number: one for one in written}
    for (number, item), times in Counter((one.write, one.item) for one in told).items():
        write = by_number[number]
        if times > 1:
            yield Problem("3 told once", f"told {times} times: {item} of {write}")
        if not _others(written, write, item) or item in shape.bookkeeping:
            yield Problem("2 columns", f"told as lost without a conflict: {item} of {write}")


def _both_lost(told: tuple[Told, ...], written: Iterable[Write]) -> Iterator[Problem]:
    """Two rows that claimed one value, and neither stayed."""
    keys = {one.number: one.key for one in written}
    losers = {keys[one.write] for one in told if one.kind == "unique claim"}
    if len(losers) > 1:
        yield Problem("3 one wins", f"rows {sorted(losers)} lost to each other")


def _unsound(shape: Shape, rows: tuple[Row, ...]) -> Iterator[Problem]:
    """What PostgreSQL would not have let happen on one side alone."""
    there = [row for row in rows if row is not None]
    if shape.unique is not None:
        at = shape.columns.index(shape.unique)
        claims = [row[at].value for row in there if row[at].value]
        if len(claims) != len(set(claims)):
            yield Problem("sound", "two rows claim one value")
    if shape.parent is not None:
        at = shape.columns.index(shape.parent)
        if any(row[at].value and rows[row[at].value - 1] is None for row in there):
            yield Problem("sound", "a child without its parent")


def problems(
    rules: Rules,
    shape: Shape,
    dbs: tuple[Any, Any],
    history: tuple[tuple[Write, ...], tuple[Write, ...]],
    got: tuple[int, int],
    quiet: bool,
) -> Iterator[Problem]:
    """What is not as promised.

    Args:
        history: each side's writes.
        got: how many of the other side's writes each side has.
        quiet: everything sent has been applied.
    """
    written = (*history[SOURCE], *history[TARGET])
    told = (*rules.told(dbs[SOURCE]), *rules.told(dbs[TARGET]))
    if shape.unique is None and shape.parent is None:
        # Where rules undo a row, both sides can find and tell it.
        yield from _told(shape, written, told)
    yield from _both_lost(told, written)
    by_number = {one.number: one for one in written}
    said = [(by_number[one.write], one.item) for one in told]
    rows = [rules.rows(db) for db in dbs]
    if quiet:
        for key, pair in enumerate(zip(*rows, strict=True)):
            if values(pair[SOURCE]) != values(pair[TARGET]):
                yield Problem("4 equal", f"row {key}: {values(pair[SOURCE])}, {values(pair[TARGET])}")
        for side in SIDES:
            for problem in (
                *_unknowing(shape, rows[side], written),
                *_unsaid(lost(shape, rows[side], written, written), said, written),
                *_unsound(shape, rows[side]),
            ):
                yield problem._replace(what=f"{problem.what}, on the {NAMES[side]}")
    for left in SIDES:
        kept = 1 - left
        if rules.proven(dbs[left], dbs[kept]):
            seen = (*history[kept], *history[left][: got[kept]])
            for problem in _unsaid(lost(shape, rows[kept], history[left], seen), said, seen):
                yield Problem("5 proof", f"proven, but {problem.what}, on the {NAMES[kept]}")
            for problem in _unsound(shape, rows[kept]):
                # It goes on alone, and nothing comes any more that would mend it.
                yield Problem("5 proof", f"proven, but {problem.what}, on the {NAMES[kept]}")
