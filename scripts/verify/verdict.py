"""The newest verification's verdict, kept on the source: what it found, of which copy, and when it began by that server's clock.

One that matched is a base for an incremental one, which compares the rows written since the base began, by the records of both sides and
the keys that are kept of deleted ones, and in turns a part of the rest. Since when is told by transactions and not by a clock: what was
under way when the base began counts as written since. A base counts where both sides hold the very same one, of the same servers,
copy, tables and files of tables, replication ran, and nothing was told since of writes that left no record.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from scripts.database import helper_schema, queries
from scripts.database.connections import Connection, scalar
from scripts.verify.rows import Key
from scripts.writes import watch

#: What it is called among the settings.
VERIFIED = "verified"
#: Keys of a side that are compared one by one; beyond it all rows are, so that memory stays flat.
MOST = 100_000
_QUERIES = queries.load("scripts.verify")


@dataclass(frozen=True)
class Begun:
    """A verification's begin: when, by the source's clock (ISO 8601), and the complete copy that it saw by the name of its run."""

    began: str
    copy: str | None
    #: What stood on the source before.
    before: dict[str, Any] | None
    #: By side, the oldest transaction that ran; None where no keys are kept of records that are deleted.
    oldest: tuple[int, int] | None
    #: By side, why writes may have left no record (scripts/writes/watch.py).
    unrecorded: tuple[Any, Any]
    #: Whether replication ran, and what it is bound to as a base; None: it can be none.
    live: bool = False
    pair: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The newest verdict, seen from now."""

    match: bool
    #: Whether the copy that is there now was complete when the verification began.
    of_this_copy: bool
    #: Since it began. Below 0: the source's clock went back.
    age_seconds: float
    #: Since the last one began that compared every row, and matched as all that built on it.
    whole_seconds: float


def begin(source: Connection, target: Connection) -> Begun:
    """What the verdict of a verification that begins now will be of."""
    sides = (source, target)
    kept = all(helper_schema.whole(side) for side in sides)
    return Begun(
        began=scalar(source, "SELECT clock_timestamp()").isoformat(),
        copy=_copy(target),
        before=helper_schema.get(source, VERIFIED),
        oldest=(scalar(source, _QUERIES["oldest"]), scalar(target, _QUERIES["oldest"])) if kept else None,
        unrecorded=(helper_schema.get(source, watch.UNRECORDED), helper_schema.get(target, watch.UNRECORDED)),
    )


def bound(begun: Begun, source: Connection, target: Connection, oids: tuple[list[int], list[int]], live: bool) -> Begun:
    """The begin, bound to both sides and their tables' ``oids``: no base without fences, a whole copy and keys that are kept."""
    pair = None
    if live and begun.copy is not None and begun.oldest is not None:
        parts = [scalar(side, _QUERIES["pair_part"], (of,)) for side, of in zip((source, target), oids, strict=True)]
        pair = "; ".join([begun.copy, *parts])
    return replace(begun, live=live, pair=pair)


def written(
    source: Connection, target: Connection, begun: Begun, tables: Collection[str]
) -> dict[str, set[Key]] | None:
    """The keys, by table, that somebody wrote since the base that stood when the verification began; to be called after a fence.

    None where every row has to be compared: there is no base, or there are too many keys.
    """
    base = begun.before or {}
    if (
        not base.get("match")
        or begun.pair is None
        or base.get("pair") != begun.pair
        or helper_schema.get(target, VERIFIED) != base
        or any(begun.unrecorded)
    ):
        return None
    found: dict[str, set[Key]] = defaultdict(set)
    for side in (source, target):
        rows = side.execute(_QUERIES["written"], (list(tables), MOST + 1)).fetchall()
        if len(rows) > MOST:
            return None
        for table, key in rows:
            found[table].add(tuple(json.loads(key)))
    return found


def turn(begun: Begun) -> int:
    """How many incremental verifications there were: whose turn it is among the parts of the rest."""
    return int((begun.before or {}).get("turn", 0))


def keep(source: Connection, target: Connection, begun: Begun, *, match: bool, incremental: bool) -> None:
    """Keep a verdict in the place of the one before. A match is not kept where another verdict came since it began: that may tell of a
    difference which this one has passed before it was there."""
    before = begun.before or {}
    value = {
        "match": match,
        "began": begun.began,
        "copy": begun.copy,
        "whole": (before["whole"] if incremental else begun.began) if match else None,
        "turn": turn(begun) + incremental,
        "pair": begun.pair,
    }
    with source.transaction():
        row = source.execute(
            "SELECT value FROM task_migration.settings WHERE name = %s FOR UPDATE", (VERIFIED,)
        ).fetchone()
        if match and (row[0] if row else None) != begun.before:
            return
        helper_schema.put(source, VERIFIED, value)
    if not helper_schema.installed(target):
        return
    helper_schema.put(target, VERIFIED, value)
    if match and begun.pair is not None and begun.oldest is not None:
        for side, oldest in zip((source, target), begun.oldest, strict=True):
            side.execute(_QUERIES["answered"], (oldest,))
    for side, told in zip((source, target), begun.unrecorded, strict=True):
        # Both sides have what left no record, and `replicate status` is done with it; not with what was told of since.
        if match and begun.live and told and helper_schema.get(side, watch.UNRECORDED) == told:
            helper_schema.put(side, watch.UNRECORDED, None)


def newest(source: Connection, target: Connection) -> Verdict | None:
    """The newest verdict; None when there is none."""
    kept: dict[str, Any] | None = helper_schema.get(source, VERIFIED)
    if kept is None:
        return None
    # A former version's has no begin, or compared every row.
    since = "SELECT extract(epoch FROM clock_timestamp() - coalesce(%s::timestamptz, 'epoch'))::float8"
    began = kept.get("began")
    copy = _copy(target)
    return Verdict(
        bool(kept["match"]),
        copy is not None and kept.get("copy") == copy,
        scalar(source, since, (began,)),
        scalar(source, since, (kept.get("whole", began),)),
    )


def _copy(target: Connection) -> str | None:
    """The run of the complete copy that the target holds; None while there is none."""
    state: dict[str, Any] = helper_schema.get(target, helper_schema.COPY) or {}
    return str(state["run"]) if state.get("status") == "complete" and "run" in state else None
