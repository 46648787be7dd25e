"""Ties decided a second time, by the true order of the commits.

A tie (equal `updated_at`, which has whole seconds) goes to the tie winner at once, as the rule must decide before the
other side's commit time is known. That loses an update which followed the other side's within the same second and knew of
it: a user who creates on one side and completes on the other. Once the applying transaction has ended, its commit
timestamp is that of the change where it was made (PostgreSQL, 'Replication Progress Tracking'), so each heartbeat that
arrives lets the newer of the two commits have the row, on both sides alike. What it writes is applied work with an
origin, and so does not travel back.
"""

from __future__ import annotations

from psycopg import sql

from scripts.database.catalog import Table


def statement(table: Table) -> sql.Composed | None:
    """The table's update by a candidate row ($1, as text) of a commit at $2; None when it has nothing but its key.

    It touches the row only while the version there is older and of the same `updated_at`: a newer one has settled it.
    """
    fields = [name for name in table.stored if name not in table.key and table.column(name).identity != "a"]
    if not fields:
        return None
    candidate = sql.SQL("($1::{})").format(table.identifier)

    def of(name: str) -> sql.Composed:
        return sql.SQL("{}.{}").format(candidate, sql.Identifier(name))

    conditions: list[sql.Composable] = [
        sql.SQL("t.{} = {}").format(sql.Identifier(name), of(name)) for name in table.key
    ]
    conditions.append(sql.SQL("coalesce(pg_xact_commit_timestamp(t.xmin), '-infinity') < $2"))
    if "updated_at" in table.stored:
        conditions.append(sql.SQL("(t.updated_at <> {}) IS NOT TRUE").format(of("updated_at")))
    return sql.SQL("UPDATE {} t SET {} WHERE {}").format(
        table.identifier,
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), of(name)) for name in fields),
        sql.SQL(" AND ").join(conditions),
    )
