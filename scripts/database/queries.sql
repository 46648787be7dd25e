-- tables: the tables of a schema by name; rows and pages are estimates: pg_relation_size would wait behind whoever
-- locks the table, and so would everything that looks here
SELECT c.oid, c.relname, c.relkind::text, c.relpersistence::text,
       greatest(c.reltuples, 0)::bigint, c.relpages::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s)

-- comments: the comment of each table of a schema by name
SELECT c.relname, obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s) ORDER BY c.relname

-- columns: each column of the tables (oids), in order
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), t.typname, a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity::text,
       t.typnamespace = 'pg_catalog'::regnamespace,
       CASE WHEN a.attcollation <> t.typcollation
            THEN (SELECT format('%%I.%%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                  WHERE l.oid = a.attcollation) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum

-- constraints: keys, checks and foreign keys of the tables (oids)
SELECT c.conrelid, c.conname, c.contype::text, pg_get_constraintdef(c.oid),
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
       r.relname, ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.i), c.confdeltype::text,
       ARRAY(SELECT format('OPERATOR(%%I.%%s)', s.nspname, o.oprname) FROM unnest(c.conpfeqop) WITH ORDINALITY k(n, i)
             JOIN pg_operator o ON o.oid = k.n JOIN pg_namespace s ON s.oid = o.oprnamespace ORDER BY k.i)
FROM pg_constraint c LEFT JOIN pg_class r ON r.oid = c.confrelid
WHERE c.conrelid = ANY(%s) AND c.contype IN ('p', 'u', 'c', 'f', 'x') AND c.conparentid = 0
ORDER BY c.conrelid, c.contype, c.conname

-- indexes: indexes of the tables (oids) that no constraint owns, with the columns that they depend on
SELECT i.indrelid, c.relname, pg_get_indexdef(i.indexrelid), i.indisunique,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE k.o <= i.indnkeyatts ORDER BY k.o),
       ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass
             AND d.refobjid = i.indrelid AND d.refobjsubid > 0)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY(%s) AND NOT EXISTS (SELECT 1 FROM pg_constraint x WHERE x.conindid = i.indexrelid AND x.contype IN ('p','u','x'))
ORDER BY i.indrelid, c.relname

-- sequences: sequences that columns of the tables (oids) own
SELECT d.refobjid, c.relname, n.nspname, a.attname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin,
       s.seqmax, s.seqcache, s.seqcycle, d.deptype = 'i'
FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s) AND d.deptype IN ('a', 'i')
ORDER BY d.refobjid, a.attnum

-- install: the helper schema with its tables
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
)

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

-- statements_schema: where the extension pg_stat_statements is in this database
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'

-- forget_statement: resets what pg_stat_statements holds of this role's statements that begin with a text
SELECT {schema}.pg_stat_statements_reset(s.userid, s.dbid, s.queryid) FROM {schema}.pg_stat_statements s
WHERE s.userid = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND starts_with(s.query, %s)
