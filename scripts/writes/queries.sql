-- columns: per column of the tables (oids): its type without length, as casts of text need it (with it, a cast would cut), and
-- whether `=` on it says equal only of what is the same to the last byte
SELECT a.attrelid, a.attname, format_type(a.atttypid, -1),
       t.typname IN ('int2', 'int4', 'int8', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz', 'oid', 'bytea')
       OR t.typname IN ('text', 'varchar') AND (SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum

-- shapes: how many columns each table (oid) ever had, dropped ones included
SELECT oid, relnatts FROM pg_class WHERE oid = ANY(%s)

-- foreign_keys: keys that lead from or to the tables (oids), with schemas; columns that SET NULL and SET DEFAULT set
SELECT c.conrelid, c.confrelid, n.nspname, r.relname, m.nspname, p.relname, c.confdeltype::text,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(coalesce((SELECT array_agg(d.n::int2) FROM
                 jsonb_array_elements_text(nullif(to_jsonb(c) -> 'confdelsetcols', 'null')) d(n)), c.conkey)) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT format('OPERATOR(%%I.%%s)', s.nspname, o.oprname) FROM unnest(c.conpfeqop) WITH ORDINALITY k(n, i)
             JOIN pg_operator o ON o.oid = k.n JOIN pg_namespace s ON s.oid = o.oprnamespace ORDER BY k.i)
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
JOIN pg_class p ON p.oid = c.confrelid JOIN pg_namespace m ON m.oid = p.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.conrelid = ANY(%(oids)s) OR c.confrelid = ANY(%(oids)s))
ORDER BY c.conrelid, c.conname

-- claims: unique indexes and exclusion constraints of the tables (oids), the key included: whether checked late, NULLs equal,
-- the condition, per element the expression and the operator by which two rows clash, and the columns that they depend on
SELECT i.indrelid, x.relname, i.indisprimary, NOT i.indimmediate,
       -- Since PostgreSQL 15, as confdelsetcols above; with AWS DMS the source may be of 14.
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), pg_get_expr(i.indpred, i.indrelid),
       ARRAY(SELECT '(' || pg_get_indexdef(i.indexrelid, k, false) || ')' || CASE WHEN i.indcollation[k - 1] = 0 THEN '' ELSE
                 (SELECT format(' COLLATE %%I.%%I', s.nspname, l.collname) FROM pg_collation l
                  JOIN pg_namespace s ON s.oid = l.collnamespace WHERE l.oid = i.indcollation[k - 1]) END
             FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
       ARRAY(SELECT format('OPERATOR(%%I.%%s)', s.nspname, o.oprname) FROM generate_series(1, i.indnkeyatts) k
             JOIN pg_opclass c ON c.oid = i.indclass[k - 1]
             JOIN pg_operator o ON o.oid = coalesce(e.conexclop[k], (SELECT a.amopopr FROM pg_amop a
                 WHERE a.amopfamily = c.opcfamily AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype
                 AND a.amopstrategy = 3))
             JOIN pg_namespace s ON s.oid = o.oprnamespace ORDER BY k),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND (a.attnum = ANY(i.indkey::int2[])
             OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))
             AND a.attnum > 0 ORDER BY a.attnum)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_constraint e ON e.conindid = i.indexrelid AND e.contype = 'x'
WHERE i.indrelid = ANY(%s) AND i.indislive AND i.indisvalid AND (i.indisunique OR i.indisexclusion) ORDER BY i.indrelid, x.relname

-- checks: columns of the tables' (oids) checks over more than one column: they are decided together
SELECT c.conrelid, ARRAY(SELECT a.attname::text FROM unnest(c.conkey) k(n)
                         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n)
FROM pg_constraint c WHERE c.contype = 'c' AND c.conrelid = ANY(%s) AND cardinality(c.conkey) > 1

-- triggers: our triggers on the tables (oids), each with its state and the transaction that changed it last
SELECT tgrelid, tgname, tgenabled::text, xmin::text FROM pg_trigger WHERE tgrelid = ANY(%s) AND tgname = ANY(%s) ORDER BY 1, 2

-- clock: a side's clock; the source counts in even numbers, the target in odd ones, so that each number is one write
CREATE SEQUENCE IF NOT EXISTS task_migration.clock AS bigint START {start} MINVALUE 1 INCREMENT 2

-- code: what runs in the helper schema, its functions and the triggers on its tables: name, a trigger's state, a digest of all that
-- decides what it does
SELECT format('the function %s', p.oid::regprocedure), '', md5(concat_ws('|', pg_get_userbyid(p.proowner), l.lanname, p.prosecdef,
    p.provolatile, format_type(p.prorettype, NULL), p.proconfig, p.prosrc))
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = to_regnamespace('task_migration')
UNION ALL SELECT format('the trigger %I of %s', g.tgname, c.relname), g.tgenabled::text,
    md5(concat_ws('|', g.tgfoid::regprocedure, g.tgtype, g.tgdeferrable, g.tginitdeferred, g.tgattr, g.tgqual, g.tgargs))
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
WHERE NOT g.tgisinternal AND c.relnamespace = to_regnamespace('task_migration')

-- clock_behind: where a side's clock stands below what it has recorded, received or pruned: both numbers; else no row
SELECT c.last_value, w.v FROM task_migration.clock c, (SELECT greatest(
    (SELECT max(v) FROM task_migration.source_writes), (SELECT max(v) FROM task_migration.target_writes),
    (SELECT (value ->> 'v')::bigint FROM task_migration.settings WHERE name = 'known')) AS v) w
WHERE c.last_value < w.v
