"""Is the record of writes as `replicate start` left it: what takes it away, or makes it miss something, is found here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema
from scripts.database.connections import Connection
from scripts.support.sides import Side
from scripts.writes import install, record, relations

#: Where a side's settings keep that writes may have left no record, and why; a verification that finds no difference ends it.
UNRECORDED = "unrecorded"
_STATES = {"D": "switched off", "O": "on for local sessions only", "R": "on for replication only"}


@dataclass(frozen=True)
class Changed:
    """What is not as it was made, a few words each.

    ``triggers``: writes may have left no record, or what arrives is not applied. ``tables``: the functions were made for columns as
    they were. ``clock``: the side's numbers went back.
    """

    triggers: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    clock: tuple[str, ...] = ()


def changed(connection: Connection, config: MigrationConfig, side: Side) -> Changed:
    """Look at one side. Nothing has changed where nothing was installed."""
    made: dict[str, Any] | None = helper_schema.get(connection, install.SHAPES)
    if made is None:
        return Changed()
    there = catalog.existing(connection, config.db_schema, config.tables)
    found = relations.of(catalog.read(connection, config.db_schema, there, side), config.column_groups)
    now = install.fingerprint(connection, found, made)
    triggers = [text for name in config.tables for text in _triggers(name, made.get(name), now.get(name))]
    triggers += _code(helper_schema.get(connection, install.CODE), install.code(connection))
    tables = [text for name in there if name in made for text in _columns(name, made[name], now[name])]
    return Changed(tuple(triggers), tuple(tables), tuple(_clock(connection)))


def unrecorded(connection: Connection, config: MigrationConfig, side: Side) -> list[str]:
    """Why writes of ``side`` may have left no record: what is off now, and what was until a `replicate start` put it back."""
    kept = helper_schema.get(connection, UNRECORDED) or []
    return sorted({*kept, *changed(connection, config, side).triggers})


def _triggers(name: str, made: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    for trigger in (record.CAPTURE, record.NO_TRUNCATE):
        was, state = ((one or {}).get("triggers", {}).get(trigger) for one in (made, now))
        if state is None:
            yield f"{name} has no trigger {trigger}"
        elif state[0] != "A":
            yield f"the trigger {trigger} of {name} is {_STATES.get(state[0], state[0])}, not ENABLE ALWAYS"
        elif state != was:
            yield f"the trigger {trigger} of {name} was switched off, or made anew, meanwhile"


def _code(made: Mapping[str, list[str]] | None, now: Mapping[str, list[str]]) -> Iterator[str]:
    """Functions and triggers of the helper schema that are not as they were made, where a version of ours noted that."""
    if made is None:
        return
    for name, was in made.items():
        if (there := now.get(name)) is None:
            yield f"{name} is gone"
        elif there[0] != was[0]:
            yield f"{name} is {_STATES.get(there[0], there[0])}, not ENABLE ALWAYS"
        elif there != was:
            yield f"{name} is not as it was made"
    yield from (f"{name} is none of ours" for name in now if name not in made)


def _columns(name: str, made: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for number, names in now["columns"].items():
        was, column = (made["columns"].get(number) or [None])[-1], names[-1]
        if was == column:
            continue
        what = f"renamed to {column}" if was and column else "dropped" if was else "added"
        yield f"{name}.{was or column} was {what}"
    for column, kind in now["types"].items():
        if made["types"].get(column, kind) != kind:
            yield f"{name}.{column} was {made['types'][column]} and is {kind}"


def _clock(connection: Connection) -> Iterator[str]:
    row = connection.execute(install.QUERIES["clock_behind"]).fetchone()
    if row is not None:
        yield f"the clock stands at {row[0]}, behind the write {row[1]} that is recorded here"
