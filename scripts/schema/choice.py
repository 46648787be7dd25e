"""What of the source's tables the target gets, and what stays behind, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from components.config import MigrationConfig
from scripts.database.catalog import Column, Policy, Sequence, Table
from scripts.schema.documents import Left
from scripts.support.sides import Side

Tables = Mapping[str, Table]
#: Why something stays behind that the configuration names.
LEFT = "leaveBehind"
Leavable = Literal["check", "default", "index", "policy", "statistics"]


def chosen(tables: Tables, config: MigrationConfig, side: Side) -> dict[str, Table]:
    """``tables`` of a side with what both sides are to have alike: without what `leaveBehind` names and triggers that `carryTriggers`
    does not, and on the source without what cannot be on the target either: foreign keys to other tables, indexes that are not valid,
    owners of sequences that stay. What policies say of the monolith's role, they say of the Task Service's there.
    """
    moved = {table.full_name for table in tables.values()}
    found = {name: _without(table, config) for name, table in tables.items()}
    return {name: _of_source(table, config, moved) for name, table in found.items()} if side == "source" else found


def _without(table: Table, config: MigrationConfig) -> Table:
    behind, carried = (_named(table, names) for names in (config.leave_behind, config.carry_triggers))
    policies = tuple(policy for policy in table.policies if policy.name not in behind)
    # Without a policy, nobody but the owner would see a row.
    secured = bool(policies) or not table.policies
    return replace(
        table,
        columns=tuple(replace(c, default=None) if _left_default(c, behind) else c for c in table.columns),
        constraints=tuple(c for c in table.constraints if c.kind != "c" or c.name not in behind),
        indexes=tuple(i for i in table.indexes if i.constraint or i.unique or i.name not in behind),
        statistics=tuple(s for s in table.statistics if s.name not in behind),
        triggers=tuple(t for t in table.triggers if t.name in carried),
        sequences=tuple(s for s in table.sequences if s.identity or s.column not in behind),
        policies=policies,
        row_security=table.row_security and secured,
        force_row_security=table.force_row_security and secured,
    )


def _named(table: Table, entries: Iterable[str]) -> set[str]:
    """What ``entries`` (`table.name`) name of the table."""
    return {entry.removeprefix(f"{table.name}.") for entry in entries if entry.startswith(f"{table.name}.")}


def _left_default(column: Column, behind: Collection[str]) -> bool:
    return column.name in behind and not column.generated


def _of_source(table: Table, config: MigrationConfig, moved: set[tuple[str, str]]) -> Table:
    return replace(
        table,
        constraints=tuple(c for c in table.constraints if c.references is None or c.references in moved),
        indexes=tuple(i for i in table.indexes if i.valid),
        policies=tuple(_of_target_role(policy, config) for policy in table.policies),
        sequences=tuple(_owned(sequence, moved) for sequence in table.sequences),
    )


def _of_target_role(policy: Policy, config: MigrationConfig) -> Policy:
    roles = {config.target_role if role == config.source_role else role for role in policy.roles}
    return replace(policy, roles=tuple(sorted(roles)))


def _owned(sequence: Sequence, moved: set[tuple[str, str]]) -> Sequence:
    return sequence if sequence.owner and sequence.owner[0] in moved else replace(sequence, owner=None)


def left(tables: Tables, config: MigrationConfig) -> list[Left]:
    """What of the source's ``tables`` the target does not get, each with why."""
    found = []
    for name, table in tables.items():
        found += [
            Left(table=name, kind="trigger", name=trigger.name, why="not in carryTriggers")
            for trigger in table.triggers
            if f"{name}.{trigger.name}" not in config.carry_triggers
        ]
        found += [
            Left(table=name, kind="index", name=index.name, why="not valid: building it failed, and nothing uses it")
            for index in table.indexes
            if not index.valid
        ]
        found += [
            Left(table=name, kind=kind, name=one, why=LEFT)
            for kind, one in _leavable(table)
            if f"{name}.{one}" in config.leave_behind
        ]
    return found


def _leavable(table: Table) -> Iterator[tuple[Leavable, str]]:
    """What `leaveBehind` may name of a table: nothing by which rows are told apart or refer to each other."""
    yield from (("check", constraint.name) for constraint in table.constraints if constraint.kind == "c")
    yield from (("index", index.name) for index in table.indexes if not index.constraint and not index.unique)
    yield from (("policy", policy.name) for policy in table.policies)
    yield from (("statistics", one.name) for one in table.statistics)
    yield from (("default", column.name) for column in table.columns if column.default and not column.generated)


def unknown(tables: Tables, config: MigrationConfig) -> list[str]:
    """Entries of the two lists that name nothing of the source's ``tables``, in words."""
    there = {f"{name}.{trigger.name}" for name, table in tables.items() for trigger in table.triggers}
    may = _may(tables)
    return [f"carryTriggers: {entry}" for entry in config.carry_triggers if entry not in there] + [
        f"leaveBehind: {entry}" for entry in config.leave_behind if entry not in may
    ]


def may_stay(tables: Tables, entries: Iterable[str]) -> str:
    """What is said of ``entries`` (table.name) that `leaveBehind` may name; nothing where it may name none."""
    found = sorted(_may(tables) & set(entries))
    return f"; or what the target can do without stays behind: leaveBehind: [{', '.join(found)}]" if found else ""


def _may(tables: Tables) -> set[str]:
    return {f"{name}.{one}" for name, table in tables.items() for _, one in _leavable(table)}
