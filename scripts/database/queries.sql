-- comments: the comment of each table of a schema by name
SELECT c.relname, obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s) ORDER BY c.relname

-- install: the helper schema with its tables, whole or not at all; {owner} is who makes it
-- Whoever made the schema first and has not committed yet is waited for shortly, by the unique index of the catalog.
SET LOCAL lock_timeout = '300ms';
CREATE SCHEMA IF NOT EXISTS task_migration;
CREATE TABLE IF NOT EXISTS task_migration.settings (name text PRIMARY KEY, value jsonb NOT NULL);
-- What was written on each side: its own table is filled by triggers, the other's by replication. `v` is the write's place in the one
-- order of all writes, `key` a JSON array of the key's values, `vals` a JSON object of values as text, both also as text: nothing that
-- carries them has to know more types. `cause`: why the rules made it themselves; NULL is somebody's own write.
CREATE TABLE IF NOT EXISTS task_migration.source_writes (
    v bigint PRIMARY KEY,
    table_name text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    vals text,
    cause text,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS task_migration.target_writes (LIKE task_migration.source_writes INCLUDING DEFAULTS INCLUDING INDEXES);
-- Who wrote: the role that logged in, whatever it changed to since, and what its session calls itself. The defaults for themselves, so
-- that nobody stands in what a former version recorded.
ALTER TABLE task_migration.source_writes ADD COLUMN IF NOT EXISTS role text, ADD COLUMN IF NOT EXISTS application text;
ALTER TABLE task_migration.target_writes ADD COLUMN IF NOT EXISTS role text, ADD COLUMN IF NOT EXISTS application text;
ALTER TABLE task_migration.source_writes ALTER role SET DEFAULT session_user, ALTER application SET DEFAULT current_setting('application_name');
ALTER TABLE task_migration.target_writes ALTER role SET DEFAULT session_user, ALTER application SET DEFAULT current_setting('application_name');
-- How much of that went with a side's own records as they were pruned, by minute.
CREATE TABLE IF NOT EXISTS task_migration.writers (
    minute timestamptz,
    table_name text,
    kind text,
    role text,
    application text,
    writes bigint NOT NULL,
    oldest timestamptz NOT NULL,
    newest timestamptz NOT NULL,
    PRIMARY KEY (minute, table_name, kind, role, application)
);
CREATE INDEX IF NOT EXISTS source_writes_key ON task_migration.source_writes (table_name, key, v);
CREATE INDEX IF NOT EXISTS target_writes_key ON task_migration.target_writes (table_name, key, v);
-- Writes that lost: `v` is the write, `columns` what of it, `lost` and `kept` both values.
CREATE TABLE IF NOT EXISTS task_migration.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_name text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    v bigint NOT NULL,
    columns text[] NOT NULL,
    lost text,
    kept text
);
-- Who is at work, one row a lock; `pid` and `backend_start` are its session's (scripts/database/locks.py).
CREATE TABLE IF NOT EXISTS task_migration.locks (
    name text PRIMARY KEY,
    holder text,
    pid integer,
    backend_start timestamptz
);
-- Locks on keys that are hashed to one of them (scripts/writes/capture.sql); rows, as any login may hold an advisory lock.
CREATE TABLE IF NOT EXISTS task_migration.keys (bucket integer PRIMARY KEY);
INSERT INTO task_migration.keys SELECT generate_series(0, 1023) ON CONFLICT DO NOTHING;
-- Keys of the rows whose records are gone, whoever deleted those, until a verification that began later has matched
-- (scripts/verify/verdict.py). `xid`: the transaction in which the last one went.
CREATE TABLE IF NOT EXISTS task_migration.written (
    table_name text,
    key text,
    xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    PRIMARY KEY (table_name, key)
);
CREATE OR REPLACE FUNCTION task_migration.keep_keys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
BEGIN
    INSERT INTO task_migration.written (table_name, key) SELECT DISTINCT g.table_name, g.key FROM gone g WHERE g.kind <> 'fence' ORDER BY 1, 2
    ON CONFLICT (table_name, key) DO UPDATE SET xid = excluded.xid;
    RETURN NULL;
END
$task_migration$;
-- A member of pg_write_all_data may write to every table. Here only the owner may, and whoever was given a right to this very table.
CREATE OR REPLACE FUNCTION task_migration.guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $task_migration$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
                   WHERE c.oid = TG_RELID AND a.privilege_type = TG_OP AND a.grantee <> 0 AND pg_has_role(current_user, a.grantee, 'USAGE')) THEN
        RAISE EXCEPTION '% of task_migration.% by % is refused: nobody gave it a right to this table', TG_OP, TG_TABLE_NAME, current_user
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END
$task_migration$;
DO $task_migration$
DECLARE
    _name text;
BEGIN
    FOREACH _name IN ARRAY ARRAY['settings', 'source_writes', 'target_writes', 'conflicts', 'locks', 'keys', 'writers', 'written'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER "00_task_migration_guard" BEFORE INSERT OR UPDATE OR DELETE ON task_migration.%I '
            'FOR EACH STATEMENT WHEN (current_user <> %L) EXECUTE FUNCTION task_migration.guard()', _name, {owner});
        EXECUTE format('ALTER TABLE task_migration.%I ENABLE ALWAYS TRIGGER "00_task_migration_guard"', _name);
    END LOOP;
    FOREACH _name IN ARRAY ARRAY['source_writes', 'target_writes'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER "01_task_migration_keep_keys" AFTER DELETE ON task_migration.%I '
            'REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION task_migration.keep_keys()', _name);
        EXECUTE format('ALTER TABLE task_migration.%I ENABLE ALWAYS TRIGGER "01_task_migration_keep_keys"', _name);
    END LOOP;
