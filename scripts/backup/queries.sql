-- What a backup is compared by. `system` are the schemas that are nobody's own. Objects of an extension come with CREATE
-- EXTENSION, and may be others in another version of it.

-- tables: ordinary tables that a dump holds whole, by schema
SELECT n.nspname, array_agg(c.relname ORDER BY c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> ALL(%(system)s) AND n.nspname !~ '^pg_'
GROUP BY 1 ORDER BY 1

-- objects: how many there are of each kind, without those of extensions
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname <> ALL(%(system)s) AND nspname !~ '^pg_'),
     found (kind, oid) AS (
  SELECT CASE relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'tables' WHEN 'i' THEN 'indexes' WHEN 'I' THEN 'indexes'
                      WHEN 'S' THEN 'sequences' ELSE 'views' END, oid
  FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I', 'S', 'v', 'm') AND relnamespace IN (SELECT oid FROM own)
  UNION ALL SELECT 'constraints', oid FROM pg_constraint WHERE contype <> 'n' AND connamespace IN (SELECT oid FROM own)
  UNION ALL SELECT 'triggers', t.tgrelid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND c.relnamespace IN (SELECT oid FROM own)
  UNION ALL SELECT 'functions', oid FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own))
SELECT kind, count(*) FROM found f
WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = f.oid AND d.deptype = 'e')
GROUP BY 1 ORDER BY 1

-- relations: what a database holds besides the system's and extensions' objects
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
