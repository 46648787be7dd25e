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

SETTLE = """
CREATE TABLE IF NOT EXISTS task_migration.rules (table_name text PRIMARY KEY, settle text NOT NULL);
CREATE OR REPLACE FUNCTION task_migration.settle_ties() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
DECLARE
    best record;
    written bigint;
BEGIN
    FOR best IN
        SELECT DISTINCT ON (o.table_name, o.key) o.table_name, o.key, o.candidate, o.candidate_at, r.settle
        FROM (SELECT c.table_name, c.key,
                     CASE c.decision WHEN 'skipped' THEN c.incoming_row ELSE c.local_row END AS candidate,
                     CASE c.decision WHEN 'skipped' THEN pg_xact_commit_timestamp(c.xid::xid) ELSE c.local_committed_at END
                         AS candidate_at
              FROM task_migration.conflicts c WHERE c.settled IS NULL AND c.kind = 'tie') o
        JOIN task_migration.rules r USING (table_name)
        WHERE o.candidate_at IS NOT NULL ORDER BY o.table_name, o.key, o.candidate_at DESC
    LOOP
        BEGIN
            EXECUTE best.settle USING best.candidate, best.candidate_at;
            GET DIAGNOSTICS written = ROW_COUNT;
            UPDATE task_migration.conflicts c SET settled = CASE WHEN written > 0 THEN 'by commit time' ELSE 'stands' END
            WHERE c.settled IS NULL AND c.kind = 'tie' AND c.table_name = best.table_name AND c.key = best.key
                AND (c.decision <> 'skipped' OR pg_xact_commit_timestamp(c.xid::xid) IS NOT NULL);
        EXCEPTION WHEN unique_violation OR check_violation OR lock_not_available OR deadlock_detected THEN
            -- Left open for `verify --repair`: a fence must not stop for it.
            NULL;
        END;
    END LOOP;
    RETURN NULL;
END
$task_migration$;
CREATE OR REPLACE TRIGGER task_migration_settle AFTER UPDATE ON task_migration.heartbeat
    FOR EACH ROW WHEN (OLD.beat IS DISTINCT FROM NEW.beat) EXECUTE FUNCTION task_migration.settle_ties();
ALTER TABLE task_migration.heartbeat ENABLE REPLICA TRIGGER task_migration_settle;
"""


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
