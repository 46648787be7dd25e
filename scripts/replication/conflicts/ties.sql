-- ties: with each heartbeat that arrives, the newer of two tied commits has the row (ties.py)
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
