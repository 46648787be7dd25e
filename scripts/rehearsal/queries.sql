-- task_states: what the ledger's writes say of these tasks, as the database has it
SELECT t.id, t.title, t.description, t.due_date, t.span, t.priority, t.reward,
       coalesce(t.requires_approval, false) AS requires_approval,
       coalesce(t.is_completed, false) AS is_completed, t.approved_at IS NOT NULL AS approved,
       t.deleted_at IS NOT NULL AS deleted,
       ARRAY(SELECT g.tag_id FROM task_tag g WHERE g.task_id = t.id ORDER BY g.tag_id) AS tags,
       ARRAY(SELECT i.file_path::text FROM task_images i WHERE i.task_id = t.id ORDER BY i.file_path) AS images
FROM tasks t
WHERE t.id = ANY(%s)

-- neighbours: a user of the group that this user is in, and one of another group
SELECT (SELECT min(o.id) FROM users o WHERE o.group_id = u.group_id AND o.id <> u.id),
       (SELECT min(o.id) FROM users o WHERE o.group_id <> u.group_id)
FROM users u
WHERE u.id = %s

-- held: the sessions of the applications, and how much log the slot that is furthest behind keeps
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots)