END
$task_migration$

-- state: who owns the helper schema (no row: nobody made it), whether its first tables are there, and its last two's triggers; by names in
-- the catalog, as somebody else's schema may not be looked into
SELECT pg_get_userbyid(n.nspowner), n.nspowner = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user),
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'conflicts'),
       (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = n.oid AND c.relname IN ('writers', 'written') AND t.tgname = '00_task_migration_guard') = 2
FROM pg_namespace n WHERE n.nspname = 'task_migration'

-- holdings: each object of the helper schema, with its owner, and who else has been given what right to it: NULL is everybody
WITH own (kind, name, owner, acl) AS (
    SELECT 'SCHEMA', 'task_migration', nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname = 'task_migration'
    UNION ALL SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text, relowner,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM pg_class WHERE relnamespace = to_regnamespace('task_migration') AND relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
    UNION ALL SELECT 'TABLE', c.oid::regclass::text, c.relowner, a.attacl FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = to_regnamespace('task_migration') AND a.attacl IS NOT NULL
    UNION ALL SELECT 'ROUTINE', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc WHERE pronamespace = to_regnamespace('task_migration'))
SELECT o.kind, o.name, pg_get_userbyid(o.owner), pg_get_userbyid(nullif(a.grantee, 0)), string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
FROM own o LEFT JOIN LATERAL (SELECT x.grantee, x.privilege_type FROM aclexplode(o.acl) x WHERE x.grantee <> o.owner) a ON true
GROUP BY o.kind, o.name, o.owner, a.grantee ORDER BY 1, 2, 4

-- lock_row: hold the row of a lock (by name) until the transaction ends
SELECT 1 FROM task_migration.locks WHERE name = %s FOR UPDATE

-- lock_holder: who holds a lock (by name): pid, what it calls itself, address, since when its session is there; no row when nobody
-- does. When a session began is hidden from other roles (PostgreSQL, 'The Cumulative Statistics System'): then the process alone counts.
SELECT a.pid, l.holder, coalesce(host(a.client_addr), 'this machine'),
       to_char(l.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
FROM task_migration.locks l JOIN pg_stat_activity a ON a.pid = l.pid AND coalesce(a.backend_start, l.backend_start) = l.backend_start
WHERE l.name = %s

-- lock_last: who took a lock (by name) last, as `lock_holder`, be his session there or not
SELECT pid, holder, 'a session that has ended', to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
FROM task_migration.locks WHERE name = %s AND pid IS NOT NULL

-- lock_take: this session holds the lock from now on
UPDATE task_migration.locks l SET holder = %(holder)s, pid = a.pid, backend_start = a.backend_start
FROM pg_stat_activity a WHERE l.name = %(name)s AND a.pid = pg_backend_pid()

-- lock_end: end the session (pid) that holds a lock (by name), unless the process is another one's by now
SELECT pg_terminate_backend(a.pid) FROM task_migration.locks l
JOIN pg_stat_activity a ON a.pid = l.pid AND coalesce(a.backend_start, l.backend_start) = l.backend_start
WHERE l.name = %(name)s AND l.pid = %(pid)s

-- secret_block: the body of a block that runs a statement (a format's text, with %L for the secret) without quoting it in an error; a
-- cancelled statement and a failed assertion are no OTHERS (PostgreSQL, 'PL/pgSQL', Trapping Errors)
BEGIN
    EXECUTE (SELECT pg_catalog.format({statement}, value) FROM pg_temp.task_migration_secret);
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    RAISE EXCEPTION USING MESSAGE = SQLERRM, ERRCODE = SQLSTATE;
END

-- loud_settings: settings that show a statement which runs inside of a block: name, value, and the value that does not
SELECT s.name, s.setting, q.quiet FROM pg_settings s JOIN (VALUES
    ('pg_stat_statements.track_utility', 'off', 'off'), ('pgaudit.log', 'none', 'none|'),
    ('log_min_messages', 'warning', 'info|notice|warning|error|log|fatal|panic'), ('debug_print_parse', 'off', 'off'),
    ('debug_print_rewritten', 'off', 'off'), ('debug_print_plan', 'off', 'off')) q(name, quiet, harmless) USING (name)
WHERE s.setting <> ALL (string_to_array(q.harmless, '|'))
AND (s.name <> 'pg_stat_statements.track_utility' OR current_setting('pg_stat_statements.track', true) = 'all')

-- short_locks: no wait for a lock is so long that `log_lock_waits` tells of it, with its context
SELECT set_config('lock_timeout', greatest(1, least(300, setting::int / 2))::text, true) FROM pg_settings WHERE name = 'deadlock_timeout'

-- statements_schema: where the extension pg_stat_statements is in this database; its function is called, as a view might be another's
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'

-- forget_statement: resets what pg_stat_statements holds of this role's statements that begin with a text
SELECT {schema}.pg_stat_statements_reset(s.userid, s.dbid, s.queryid) FROM {schema}.pg_stat_statements(true) s
WHERE s.userid = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND starts_with(s.query, %s)
