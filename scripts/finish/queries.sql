-- leftovers: triggers and the helper schema that are still on a side, in words
SELECT 'trigger on ' || tgrelid::regclass::text FROM pg_trigger WHERE tgname = ANY(%(triggers)s)
UNION ALL SELECT 'schema task_migration' FROM pg_namespace WHERE nspname = 'task_migration'

-- newest_write: of the target's own records the newest of a write that somebody made
SELECT max(v) FROM task_migration.target_writes WHERE kind <> 'fence' AND cause IS NULL

-- writable: whether a role may insert into any of the tables; null when there is no such role or table
SELECT bool_or(has_table_privilege(r.oid, c.oid, 'INSERT'))
FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE rolname = %s AND nspname = %s AND relname = ANY(%s)

-- other_writers: roles that can write to the tables (oids), whether the monolith's role is a member of each, whether it logs in
SELECT r.rolname, pg_has_role(%(role)s, r.oid, 'MEMBER') AND r.rolname <> %(role)s, r.rolcanlogin
FROM pg_roles r WHERE NOT r.rolsuper AND r.rolname NOT IN (%(role)s, current_user) AND r.rolname NOT LIKE 'pg\_%%'
AND EXISTS (SELECT 1 FROM unnest(%(oids)s::oid[]) t WHERE has_any_column_privilege(r.oid, t, 'INSERT')
    OR has_any_column_privilege(r.oid, t, 'UPDATE') OR has_table_privilege(r.oid, t, 'DELETE'))
ORDER BY 1

-- privileges: what a role can do with a table (oid) in effect: SELECT, INSERT, UPDATE, DELETE
SELECT has_table_privilege(%(role)s, %(oid)s::oid, 'SELECT'), has_any_column_privilege(%(role)s, %(oid)s::oid, 'INSERT'),
       has_any_column_privilege(%(role)s, %(oid)s::oid, 'UPDATE'), has_table_privilege(%(role)s, %(oid)s::oid, 'DELETE')

-- writes_given: what a role has been granted of writing to the tables (oids): schema, table, column or NULL, right, whether it may give it on
SELECT n.nspname, c.relname, g.attname, g.privilege_type, g.is_grantable
FROM (SELECT c.oid, NULL::name AS attname, x.* FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
      UNION ALL SELECT a.attrelid, a.attname, x.* FROM pg_attribute a, aclexplode(a.attacl) x) g
JOIN pg_roles r ON r.oid = g.grantee JOIN pg_class c ON c.oid = g.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rolname = %(role)s AND g.oid = ANY(%(oids)s) AND g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
ORDER BY g.oid, g.attname NULLS FIRST, g.privilege_type
