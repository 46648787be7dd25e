-- What the schema's step asks of the catalogs.

-- types_there: schema and name of the given types (schemas, names) that are there
SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN unnest(%s::text[], %s::text[]) w(space, name) ON w.space = n.nspname AND w.name = t.typname

-- giving: whether this session's role is a superuser, and whether the new owner may make tables in the schema
SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_roles r, pg_namespace n
                 WHERE r.rolname = %s AND n.nspname = %s), false)

-- owned: the tables of a schema by name that the session's role owns
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY(%s) AND pg_get_userbyid(c.relowner) = current_user ORDER BY 1

-- others: tables of a schema by name that another role owns, no superuser, and that the session's may take; and whether the service's
-- role (its name) writes to each while both ways run
SELECT c.relname, coalesce(has_table_privilege(r.oid, c.oid, 'INSERT'), false) AND EXISTS (
    SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = '00_task_migration_capture')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner LEFT JOIN pg_roles r ON r.rolname = %s
WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind = 'r' AND NOT o.rolsuper AND o.rolname <> current_user
    AND pg_has_role(o.oid, 'USAGE') ORDER BY 1

-- kept: one of a schema's tables by name that another role owns, no superuser, and that the session's may not take
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind = 'r' AND NOT o.rolsuper AND NOT pg_has_role(o.oid, 'USAGE') LIMIT 1

-- joined: whether the session's role is in another one by its own doing
SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
WHERE r.rolname = %s AND pg_get_userbyid(m.member) = current_user AND pg_get_userbyid(m.grantor) = current_user

-- may_write: the tables (oids) that a role can write to, by whatever grant
SELECT relname FROM pg_class WHERE oid = ANY(%(oids)s) AND (has_any_column_privilege(%(role)s, oid, 'INSERT')
    OR has_any_column_privilege(%(role)s, oid, 'UPDATE') OR has_table_privilege(%(role)s, oid, 'DELETE, TRUNCATE'))
ORDER BY 1
