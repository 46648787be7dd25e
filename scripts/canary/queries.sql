-- hold_history: how far the canary is, by its name among the settings, held until the transaction's end
INSERT INTO task_migration.settings AS kept (name, value) VALUES (%s, '{}') ON CONFLICT (name) DO UPDATE SET value = kept.value
RETURNING value

-- drained_at: when so many seconds from now will have gone by
SELECT (clock_timestamp() + make_interval(secs => %s))::text
