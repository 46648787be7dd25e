-- leftovers: what of the native engine the catalogs of a side still show, in words
SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND subname = ANY(%(subscriptions)s)
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
WHERE database = current_database() AND slot_name = ANY(%(subscriptions)s)
UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname = ANY(%(publications)s)
UNION ALL SELECT 'origin ' || roname || ' of no subscription' FROM pg_replication_origin
WHERE roname ~ '^pg_[0-9]+$' AND NOT EXISTS (SELECT 1 FROM pg_subscription WHERE 'pg_' || oid = roname)

-- subscription: whether this database's subscription is enabled
SELECT subenabled FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND subname = %s

-- create_subscription: what follows its name and connection, from a slot that is there. Each direction carries a table of its own, so nothing goes round; what the rules
-- write while they apply has the worker's origin and must travel back
PUBLICATION {publication} WITH (create_slot = false, slot_name = {slot}, copy_data = false, origin = any, enabled = false)

-- refresh: makes the server connect to the publisher with what the subscription keeps, which stands in no statement; it changes nothing
-- while the publication holds the same table
ALTER SUBSCRIPTION {name} REFRESH PUBLICATION WITH (copy_data = false)

-- published: whether a publication of this database carries a table
SELECT EXISTS (SELECT 1 FROM pg_publication_tables WHERE pubname = %s AND schemaname = 'task_migration' AND tablename = %s)

-- worker: a subscription's apply worker: switched on, its process, errors so far, whose locks it waits for
SELECT s.subenabled, w.pid, e.apply_error_count, pg_blocking_pids(w.pid) FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid
LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL
LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
WHERE d.datname = current_database() AND s.subname = %s

-- applied: up to where a subscription has applied the publisher's log
SELECT pg_replication_origin_progress(o.roname, false)::text FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid JOIN pg_replication_origin o ON o.roname = 'pg_' || s.oid
WHERE d.datname = current_database() AND s.subname = %s

-- fence: a record that stands for nothing but its place among the writes of a side; its transaction has an id before it draws a
-- number, as every write's has (scripts/replication/writes.py)
INSERT INTO {own} (v, table_name, key, kind) SELECT nextval('task_migration.clock'), '', '', 'fence'
FROM (SELECT pg_current_xact_id() AS id OFFSET 0) x WHERE x.id IS NOT NULL RETURNING v

-- behind: how far a slot's reader is behind the publisher's log, and how far behind a position in it
SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
    greatest(0, pg_wal_lsn_diff(%(goal)s::pg_lsn, confirmed_flush_lsn))::bigint
FROM pg_replication_slots WHERE slot_name = %(slot)s

-- log_now: a publisher's clock, log position, slot size limit, average rate of writing, and a slot's position
SELECT extract(epoch FROM clock_timestamp())::float8, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
       (SELECT nullif(setting::bigint, -1) * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       (SELECT wal_bytes::float8 / nullif(extract(epoch FROM clock_timestamp() - stats_reset), 0)::float8 FROM pg_stat_wal),
       pg_wal_lsn_diff(%s::pg_lsn, '0/0')::bigint

-- reader: the session (pid) that reads a slot: its application's name, role, and where it comes from
SELECT application_name, usename, coalesce(client_hostname, client_addr::text) FROM pg_stat_activity WHERE pid = %s

-- left_out: how many of the records (numbers) the slot would not send; it is unread afterwards as before. A record is an Insert of pgoutput,
-- whose first column is its number as text (PostgreSQL, 'Logical Replication Message Formats')
SELECT count(*) FROM unnest(%(lacking)s::bigint[]) l(v) WHERE v NOT IN (
    SELECT convert_from(substring(data FROM 14 FOR get_byte(data, 12)), 'SQL_ASCII')::bigint
    FROM pg_logical_slot_peek_binary_changes(%(slot)s, NULL, NULL, 'proto_version', '1', 'publication_names', %(publication)s)
    WHERE get_byte(data, 0) = ascii('I'))

-- replication_role: a role of the name that replication is to log in with: whether it is one's own; attributes that it should not have,
-- what it owns, groups it is in, who is in it, and whether this role may set its password
SELECT r.rolname = current_user,
       array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'a superuser' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                          CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
       ARRAY(SELECT DISTINCT d.classid::regclass::text || ' ' || d.objid FROM pg_shdepend d
             WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o' AND NOT (d.dbid = (
                 SELECT oid FROM pg_database WHERE datname = current_database()) AND d.classid = 'pg_class'::regclass AND d.objid IN (
                 SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('task_migration')))),
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid AND g.rolname <> ALL(%(allowed)s)),
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.member
             WHERE m.roleid = r.oid AND NOT g.rolsuper AND g.rolname <> current_user
             AND coalesce((to_jsonb(m) ->> 'set_option')::bool OR (to_jsonb(m) ->> 'inherit_option')::bool, true)),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_roles r WHERE r.rolname = %(role)s

-- password_readers: roles that log in and may read what subscriptions keep, and neither are superusers (RDS: rds_superuser) nor may
-- become the role of this session
SELECT r.rolname FROM pg_roles r JOIN pg_roles me ON me.rolname = current_user WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> ALL(%(accepted)s)
AND has_column_privilege(r.oid, 'pg_subscription', 'subconninfo', 'SELECT') AND NOT pg_has_role(r.oid, me.oid, 'MEMBER')
AND NOT EXISTS (SELECT 1 FROM pg_roles s WHERE s.rolname = 'rds_superuser' AND pg_has_role(r.oid, s.oid, 'MEMBER'))
ORDER BY 1

-- told_since: what this side's conflict log tells after that line
SELECT table_name, key, kind, v, columns, lost, kept FROM task_migration.conflicts WHERE id > %s ORDER BY id

-- tell_once: a loss, unless it is told already
INSERT INTO task_migration.conflicts (table_name, key, kind, v, columns, lost, kept)
SELECT n.* FROM (VALUES (%s::text, %s::text, %s::text, %s::bigint, %s::text[], %s::text, %s::text)) n(name, key, kind, v, columns, lost, kept)
WHERE NOT EXISTS (SELECT FROM task_migration.conflicts c WHERE (c.table_name, c.key, c.kind, c.v, c.columns) = (n.name, n.key, n.kind, n.v, n.columns))

-- as_worker: from here to the transaction's end this session is as an apply worker's: it applies as the owner of the table (relation) that
-- records arrive in (PostgreSQL, 'Logical Replication', Security), where this role may become it; nothing is found without its schema
SELECT set_config('session_replication_role', 'replica', true), set_config('search_path', '', true), CASE WHEN pg_has_role(c.relowner, 'SET')
    THEN set_config('role', pg_get_userbyid(c.relowner), true) END FROM pg_class c WHERE c.oid = %s::regclass
