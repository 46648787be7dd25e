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
