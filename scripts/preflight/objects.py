"""Preflight of a table's own objects: what the target does not get, and what stands in the stack's lists and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

from components.config import MigrationConfig
from scripts.database.catalog import Table, quoted
from scripts.database.connections import Connection
from scripts.preflight.documents import Check
from scripts.preflight.tables import named
from scripts.schema import choice


def checks(config: MigrationConfig, tables: dict[str, Table], target: Connection | None) -> Iterator[Check]:
    """Triggers, policies, indexes that are not valid, lists, and what policies ask of the ``target``; ``tables`` are the source's."""
    left = choice.left(tables, config)
    triggers = [f"{one.table}.{one.name}" for one in left if one.kind == "trigger"]
    yield named(
        "source: triggers",
        [f"{name} (calls {_trigger(tables, name)})" for name in triggers],
        "all that the tables have are carried, or they have none",
        "warn",
        "what they do on the monolith the Task Service does itself, or the target gets them too: make their functions there, then "
        f"carryTriggers: [{', '.join(triggers)}]",
    )
    chosen = choice.chosen(tables, config, "source")
    policies = [f"{t.name}.{p.name}" for t in chosen.values() for p in t.policies]
    yield named(
        "source: policies",
        policies,
        "none, or left behind",
        "warn",
        f"the target gets them, with {config.target_role} in the place of {config.source_role}: see that the Task Service is and sets what they ask "
        f"(current_user, current_setting), or it sees no row; or leaveBehind: [{', '.join(policies)}]",
    )
    invalid = [one for one in left if one.kind == "index" and one.why != choice.LEFT]
    yield named(
        "source: indexes that are not valid",
        [f"{one.table}.{one.name}" for one in invalid],
        "none",
        "warn",
        "the target does not get them, as nothing uses them: "
        + "; ".join(f"DROP INDEX {quoted(tables[one.table].schema, one.name)}" for one in invalid)
        + ", or mend what they failed at and REINDEX INDEX each",
    )
    behind = [f"{one.table}.{one.name} ({one.kind})" for one in left if one.why == choice.LEFT]
    yield named(
        "source: left behind",
        behind,
        "nothing that leaveBehind names",
        "warn",
        "what a check or a policy refuses on one side alone the other one takes; leave that to the Task Service, or take it out of leaveBehind",
    )
    yield named(
        "source: carryTriggers and leaveBehind",
        choice.unknown(tables, config),
        "each entry names an object of a table",
        "fail",
        "no such trigger; or no such policy, check, index, statistics object or column with a default, and unique ones cannot stay "
        "behind: correct the list",
    )
    if target is not None:
        yield from _roles(config, chosen, target)


def _trigger(tables: dict[str, Table], name: str) -> str:
    return next(g.function for t in tables.values() for g in t.triggers if f"{t.name}.{g.name}" == name)


def _roles(config: MigrationConfig, chosen: dict[str, Table], target: Connection) -> Iterator[Check]:
    """The roles of policies, and whether the operator would see the rows of a table that has row security for its owner too."""
    roles = {role for table in chosen.values() for policy in table.policies for role in policy.roles} - {"public"}
    # `schema apply` makes the Task Service's own.
    wanted = sorted(roles - {config.target_role})
    there = {row[0] for row in target.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (wanted,))}
    lacking = [role for role in wanted if role not in there]
    named_by = [
        f"{table.name}.{policy.name}"
        for table in chosen.values()
        for policy in table.policies
        if set(policy.roles) & set(lacking)
    ]
    yield named(
        "target: roles of policies",
        lacking,
        "all are there, or `schema apply` makes them",
        "fail",
        "; ".join(f"CREATE ROLE {quoted(role)}" for role in lacking) + f"; or leaveBehind: [{', '.join(named_by)}]",
    )
    forced = [table for table in chosen.values() if table.force_row_security]
    bypasses = target.execute(
        "SELECT rolsuper OR rolbypassrls, current_user FROM pg_roles WHERE rolname = current_user"
    )
    may, operator = bypasses.fetchone() or (False, "")
    yield named(
        "target: row security for owners",
        [] if may else [table.name for table in forced],
        "no table of the operator's would hide rows from him",
        "fail",
        f"the operator owns the tables there, and would see no row: ALTER ROLE {quoted(str(operator))} BYPASSRLS on the target, or on the "
        "source " + "; ".join(f"ALTER TABLE {quoted(t.schema, t.name)} NO FORCE ROW LEVEL SECURITY" for t in forced),
    )
