-- tables: the tables of a schema by name; rows and pages are estimates: pg_relation_size would wait behind whoever
-- locks the table, and so would everything that looks here
SELECT c.oid, c.relname, c.relkind::text, c.relpersistence::text,
       greatest(c.reltuples, 0)::bigint, c.relpages::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s)

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
