-- What the schema's step asks of the catalogs.

-- enums: enum types that columns of the tables use, with their labels in order
SELECT DISTINCT n.nspname, t.typname,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
FROM pg_attribute a JOIN pg_type c ON c.oid = a.atttypid
JOIN pg_type t ON t.oid = CASE WHEN c.typelem <> 0 AND c.typcategory = 'A' THEN c.typelem ELSE c.oid END
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND t.typtype = 'e'

-- enums_named: those enum types of the given schemas and names that are there, with their labels in order
SELECT n.nspname, t.typname,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN unnest(%s::text[], %s::text[]) w(space, name) ON w.space = n.nspname AND w.name = t.typname
WHERE t.typtype = 'e'

-- giving: whether this session's role is a superuser, and whether the new owner may make tables in the schema
SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_roles r, pg_namespace n
                 WHERE r.rolname = %s AND n.nspname = %s), false)

-- owned: of the tables (oids) those whose owner the session's role may act as, and whether by membership, as no superuser
SELECT c.oid, NOT r.rolsuper FROM pg_class c, pg_roles r
WHERE r.rolname = current_user AND c.oid = ANY(%s) AND pg_has_role(r.oid, c.relowner, 'USAGE')

-- may_write: the tables (oids) that a role can write to, by whatever grant
SELECT relname FROM pg_class WHERE oid = ANY(%(oids)s) AND (has_any_column_privilege(%(role)s, oid, 'INSERT')
    OR has_any_column_privilege(%(role)s, oid, 'UPDATE') OR has_table_privilege(%(role)s, oid, 'DELETE, TRUNCATE'))
ORDER BY 1
