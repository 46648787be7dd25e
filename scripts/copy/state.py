"""What an earlier copy left, and whether this one may begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from components.config import MigrationConfig
from scripts.copy import slot as slots
from scripts.copy.documents import Copied
from scripts.database import catalog, end_mark, helper_schema, locks
from scripts.database.connections import COPY_WRITER, Connection, session_name
from scripts.database.engines import dms_started
from scripts.schema import run as schema
from scripts.schema.documents import Difference
from scripts.support.errors import Refused, TimedOut
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

#: How long a copy that was just killed may hold its lock.
LOCK_SECONDS = 10.0
#: Kind (link, key, index, trigger), table and name of what a copy added to the target's tables.
Made = list[list[str]]


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left: in words; its facts when it is complete and still good; the keys and indexes it made."""

    found: str
    complete: Copied | None
    made: Made


def only_one(target: Connection, name: str) -> None:
    """Take the lock of `copy` for the run ``name``, for as long as the session lasts.

    Raises:
        Refused: another copy holds it.
    """
    # A copy that was killed holds its lock until its server process notices, which ends with the statement it runs.
    try:
        wait_until(
            lambda: locks.take(target, locks.COPY, f"{session_name('copy')} {name}"),
            lambda other: other is None,
            what="the lock of `copy`",
            timeout=LOCK_SECONDS,
        )
    except TimedOut as error:
        other = locks.holder(target, locks.COPY)
        raise Refused(
            f"another `task-migration copy` is at work on this target (for {LOCK_SECONDS:g} s at least): {other or error}; wait for it, or end "
            "that process"
        ) from None


def other_tables(state: Mapping[str, Any] | None, config: MigrationConfig) -> str | None:
    """Why a complete copy is not of the configured tables, in words; None when it is, or there is none.

    A table that is added later has neither its rows on the target nor its writes in the record, and of one that is taken out the
    writes go on travelling with nobody comparing them.
    """
    copied = [str(table["table"]) for table in (state or {}).get("tables", [])]
    if not copied or set(copied) == set(config.tables):
        return None
    return (
        f"the copy took {', '.join(copied)}; `tables` names {', '.join(config.tables)}: put it back as it was, or give this attempt up "
        "(`task-migration rollback --abandon`) and copy again"
    )


def refuse_ended(source: Connection, target: Connection, config: MigrationConfig) -> None:
    """Raises Refused where `finalize` ended: the rows of the target are newer than the source's, and nobody else has them."""
    try:
        since = end_mark.found(source, config)
    except Refused:
        return  # the helper schema is another role's: no end, and refused by what looks at roles
    if since is not None and (filled := _filled(target, config)):
        raise Refused(
            f"`finalize` ended on {since}: a copy would put the source's older rows in the place of those of the target's "
            f"{', '.join(filled)}; nothing was changed. Only to migrate anew, from rows that the source was given since: back the target up "
            "(`task-migration backup`), TRUNCATE these tables there yourself, then copy"
        )


def _filled(target: Connection, config: MigrationConfig) -> list[str]:
    """The configured tables of the target that hold rows."""
    return [
        name
        for name in catalog.existing(target, config.db_schema, config.tables)
        if target.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(config.db_schema, name))).fetchone()
    ]


def end_leftovers(target: Connection) -> int:
    """End sessions of a copy that was killed: a CREATE INDEX goes on for minutes before its server process looks up.

    Whoever holds the lock is the only copy, so these are nobody's. Returns how many there were.
    """
    rows = target.execute(slots.QUERIES["end_writers"], (session_name(COPY_WRITER),)).fetchall()
    return len(rows)


