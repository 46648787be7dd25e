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

-- note_exception: a change could not be applied
INSERT INTO {schema}.awsdms_apply_exceptions
    ("TASK_NAME", "TABLE_OWNER", "TABLE_NAME", "ERROR_TIME", "STATEMENT", "ERROR")
VALUES (%s, %s, %s, clock_timestamp(), %s, %s)

-- peek: the slot's next changes, whole transactions of at least so many changes
SELECT lsn::text, data
FROM pg_logical_slot_peek_changes(%s, NULL, %s, 'skip-empty-xacts', '1', 'include-timestamp', '1')

-- advance: the slot need not keep what lies before this position
SELECT pg_replication_slot_advance(slot_name, %s)
FROM pg_replication_slots
WHERE slot_name = %s AND confirmed_flush_lsn < %s
