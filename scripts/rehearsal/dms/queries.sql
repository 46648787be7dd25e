-- control_schema: where the task's control tables are, on the target
CREATE SCHEMA IF NOT EXISTS {schema}

-- exceptions: the changes that could not be applied (AWS DMS, 'Control table task settings')
CREATE TABLE IF NOT EXISTS {schema}.awsdms_apply_exceptions (
    "TASK_NAME" varchar(128) NOT NULL,
    "TABLE_OWNER" varchar(128) NOT NULL,
    "TABLE_NAME" varchar(128) NOT NULL,
    "ERROR_TIME" timestamp NOT NULL,
    "STATEMENT" text NOT NULL,
    "ERROR" text NOT NULL
)

-- positions: how far each task is in its source's log
CREATE TABLE IF NOT EXISTS {schema}.awsdms_txn_state (task text PRIMARY KEY, lsn pg_lsn NOT NULL)

-- begin: the task begins at this position
INSERT INTO {schema}.awsdms_txn_state (task, lsn) VALUES (%s, %s)
ON CONFLICT (task) DO UPDATE SET lsn = excluded.lsn

-- move: the task is this far; written with the rows
UPDATE {schema}.awsdms_txn_state SET lsn = %s WHERE task = %s

-- position: how far the task is
SELECT lsn::text FROM {schema}.awsdms_txn_state WHERE task = %s

-- note_exception: a change could not be applied
INSERT INTO {schema}.awsdms_apply_exceptions
    ("TASK_NAME", "TABLE_OWNER", "TABLE_NAME", "ERROR_TIME", "STATEMENT", "ERROR")
VALUES (%s, %s, %s, clock_timestamp(), %s, %s)

-- loopback: the table whose change marks a transaction as a task's own
CREATE TABLE IF NOT EXISTS {table} (id int PRIMARY KEY, marks bigint NOT NULL)

-- peek: the slot's next changes, whole transactions of at least so many changes
SELECT lsn::text, xid::text, data
FROM pg_logical_slot_peek_changes(%s, NULL, %s, 'skip-empty-xacts', '1', 'include-timestamp', '1')

-- advance: the slot need not keep what lies before this position
SELECT pg_replication_slot_advance(slot_name, %s)
FROM pg_replication_slots
WHERE slot_name = %s AND confirmed_flush_lsn < %s
