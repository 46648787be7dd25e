"""What a table has besides columns, keys, checks and indexes: each part with what shows it, and the SQL that makes and takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scripts.database.catalog import Policy, Table, quoted
from scripts.schema.documents import Kind
from scripts.schema.sequences import literal


@dataclass(frozen=True)
class Part:
    """One of them. ``late``: it comes after the rows. ``of_rows``: it decides which rows somebody sees, or what is written."""

    kind: Kind
    name: str
    shown: str
    make: str
    drop: str
    #: What it is said of, as :func:`objects` names it; empty: it stands for itself.
    of: str = ""
    late: bool = False
    of_rows: bool = False


def parts(table: Table) -> list[Part]:
    """All parts of the table, in the order in which they can be made."""
    return [*_storage(table), *_statistics(table), *_security(table), *_late(table), *_comments(table)]


def _storage(table: Table) -> Iterator[Part]:
    name = table.identifier.as_string(None)
    for column in table.columns:
        alter = f"ALTER TABLE {name} ALTER COLUMN {quoted(column.name)}"
        for what, value, plain in (
            ("STORAGE", column.storage, "DEFAULT"),
            ("COMPRESSION", column.compression, "DEFAULT"),
            ("STATISTICS", column.statistics, "-1"),
        ):
            if value is not None:
                text = f"SET {what} {value}"
                drop, of = f"{alter} SET {what} {plain}", f"column {column.name}"
                yield Part("storage", f"{column.name} {what}", text, f"{alter} {text}", drop, of)
    for option in table.options:
        key, _, text = option.partition("=")
        set_, reset = f"ALTER TABLE {name} SET ({key} = {literal(text)})", f"ALTER TABLE {name} RESET ({key})"
        yield Part("storage", key, option, set_, reset)


def _statistics(table: Table) -> Iterator[Part]:
    for one in table.statistics:
        full, make = quoted(one.schema, one.name), one.definition
        if one.target is not None:
            make += f"; ALTER STATISTICS {full} SET STATISTICS {one.target}"
        yield Part("statistics", one.name, make, make, f"DROP STATISTICS IF EXISTS {full}")


def _security(table: Table) -> Iterator[Part]:
    alter = f"ALTER TABLE {table.identifier.as_string(None)}"
    for on, name, make, drop in (
        (table.row_security, "enabled", "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY"),
        (table.force_row_security, "forced", "FORCE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"),
    ):
        if on:
            yield Part("row security", name, make, f"{alter} {make}", f"{alter} {drop}", of_rows=True)
    for policy in table.policies:
        make = policy_text(policy, table)
        drop = f"DROP POLICY IF EXISTS {quoted(policy.name)} ON {table.identifier.as_string(None)}"
        yield Part("policy", policy.name, make, make, drop, of_rows=True)


def policy_text(policy: Policy, table: Table) -> str:
    """The CREATE POLICY."""
    roles = ", ".join("PUBLIC" if role == "public" else quoted(role) for role in policy.roles)
    return (
        f"CREATE POLICY {quoted(policy.name)} ON {table.identifier.as_string(None)} AS "
        f"{'PERMISSIVE' if policy.permissive else 'RESTRICTIVE'} FOR {policy.command} TO {roles}"
        + (f" USING ({policy.using})" if policy.using is not None else "")
        + (f" WITH CHECK ({policy.check})" if policy.check is not None else "")
    )


#: pg_trigger.tgenabled, but for `O`, which a trigger has when it is made.
_ENABLED = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


def _late(table: Table) -> Iterator[Part]:
    name = table.identifier.as_string(None)
    identity = {"n": "NOTHING", "f": "FULL"}.get(table.replica_identity)
    if table.identity_index is not None:
        identity = f"USING INDEX {quoted(table.identity_index)}"
    if identity is not None:
        text = f"ALTER TABLE {name} REPLICA IDENTITY"
        yield Part("replica identity", table.name, identity, f"{text} {identity}", f"{text} DEFAULT", late=True)
    for trigger in table.triggers:
        full, make = quoted(trigger.name), trigger.definition
        if trigger.enabled in _ENABLED:
            make += f"; ALTER TABLE {name} {_ENABLED[trigger.enabled]} TRIGGER {full}"
        drop = f"DROP TRIGGER IF EXISTS {full} ON {name}"
        yield Part("trigger", trigger.name, make, make, drop, late=True, of_rows=True)


def objects(table: Table) -> Iterator[tuple[str, str, str | None, bool]]:
    """What of the table has a comment or could: its name, itself as COMMENT ON takes it, the comment, whether it comes after the rows."""
    name = table.identifier.as_string(None)
    yield "table", f"TABLE {name}", table.comment, False
    for column in table.columns:
        yield f"column {column.name}", f"COLUMN {name}.{quoted(column.name)}", column.comment, False
    for constraint in table.constraints:
        late = constraint.kind != "c" or not constraint.valid
        yield (
            f"constraint {constraint.name}",
            f"CONSTRAINT {quoted(constraint.name)} ON {name}",
            constraint.comment,
            late,
        )
    for index in table.indexes:
        yield f"index {index.name}", f"INDEX {quoted(table.schema, index.name)}", index.comment, True
    for one in table.statistics:
        yield f"statistics {one.name}", f"STATISTICS {quoted(one.schema, one.name)}", one.comment, False
    for policy in table.policies:
        yield f"policy {policy.name}", f"POLICY {quoted(policy.name)} ON {name}", policy.comment, False
    for trigger in table.triggers:
        yield f"trigger {trigger.name}", f"TRIGGER {quoted(trigger.name)} ON {name}", trigger.comment, True


def _comments(table: Table) -> Iterator[Part]:
    for of, what, comment, late in objects(table):
        if comment is not None:
            text = f"COMMENT ON {what} IS"
            yield Part("comment", of, comment, f"{text} {literal(comment)}", f"{text} NULL", of, late)
