"""The proof of leaving a side, from the record of writes itself: every insert, update and delete of that side is on the other."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from scripts.database import catalog
from scripts.database.sides import both
from scripts.replication import writes
from scripts.replication.directions import Direction
from scripts.replication.writes import Record
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import Side
from scripts.verify.documents import MissingWrite, UnequalRow, WritesProof
from scripts.verify.replay import unexplained
from scripts.verify.rows import BATCH, Difference, Found, Key, Reader, Recheck, differing
from scripts.verify.sessions import CatchUp, Pair
from scripts.writes import watch

#: Rounds of looking for what was written while the round before compared; a side that takes no requests needs two.
ROUNDS = 4
#: Differing rows and told losses that are named.
LISTED = 100


def prove(settings: Settings, side: Side, timeout: float) -> WritesProof:
    """Whether the other side has every write that ``side``, which is left, ever made, and the rows they were made to.

    Each record of a write of ``side`` must be in the other one's copy, the same; those pruned were found there before. The
    row of each key among the records must be equal on both sides, or on neither; one that is written meanwhile is judged by
    its records (replay.py), or compared again after fences both ways. What ``side`` writes while this looks is looked for
    again, :data:`ROUNDS` times.

    Raises:
        TimedOut: a fence did not come through in ``timeout`` seconds.
        Refused: writes of ``side`` may have left no record, so that records prove nothing.
        DatabaseError: a side cannot be read, or a record cannot be compared: nothing is proven.
    """
    way: Direction = "forward" if side == "source" else "reverse"
    catch_up = CatchUp(settings, True, timeout)
    seen, compared = _Seen(), _Compared(side)
    with both(settings, "compare", "comparing rows") as (source, target):
        pair = Pair(source, target)
        unrecorded = watch.unrecorded(source if side == "source" else target, settings.config, side)
        if unrecorded:
            raise Refused(
                f"writes of the {side} may have left no record: {'; '.join(unrecorded)}; run `task-migration replicate start`, then `verify` "
                "and, where rows differ, `verify --repair newest`, until one finds no difference"
            )
        tables = catalog.read(source, settings.config.db_schema, settings.config.tables, "source")
        for _ in range(ROUNDS):
            seen.late = 0
            arrival = writes.arrival(settings, side, lambda: catch_up.one_way(way), seen.add)
            if not seen.late:
                break
            compared = _Compared(side)
            for name, keys in seen.keys.items():
                compared.add(pair, tables.get(name), sorted(keys), catch_up)
        else:
            # It goes on writing, so what was proven a moment ago says nothing of what it has acknowledged since.
            compared.unsettled += seen.late
        losses = [loss for one in (source, target) for loss in writes.losses(one, LISTED)]
        return WritesProof(
            side=side,
            writes=arrival.written,
            pruned=arrival.pruned,
            missing=arrival.missing,
            missing_writes=[
                MissingWrite(v=one.v, table=one.table, key=json.loads(one.key), kind=one.kind) for one in arrival.first
            ],
            checked=compared.rows,
            equal=max(0, compared.rows - compared.differing - compared.unsettled),
            unsettled=compared.unsettled,
            different_total=compared.differing,
            different=compared.different[:LISTED],
            told=writes.told(source) + writes.told(target),
            losses=sorted(losses, key=lambda loss: loss.at, reverse=True)[:LISTED],
            told_by_kind=writes.told_by_kind(source, target),
        )


@dataclass
class _Seen:
    """The keys that records name, by table, and how many records came since ``late`` was last put to 0."""

    keys: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    last: int = 0
    late: int = 0

    def add(self, batch: Sequence[Record]) -> None:
        """Take note of records, in the order of their numbers."""
        for record in batch:
            if record.kind != "fence":
                self.keys[record.table].add(tuple(json.loads(record.key)))
                self.late += record.v > self.last
        self.last = max(self.last, batch[-1].v)


@dataclass
class _Compared:
    """What comparing rows came to; ``side`` is left."""

    side: Side
    rows: int = 0
    unsettled: int = 0
    differing: int = 0
    different: list[UnequalRow] = field(default_factory=list)

    def add(self, pair: Pair, table: catalog.Table | None, keys: list[Key], catch_up: CatchUp) -> None:
        """Compare the rows of one table; without a table, or with keys of another shape, none of them is comparable."""
        self.rows += len(keys)
        if table is None or any(len(key) != len(table.key) for key in keys):
            self.unsettled += len(keys)
            return
        left, stays = (pair.source, pair.target) if self.side == "source" else (pair.target, pair.source)
        reader = Reader(table, table, "hash")
        unequal: list[Key] = []
        for start in range(0, len(keys), BATCH):
            unequal += differing(pair.both(partial(reader.observations, keys=keys[start : start + BATCH])))
        # First by their records, which takes no time; what they do not explain is looked at until it is sure.
        doubtful = unexplained(left, stays, self.side, table, unequal)
        found = Recheck(pair, reader, catch_up, Found(LISTED)).rows(doubtful)
        self.unsettled += len(unexplained(left, stays, self.side, table, found.moved))
        self.differing += found.total
        self.different += [_named(table, one) for one in found.listed]


def _named(table: catalog.Table, difference: Difference) -> UnequalRow:
    return UnequalRow(
        table=table.name,
        key=dict(zip(table.key, difference.key, strict=True)),
        kind=difference.kind,
        columns=list(difference.columns),
    )
