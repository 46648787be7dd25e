-- shared: how a table that was altered after the functions were made is read: SQL for the key and for all values of a row ($1),
-- by what the catalog says now
CREATE OR REPLACE FUNCTION task_migration.shape(relation oid, OUT key_sql text, OUT names text[], OUT values_sql text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $task_migration$
    -- Each value as scripts/writes/record.py has it (`text_of`).
    WITH form (number, text) AS (
        SELECT a.attnum, format(CASE WHEN t.typbasetype = 'bpchar'::regtype OR t.oid = 'bpchar'::regtype AND a.atttypmod = -1
            THEN 'CASE WHEN ($1).%1$I IS NOT NULL THEN concat(($1).%1$I) END' ELSE '($1).%1$I::text' END, a.attname)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = relation)
    SELECT (SELECT 'SELECT jsonb_build_array(' || string_agg(f.text, ', ' ORDER BY k.i) || ')::text'
            FROM pg_index x, unnest(x.indkey::int2[]) WITH ORDINALITY k(n, i) JOIN form f ON f.number = k.n
            WHERE x.indrelid = relation AND x.indisprimary AND k.i <= x.indnkeyatts),
        array_agg(c.attname::text ORDER BY c.attnum),
        'SELECT ARRAY[' || string_agg(f.text, ', ' ORDER BY c.attnum) || ']'
    FROM pg_attribute c JOIN form f ON f.number = c.attnum
    WHERE c.attrelid = relation AND c.attnum > 0 AND NOT c.attisdropped AND c.attgenerated = ''
$task_migration$;
CREATE OR REPLACE FUNCTION task_migration.no_truncate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $task_migration$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is refused while it is replicated both ways: the other side would keep its rows', TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'use DELETE, which is replicated';
END
$task_migration$

-- function: what a local write leaves in the record of writes, in its own transaction
-- AFTER the row, so that only what happened is recorded and the statement's own answer is as without us; with rights and settings
-- of its own, as the values' text must not depend on the writing session. Without sequential scans for the reason of apply.sql.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = '3' SET lc_monetary = 'C'
SET enable_seqscan = off AS $task_migration$
DECLARE
    _names text[];
    _vals text[];
    _before text[];
    _key text;
    _tm_old_key text;
    -- Any role may set this name in its session; what only the rules' sessions have says that it is theirs.
    _made text := CASE WHEN coalesce(current_setting('task_migration.cause', true), '') <> '' AND current_setting('session_replication_role') = 'replica'
                       THEN current_setting('task_migration.cause', true) END;
    _now record;
    {heir_row}
BEGIN
    -- What the rules write as a record arrives is no write of this side's. Any role may say that it applies (PostgreSQL, 'Customized
    -- Options'); to set session_replication_role it would need a right to it. Here and not in a WHEN of the trigger, which is made
    -- ready anew for each statement of the live application (measured: 5 of its 40 microseconds of CPU).
    IF current_setting('task_migration.applying', true) = 'on' AND current_setting('session_replication_role') = 'replica' THEN
        RETURN NULL;
    END IF;
    BEGIN
        IF (SELECT c.relnatts FROM pg_class c WHERE c.oid = TG_RELID) <> {shape} THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_column';
        END IF;
        IF TG_OP <> 'INSERT' THEN _tm_old_key := {old_key}; END IF;
        IF TG_OP <> 'DELETE' THEN _key := {new_key}; END IF;
        IF TG_OP = 'DELETE' THEN
            _names := {referenced};
            _vals := ARRAY[{referenced_values}]::text[];
        ELSIF TG_OP = 'UPDATE' AND _key = _tm_old_key THEN
            {changed}
        ELSE
            _names := {all_names};
            _vals := ARRAY[{all_values}]::text[];
        END IF;
    EXCEPTION WHEN OTHERS THEN
        -- The table was altered since: by what the catalog says now, which is slower.
        SELECT s.* INTO _now FROM task_migration.shape(TG_RELID) s;
        _names := _now.names;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE _now.key_sql INTO _tm_old_key USING OLD;
            EXECUTE _now.values_sql INTO _before USING OLD;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            EXECUTE _now.key_sql INTO _key USING NEW;
            EXECUTE _now.values_sql INTO _vals USING NEW;
        END IF;
        IF TG_OP = 'UPDATE' AND _key = _tm_old_key THEN
            SELECT array_agg(u.n ORDER BY u.i), array_agg(u.v ORDER BY u.i) INTO _names, _vals
            FROM (SELECT x.*, array_agg(x.n) FILTER (WHERE x.v IS DISTINCT FROM x.o) OVER () AS changed
                  FROM unnest(_names, _vals, _before) WITH ORDINALITY x(n, v, o, i)) u
            WHERE u.n = ANY(u.changed) OR EXISTS (SELECT 1 FROM jsonb_array_elements({groups}::jsonb) g
                                                  WHERE g ? u.n AND g ?| u.changed);
        ELSIF TG_OP = 'DELETE' THEN
            SELECT array_agg(u.n ORDER BY u.i), array_agg(u.v ORDER BY u.i) INTO _names, _vals
            FROM unnest(_names, _before) WITH ORDINALITY u(n, v, i) WHERE u.n = ANY({referenced});
        END IF;
    END;
    IF TG_OP = 'UPDATE' AND _key = _tm_old_key THEN
        IF _names IS NOT NULL THEN
            INSERT INTO {own} (v, table_name, key, kind, vals, cause)
            VALUES (nextval('task_migration.clock'), {name}, _key, 'update', json_object(_names, _vals)::text, _made);
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {own} (v, table_name, key, kind, vals, cause) VALUES (nextval('task_migration.clock'), {name}, _tm_old_key, 'delete',
            CASE WHEN TG_OP = 'DELETE' AND _names <> '{{}}' THEN json_object(_names, _vals)::text END, _made);
    END IF;
    {heir}
    IF TG_OP <> 'DELETE' THEN
        -- A key that was here before: what arrives for the row that is gone and this insert must see each other (apply.sql).
        -- A thousand rows to lock for all keys, so that a bulk insert writes few; shared, as only what applies is meant.
        -- A transaction of another isolation level may not see that record.
        IF current_setting('transaction_isolation') <> 'read committed'
            OR EXISTS (SELECT 1 FROM {own} w WHERE w.table_name = {name} AND w.key = _key) THEN
            PERFORM 1 FROM task_migration.keys k WHERE k.bucket = hashtext({name} || _key) & 1023 FOR SHARE;
        END IF;
        INSERT INTO {own} (v, table_name, key, kind, vals, cause)
        VALUES (nextval('task_migration.clock'), {name}, _key, 'insert', json_object(_names, _vals)::text, _made);
    END IF;
    RETURN NULL;
END
$task_migration$

-- heir: a key that is checked late: another row may have the old one by now, and is recorded whole after the deletion, as its own
-- record may be older
IF TG_OP <> 'INSERT' THEN
        BEGIN
            SELECT t.* INTO _tm_heir FROM {table} t WHERE {here} LIMIT 1;
            IF FOUND THEN
                SELECT s.* INTO _now FROM task_migration.shape(TG_RELID) s;
                EXECUTE _now.values_sql INTO _before USING _tm_heir;
                INSERT INTO {own} (v, table_name, key, kind, vals, cause)
                VALUES (nextval('task_migration.clock'), {name}, _tm_old_key, 'insert', json_object(_now.names, _before)::text, _made);
            END IF;
        EXCEPTION WHEN undefined_column THEN
            NULL; -- the key was altered since, which `status` tells
        END;
    END IF;

-- trigger: fires for whoever writes, also in sessions with session_replication_role = replica
-- First of the row's triggers, which fire by name: one of the application's own may write the row once more.
CREATE OR REPLACE TRIGGER "00_task_migration_capture" AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
EXECUTE FUNCTION {function}();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER "00_task_migration_capture";
CREATE OR REPLACE TRIGGER "00_task_migration_truncate" BEFORE TRUNCATE ON {table} FOR EACH STATEMENT
EXECUTE FUNCTION task_migration.no_truncate();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER "00_task_migration_truncate"
