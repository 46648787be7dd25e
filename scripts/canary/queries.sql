-- lock_holder: the session that holds the advisory lock %s of this database: pid, name, address, since when
-- (a key of one bigint stands in pg_locks as classid and objid, with objsubid 1: PostgreSQL, 'pg_locks').
SELECT a.pid,
       a.application_name,
       coalesce(host(a.client_addr), 'this machine'),
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
  FROM pg_locks l
  JOIN pg_stat_activity a USING (pid)
  JOIN pg_database d ON d.oid = l.database
 WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database() AND l.objsubid = 1
   AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%s, 0)

-- hold_history: how far the canary is, by its name among the settings, held until the transaction's end
INSERT INTO task_migration.settings AS kept (name, value) VALUES (%s, '{}') ON CONFLICT (name) DO UPDATE SET value = kept.value
RETURNING value
