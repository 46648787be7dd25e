-- task: every task that is not deleted, as the API shows it; conditions follow
SELECT t.id, t.user_id, t.source_proposal_id, t.assigned_by_user_id, t.approved_by_user_id, t.title, t.description,
       t.due_date, t.span, t.priority, t.group_task_id, t.reward,
       coalesce(t.requires_approval, false) AS requires_approval,
       coalesce(t.requires_image, false) AS requires_image, t.approved_at,
       coalesce(t.is_completed, false) AS is_completed, t.completed_at, t.created_at, t.updated_at,
       ARRAY(SELECT g.tag_id FROM task_tag g WHERE g.task_id = t.id ORDER BY g.tag_id) AS tags
FROM tasks t
WHERE t.deleted_at IS NULL

-- of_caller: the conditions of one page of a user's tasks, the newest first
AND t.user_id = %(caller)s AND (%(before)s::bigint IS NULL OR t.id < %(before)s)
AND (%(completed)s::bool IS NULL OR coalesce(t.is_completed, false) = %(completed)s)
ORDER BY t.id DESC LIMIT %(limit)s

-- owner: whether the caller and the owner are users, and of the same group
SELECT (SELECT count(*) FROM users WHERE id = %(caller)s) AS caller,
       (SELECT count(*) FROM users WHERE id = %(owner)s) AS owner,
       (SELECT count(*) FROM users c JOIN users o ON o.group_id = c.group_id
        WHERE c.id = %(caller)s AND o.id = %(owner)s) AS same_group

-- newest_image: the condition of a task's newest image
t.id = (SELECT max(i.id) FROM task_images i WHERE i.task_id = %(task)s)

-- some_schedule: one of the first or the newest schedules, so that both sides meet on it
SELECT * FROM scheduled_group_tasks
WHERE id IN (SELECT o.id FROM scheduled_group_tasks o ORDER BY o.id LIMIT 5)
   OR id IN (SELECT n.id FROM scheduled_group_tasks n ORDER BY n.id DESC LIMIT 3)
ORDER BY id OFFSET %(place)s LIMIT 1

-- copied_schedule: the newest schedule that a job made
SELECT id FROM scheduled_group_tasks WHERE title LIKE %(copied)s ORDER BY id DESC LIMIT 1