def find(settings: Settings, source: Connection, target: Connection, tables: Mapping[str, catalog.Table]) -> Earlier:
    """What an earlier run left.

    Raises:
        Refused: the target may hold writes of its own, or rows that no copy of ours put there.
    """
    config = settings.config
    state = helper_schema.get(target, helper_schema.COPY)
    made: Made = (state or {}).get("made", [])
    slot = slots.describe(source, config.subscription)
    subscribed = target.execute(
        "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database() AND subname = %s",
        (config.subscription,),
    ).fetchone() or dms_started(target)
    complete = state is not None and state.get("status") == "complete"
    if complete and (changed := other_tables(state, config)):
        raise Refused(changed)
    if complete and slot is not None and slot.wal_status != "lost":
        facts = Copied.model_validate({key: state[key] for key in Copied.model_fields if key in state})
        running = (
            "replication runs from its slot" if subscribed else "its slot waits for `task-migration replicate start`"
        )
        return Earlier(f"a copy complete since {state['at']}; {running}; nothing was changed", facts, made)
    if subscribed:
        raise Refused(
            f"replication from {config.subscription} was started but no good copy with its slot is there (slot: {slot or 'none'}); "
            "the target may hold writes of its own: run `task-migration rollback --abandon` first, then copy again"
        )
    filled = _filled(target, config)
    if filled and state is None:
        raise Refused(
            f"the target's {', '.join(filled)} hold rows that no copy of this program put there; the limit is empty tables: "
            f"look at them, then TRUNCATE {', '.join(tables)} on the target yourself"
        )
    if complete:
        found = f"a complete copy whose slot is gone (slot: {slot or 'none'}): its snapshot is lost, so the copy starts anew"
    elif state is not None:
        left = f"slot {'left over' if slot else 'not there'}, rows in {', '.join(filled) or 'no table'}"
        found = f"an unfinished copy ({left}): its snapshot is lost with it, so the copy starts anew"
    else:
        found = "nothing of an earlier copy" + (f"; a leftover slot {config.subscription} is dropped" if slot else "")
    return Earlier(found, None, made)


def check(
    settings: Settings,
    source: Connection,
    target: Connection,
    tables: Mapping[str, catalog.Table],
    made: Made,
) -> None:
    """Raise Refused unless rows may be moved; ``made`` is what an unfinished copy left, which this one takes away itself."""
    config = settings.config
    found = schema.diff(settings)
    keyless = [table.name for table in tables.values() if not table.key]
    if keyless:
        raise Refused(f"{', '.join(keyless)}: no primary key, so updates cannot be replicated; add one on the source")
    if not all(_made_here(item, made) for item in found.drift):
        lacking = sorted(set(tables) - set(catalog.existing(target, config.db_schema, config.tables)))
        how = (
            f"the target has no table {', '.join(lacking)}: run `task-migration schema apply`"
            if lacking
            else "mend them"
        )
        raise Refused(f"the two schemas differ, no row was moved; {how}, then copy again:\n{found.text}")
    unlogged = [
        f"{table.name} on the {side}"
        for side, connection in (("source", source), ("target", target))
        for table in catalog.read(connection, config.db_schema, config.tables, side).values()
        if table.persistence != "p"
    ]
    if unlogged:
        raise Refused(
            f"{', '.join(unlogged)}: unlogged, so a server's crash empties it and no change of it is replicated; "
            "ALTER TABLE ... SET LOGGED there first"
        )
    for table in tables.values():
        for sequence in table.sequences:
            last = catalog.last_value(source, sequence)
            if last >= config.sequence_band_start:
                raise Refused(
                    f"sequence {sequence.name} stands at {last} on the source, the limit is below sequenceBandStart "
                    f"({config.sequence_band_start}); raise sequenceBandStart"
                )
            if sequence.maximum <= config.sequence_band_start:
                raise Refused(
                    f"sequence {sequence.name} ends at {sequence.maximum}, the limit is above sequenceBandStart "
                    f"({config.sequence_band_start}); lower sequenceBandStart or widen the column"
                )


def _made_here(difference: Difference, made: Made) -> bool:
    """Whether a copy brings it about itself."""
    if difference.kind not in ("constraint", "index", "trigger"):
        return False
    # After a lost slot the state still says complete, so keys dropped since are differences that a copy mends itself.
    return difference.target is None or any(name == difference.name for _, _, name in made)
