-- What preflight asks. Parameters of the headroom: `names` are our two subscriptions, `built_in` the processes
-- that take no place of max_worker_processes. What we have of an earlier run does not count as taken.

-- max_replication_slots: slots of others
SELECT count(*) FROM pg_replication_slots WHERE slot_name <> ALL(%(names)s)

-- max_wal_senders: senders of others
SELECT count(*) FROM pg_stat_replication WHERE application_name <> ALL(%(names)s)

-- max_connections: connections, and those that are kept for superusers
SELECT count(*) + current_setting('superuser_reserved_connections')::int FROM pg_stat_activity
WHERE coalesce(backend_type, 'client backend') = 'client backend'

-- max_logical_replication_workers: apply workers of others
SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL AND subname <> ALL(%(names)s)

-- max_worker_processes: background workers of others
SELECT count(*) FROM pg_stat_activity WHERE backend_type <> ALL(%(built_in)s) AND application_name <> ALL(%(names)s)

-- replication_origins: origins of others
SELECT count(*) FROM pg_replication_origin
WHERE roname NOT IN (SELECT 'pg_' || oid FROM pg_subscription WHERE subname = ANY(%(names)s))

-- oldest_transaction: pid and age in seconds of the oldest transaction of this database
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
ORDER BY xact_start LIMIT 1

-- idle_slots: slots of others that nobody reads, quoted, with the bytes of WAL that each keeps
SELECT quote_literal(slot_name), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, wal_status
FROM pg_replication_slots WHERE NOT active AND slot_name <> ALL(%s) ORDER BY slot_name

-- all_tables: publications of whatever table there is or will be
SELECT quote_ident(pubname) FROM pg_publication WHERE puballtables ORDER BY 1

-- locale: encoding, collation, character type, provider and ICU locale of this database (PostgreSQL 15 or newer)
SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider::text,
       coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale', '')
FROM pg_database d WHERE datname = current_database()

-- locale_14: the same before PostgreSQL 15, which knows the C library's locales only
SELECT pg_encoding_to_char(encoding), datcollate, datctype, 'c', '' FROM pg_database WHERE datname = current_database()

-- everything: schema, name and kind of all tables and sequences that a dump of the database holds
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
ORDER BY 1, 2

-- may_truncate: tables that a role which is no superuser may empty by TRUNCATE
SELECT c.oid::regclass::text FROM pg_class c, pg_roles r
WHERE c.oid = ANY(%s) AND r.rolname = %s AND NOT r.rolsuper AND has_table_privilege(r.oid, c.oid, 'TRUNCATE')
ORDER BY 1

-- truncate_triggers: triggers that wait for TRUNCATE, but for our own, which refuses it
SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger
WHERE tgrelid = ANY(%s) AND NOT tgisinternal AND tgtype & 32 <> 0 AND tgname !~ '^00_task_migration'
ORDER BY 1

-- statements_like: statements of this database, without literals, that match a pattern and name one of the tables
SELECT DISTINCT t.name, left(regexp_replace(regexp_replace(s.query, '''[^'']*''', '''...''', 'g'), '\s+', ' ', 'g'), 120)
FROM {schema}.pg_stat_statements(true) s JOIN unnest(%s::text[]) t(name) ON s.query ~* ('\m' || t.name || '\M')
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.query ~* %s LIMIT 20

-- mean_wal: bytes of WAL a second since the statistics were reset, which may have been a busier time than this one
SELECT (wal_bytes / greatest(extract(epoch FROM clock_timestamp() - stats_reset), 60))::float FROM pg_stat_wal

-- large_objects: how many large objects a column's values are
SELECT count(DISTINCT m.oid) FROM ({values}) x JOIN pg_largeobject_metadata m ON m.oid = x.v

-- other_large_objects: how many large objects of the database none of the values is
SELECT count(*) FROM pg_largeobject_metadata m WHERE NOT EXISTS (SELECT FROM ({values}) x WHERE x.v = m.oid)

-- unknown_names: those of the texts `names` that a type does not take, or gives out otherwise; and where it is one of names, bare numbers
-- By way of an array, as a cast of a text alone to regclass takes no `-`, which is what it writes for none.
SELECT n FROM unnest(%(names)s::text[]) n
WHERE CASE WHEN pg_input_is_valid(n, {kind}) THEN ((ARRAY[n]::text)::{type}[])[1]::text <> n OR {named} AND n ~ '^[1-9]' ELSE true END ORDER BY n
