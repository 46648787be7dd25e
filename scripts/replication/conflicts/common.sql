-- common: what the rules of all tables share; apply workers have an empty search_path, so each function brings its own
CREATE OR REPLACE FUNCTION task_migration.log_conflict(
    table_name text, key jsonb, kind text, decision text, local_updated text, incoming_updated text,
    local_committed timestamptz, local_row text, incoming_row text
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO task_migration.conflicts (table_name, key, kind, decision, local_updated_at, incoming_updated_at,
        local_committed_at, local_row, incoming_row)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
$$;
-- The moment before which the peer had seen every commit of this side, when it sent what arrives now. A second is taken
-- off, as a commit gets its timestamp shortly before its place in the log.
CREATE OR REPLACE FUNCTION task_migration.known_until(peer text) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest(
        coalesce((SELECT peer_beat_at FROM task_migration.heartbeat WHERE side = $1), '-infinity') - interval '1 second',
        (SELECT (value #>> '{}')::timestamptz FROM task_migration.settings WHERE name = 'copied_at'))
$$;
CREATE OR REPLACE FUNCTION task_migration.wins_ties(mine text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT value #>> '{}' FROM task_migration.settings WHERE name = 'tie_winner'), 'source') = $1
$$;
