-- What a copy asks of the catalogs.

-- index_sizes: indexes of the tables (oids) and their bytes
SELECT i.indrelid, x.relname, pg_relation_size(x.oid) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = ANY(%s)

-- slot: a slot of this server by name, and whether it is of this database
SELECT active, active_pid, wal_status, confirmed_flush_lsn::text,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, database = current_database()
FROM pg_replication_slots WHERE slot_name = %s

-- end_writers: end the sessions that write for a copy which lost its lock, by the name of their sessions
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = %s
AND pid <> pg_backend_pid()

-- sizes: pages of each table's heap, and bytes with what is stored out of line
SELECT oid, pg_relation_size(oid) / current_setting('block_size')::int, pg_table_size(oid) FROM pg_class WHERE oid = ANY(%s)
