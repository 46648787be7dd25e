-- conflicts_told: every loss that this side's conflict log tells
SELECT table_name, key, kind, lost FROM task_migration.conflicts

-- neighbours: a user of the group that this user is in, and one of another group
SELECT (SELECT min(o.id) FROM users o WHERE o.group_id = u.group_id AND o.id <> u.id),
       (SELECT min(o.id) FROM users o WHERE o.group_id <> u.group_id)
FROM users u
WHERE u.id = %s

-- held: the sessions of everybody else, and how much log the slot that is furthest behind keeps
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
       (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots)

-- end_reader: who reads from a slot loses its session
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active_pid IS NOT NULL

-- change_by_hand: another title for a task of the last user, whom a smaller load does not have
UPDATE tasks SET title = %s WHERE id = (SELECT min(id) FROM tasks WHERE user_id = (SELECT max(user_id) FROM tasks)) RETURNING id

-- end_copy: the sessions of a copy, but for this one
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE starts_with(application_name, %s) AND pid <> pg_backend_pid()
