-- Who is a local writer where applied changes carry no replication origin, as those of AWS DMS do not.
--
-- A session can give its changes an origin (`pg_replication_origin_session_setup`), but PostgreSQL keeps that to superusers
-- unless somebody grants it ('Replication Progress Tracking'), Amazon RDS documents no such grant to rds_superuser, and DMS's
-- AfterConnectScript is documented with one statement. So the rules, which fire in an applying session alone
-- (`session_replication_role = replica`), write its transaction id down once a transaction, and a row whose xmin is one of
-- those was not written here.
--
-- - A row that was written in a subtransaction has that one's id. Both have one commit timestamp, and an applying session
--   has one transaction at a time, so the transaction is looked for by it.
-- - Ids are kept with 64 bits. A row's xmin has 32; it is taken for the nearest, which is right for every row younger than
--   2^31 transactions. Older ones have lost their commit timestamp, and count as known to both sides.
-- - What the other side knew of when it beat last is never asked for again, and is pruned as its beat arrives.
--
-- DMS does not hand on when a change was committed, so a trigger cannot resolve ties (ties.sql); the program
-- does, after each fence, with what both sides know (scripts/replication/dms/ties.py). A mend must not travel back: it refers to the table by which DMS
-- knows what it applied itself (AWS DMS, 'Performing bidirectional replication', Preventing loopback).

-- dms: who wrote a row, written down and asked for
CREATE TABLE IF NOT EXISTS task_migration.applied (
    xid xid8 PRIMARY KEY,
    -- Not after the commit: it is written with the transaction's first row.
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS applied_at ON task_migration.applied (at);
CREATE OR REPLACE FUNCTION task_migration.applying() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
BEGIN
    -- The setting goes with a subtransaction that is rolled back, as the row does.
    IF current_setting('task_migration.applied', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        INSERT INTO task_migration.applied (xid) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
        PERFORM set_config('task_migration.applied', pg_current_xact_id()::text, true);
    END IF;
END
$task_migration$;
CREATE OR REPLACE FUNCTION task_migration.full_xid(short xid, near xid8) RETURNS xid8
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (CASE WHEN d.distance > 2147483648 THEN n.value + d.distance - 4294967296 ELSE n.value + d.distance END)::text::xid8
    FROM (SELECT near::text::numeric AS value) n,
        LATERAL (SELECT mod(short::text::numeric - mod(n.value, 4294967296) + 4294967296, 4294967296) AS distance) d
    WHERE n.value + d.distance - CASE WHEN d.distance > 2147483648 THEN 4294967296 ELSE 0 END >= 0
$$;
-- Shaped as pg_xact_commit_timestamp_origin: roident is 0 for a local writer, else NULL.
CREATE OR REPLACE FUNCTION task_migration.local_write(written_by xid, OUT "timestamp" timestamptz, OUT roident oid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
BEGIN
    "timestamp" := pg_xact_commit_timestamp(written_by);
    IF "timestamp" IS NULL
        OR EXISTS (SELECT 1 FROM task_migration.applied a
                   WHERE a.xid = task_migration.full_xid(written_by, pg_current_xact_id()))
        OR EXISTS (SELECT 1 FROM (SELECT x.xid FROM task_migration.applied x WHERE x.at <= "timestamp"
                                  ORDER BY x.at DESC LIMIT 16) a
                   WHERE pg_xact_commit_timestamp(a.xid::xid) = "timestamp") THEN
        RETURN;
    END IF;
    roident := 0;
END
$task_migration$;
CREATE OR REPLACE FUNCTION task_migration.prune_applied() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
DECLARE
    known timestamptz := task_migration.known_until(NEW.side);
BEGIN
    DELETE FROM task_migration.applied a WHERE a.at < known AND a.xid <> pg_current_xact_id()
        AND coalesce(pg_xact_commit_timestamp(a.xid::xid), '-infinity') <= known;
    RETURN NULL;
END
$task_migration$;
CREATE OR REPLACE TRIGGER task_migration_prune AFTER UPDATE ON task_migration.heartbeat
    FOR EACH ROW WHEN (OLD.beat IS DISTINCT FROM NEW.beat) EXECUTE FUNCTION task_migration.prune_applied();
ALTER TABLE task_migration.heartbeat ENABLE REPLICA TRIGGER task_migration_prune;
CREATE OR REPLACE FUNCTION task_migration.mark_mend() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
DECLARE
    field name;
    marked bigint := 0;
BEGIN
    IF current_setting('task_migration.marked', true) = pg_current_xact_id()::text THEN RETURN; END IF;
    SELECT a.attname INTO field FROM pg_attribute a
    WHERE a.attrelid = to_regclass('task_migration.awsdms_loopback_prevention') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum LIMIT 1;
    IF field IS NOT NULL THEN
        EXECUTE format('UPDATE task_migration.awsdms_loopback_prevention SET %1$I = %1$I', field);
        GET DIAGNOSTICS marked = ROW_COUNT;
    END IF;
    IF marked = 0 THEN
        RAISE EXCEPTION 'a mend would travel back: AWS DMS has not marked anything on this side yet'
            USING HINT = 'run `task-migration replicate start` and `replicate wait` first';
    END IF;
    PERFORM set_config('task_migration.marked', pg_current_xact_id()::text, true);
END
$task_migration$;
