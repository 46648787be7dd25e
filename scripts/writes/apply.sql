-- shared: what the rules of all tables share
CREATE OR REPLACE FUNCTION task_migration.tell(
    name text, key text, kind text, v bigint, lost jsonb, kept jsonb
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
    INSERT INTO task_migration.conflicts (table_name, key, kind, v, columns, lost, kept)
    VALUES ($1, $2, $3, $4, ARRAY(SELECT jsonb_object_keys($5)), $5::text, $6::text)
$task_migration$;

-- newest: the newest write to a row, of either side; 0 when there is none since the copy, or both sides know it long since
CREATE OR REPLACE FUNCTION task_migration.newest(name text, key text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
    SELECT greatest((SELECT max(w.v) FROM {own} w WHERE w.table_name = $1 AND w.key = $2),
        (SELECT max(w.v) FROM {peer} w WHERE w.table_name = $1 AND w.key = $2), 0)
$task_migration$

-- arrive: a record of the other side has arrived: applied by its table's rules before it is kept
-- Without sequential scans, here and in all that is called: a plan is kept for a session, and one that was made while the record of
-- writes was short reads all of it for each write of a bulk job (measured: 49 s for 6,000, 4 s so).
CREATE OR REPLACE FUNCTION task_migration.arrive() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET bytea_output = 'hex'
SET session_replication_role = 'replica' SET row_security = off SET enable_seqscan = off SET lc_monetary = 'C' SET lock_timeout = '300ms' {deadlock} {no_views} AS $task_migration$
DECLARE
    _tm_known bigint;
    _tm_repeat boolean;
    _tm_clock bigint;
    _tm_set text;
    _tm_own xid8;
BEGIN
    SELECT (SELECT (s.value ->> 'v')::bigint FROM task_migration.settings s WHERE s.name = 'known'),
        EXISTS (SELECT 1 FROM {peer} w WHERE w.v = NEW.v), c.last_value
    INTO _tm_known, _tm_repeat, _tm_clock FROM task_migration.clock c;
    -- Delivered once more, after a kill of what carries it: it was applied, and what came after it must not be undone. It takes the
    -- place of itself: whether AWS DMS takes an INSERT that leaves no row for an error, nothing documents.
    IF _tm_repeat OR NEW.v <= _tm_known THEN
        DELETE FROM {peer} w WHERE w.v = NEW.v;
        RETURN NEW;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'writes arrive in a session that is %, in which a row that is waited for is not seen anew',
            current_setting('transaction_isolation') USING HINT =
            'ALTER ROLE and ALTER DATABASE ... RESET default_transaction_isolation: what applies needs read committed';
    END IF;
    -- This side's clock moves past what arrived: a write that is made here from now on knows it, and ranks above it. By nextval alone,
    -- as setval could put it back behind a number that another session has just drawn.
    WHILE _tm_clock < NEW.v LOOP
        _tm_clock := nextval('task_migration.clock');
    END LOOP;
    IF NEW.kind <> 'fence' THEN
        -- Before the rules draw a number for a write of their own (scripts/replication/writes.py).
        _tm_own := pg_current_xact_id();
        -- An assignment of one expression costs a tenth of a PERFORM, which runs a query.
        _tm_set := set_config('task_migration.applying', 'on', true);
        {dispatch}
        _tm_set := set_config('task_migration.applying', '', true);
    END IF;
    RETURN NEW;
END
$task_migration$

-- arrived: at the end of the applying transaction, what keys and late claims ask for, by writes of this side's own
CREATE OR REPLACE FUNCTION task_migration.arrived() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET bytea_output = 'hex'
SET session_replication_role = 'replica' SET row_security = off SET enable_seqscan = off SET lc_monetary = 'C' SET lock_timeout = '300ms' {deadlock} {no_views} AS $task_migration$
BEGIN
    {dispatch}
    RETURN NULL;
END
$task_migration$

-- triggers: on the table that the other side's records arrive in; fired by whatever delivers them
CREATE OR REPLACE TRIGGER task_migration_arrive BEFORE INSERT ON {peer} FOR EACH ROW EXECUTE FUNCTION task_migration.arrive();
ALTER TABLE {peer} ENABLE ALWAYS TRIGGER task_migration_arrive;
DROP TRIGGER IF EXISTS task_migration_arrived ON {peer};
CREATE CONSTRAINT TRIGGER task_migration_arrived AFTER INSERT ON {peer} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (NEW.kind <> 'fence' AND (NEW.kind <> 'update' OR NEW.vals::jsonb ?| {watched})) EXECUTE FUNCTION task_migration.arrived();
ALTER TABLE {peer} ENABLE ALWAYS TRIGGER task_migration_arrived

-- apply: one record that arrived for this table
-- A row is what the set of its records says, however the two sides' records met: it exists if the newest of its inserts and deletes
-- is an insert, and each column has the value of the newest record that holds it. Of the other side's records the newest is always
-- the one that arrives, so only this side's newer ones have to be looked at.
CREATE OR REPLACE FUNCTION {function}(_tm_v bigint, _tm_key text, _tm_kind text, _tm_vals jsonb, _tm_cause text) RETURNS void
LANGUAGE plpgsql AS $task_migration$
#variable_conflict use_column
DECLARE
    _tm_there boolean;
    _tm_mine record;
    _tm_newer jsonb;
    _tm_exists text;
    _tm_lost jsonb;
    _tm_let_go jsonb;
    _tm_take jsonb;
    _tm_done boolean;
    _tm_unknown jsonb;
    _tm_tries int := 0;
BEGIN
    {renamed}
    IF _tm_vals IS NOT NULL AND _tm_kind <> 'delete' THEN
        _tm_unknown := _tm_vals - {all_names};
        IF _tm_unknown <> '{{}}' THEN
            RAISE EXCEPTION '% of % came with columns that are not known here: %', _tm_kind, {name},
                (SELECT string_agg(u, ', ') FROM jsonb_object_keys(_tm_unknown) u)
                USING ERRCODE = 'undefined_column', HINT = 'add them here, then run `task-migration replicate start`';
        END IF;
    END IF;
    LOOP
        -- The row first: who holds it commits, and what he recorded is seen below.
        PERFORM 1 FROM {table} t WHERE {here} FOR UPDATE;
        _tm_there := FOUND;
        IF NOT _tm_there AND _tm_kind <> 'insert' THEN
            -- It may be about to be inserted anew here, unseen so far (capture.sql).
            PERFORM 1 FROM task_migration.keys k WHERE k.bucket = hashtext({name} || _tm_key) & 1023 FOR UPDATE;
            PERFORM 1 FROM {table} t WHERE {here} FOR UPDATE;
            _tm_there := FOUND;
        END IF;
        _tm_newer := '{{}}';
        _tm_exists := NULL;
        FOR _tm_mine IN SELECT w.kind, w.vals FROM {own} w WHERE w.table_name = {name} AND w.key = _tm_key AND w.v > _tm_v ORDER BY w.v LOOP
            IF _tm_mine.kind = 'update' THEN
                _tm_newer := _tm_newer || _tm_mine.vals::jsonb;
            ELSE
                _tm_exists := _tm_mine.kind;
                _tm_newer := CASE WHEN _tm_mine.kind = 'insert' THEN _tm_mine.vals::jsonb ELSE '{{}}' END;
            END IF;
        END LOOP;
        IF _tm_kind = 'delete' THEN
            IF _tm_exists = 'insert' THEN
                PERFORM task_migration.tell({name}, _tm_key, 'delete of inserted', _tm_v, NULL, NULL);
            ELSIF _tm_there THEN
                IF _tm_cause = 'cascade' OR _tm_cause = 'unique claim'
                    AND EXISTS (SELECT 1 FROM {own} w WHERE w.table_name = {name} AND w.key = _tm_key) THEN
                    -- What the other side's rules took away, and no rule here had. Who takes the other's row away tells nothing, who takes
                    -- his own has told.
                    PERFORM task_migration.tell({name}, _tm_key, _tm_cause, _tm_v, (SELECT to_jsonb(t.*) FROM {table} t WHERE {here}), NULL);
                END IF;
                DELETE FROM {table} t WHERE {here};
            END IF;
            RETURN;
        END IF;
        IF NOT _tm_there AND (_tm_kind = 'update' OR _tm_exists = 'delete') THEN
            IF _tm_kind = 'insert' OR _tm_vals - {untold} <> '{{}}' THEN
                PERFORM task_migration.tell({name}, _tm_key, _tm_kind || ' of deleted', _tm_v, _tm_vals, NULL);
            END IF;
            RETURN;
        END IF;
        _tm_lost := NULL;
        _tm_take := _tm_vals;
        IF _tm_newer <> '{{}}' THEN
            -- What both wrote without knowing of each other, and differs: this side's is newer and stays.
            SELECT jsonb_object_agg(i.key, i.value) INTO _tm_lost FROM jsonb_each(_tm_vals) i
            WHERE _tm_newer ? i.key AND _tm_newer -> i.key IS DISTINCT FROM i.value AND i.key <> ALL({untold});
            _tm_take := CASE WHEN _tm_there THEN _tm_vals - ARRAY(SELECT jsonb_object_keys(_tm_newer)) ELSE _tm_vals || _tm_newer END;
        END IF;
        IF _tm_cause = 'cascade' THEN
            -- A reference that the other side's rules emptied, and no rule here had: both came at once, so it was told nowhere yet.
            SELECT jsonb_object_agg(i.key, i.value) INTO _tm_let_go
            FROM (SELECT to_jsonb(t.*) AS row FROM {table} t WHERE {here}) h, jsonb_each_text(h.row) i
            WHERE _tm_vals ? i.key AND _tm_vals ->> i.key IS DISTINCT FROM i.value AND i.value IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM {own} w WHERE w.table_name = {name} AND w.key = _tm_key AND w.vals::jsonb ? i.key);
        END IF;
        {write}
        EXIT WHEN _tm_done;
        _tm_tries := _tm_tries + 1;
        IF _tm_tries > 20 THEN
            RAISE EXCEPTION 'a write of % % cannot be applied: rows that claim the same come up again and again', {name}, _tm_key;
        END IF;
    END LOOP;
    IF _tm_let_go IS NOT NULL THEN
        PERFORM task_migration.tell({name}, _tm_key, 'parent gone', task_migration.newest({name}, _tm_key), _tm_let_go, NULL);
    END IF;
    IF _tm_lost IS NOT NULL THEN
        PERFORM task_migration.tell({name}, _tm_key, 'update', _tm_v, _tm_lost,
            (SELECT jsonb_object_agg(n.key, n.value) FROM jsonb_each(_tm_newer) n WHERE _tm_lost ? n.key));
    END IF;
END
$task_migration$

-- write: the row as it is to be; not done when somebody else inserted the key meanwhile
_tm_done := true;
        IF NOT _tm_there THEN
            INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values}) {conflict};
            _tm_done := FOUND;
        ELSIF _tm_take - {key_names} <> '{{}}' THEN
            {update}
        END IF;

-- made_anew: no UPDATE may give a GENERATED ALWAYS AS IDENTITY column a value (PostgreSQL, 'UPDATE'), though SET ... = DEFAULT gives it one
IF _tm_take ?| {always} THEN
                WITH gone AS (DELETE FROM {table} t WHERE {here} RETURNING t.*)
                INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM gone t;
            ELSE
                {update}
            END IF;

-- guarded: as `write`, where rows claim what only one may have
BEGIN
        {write}
        EXCEPTION WHEN unique_violation OR exclusion_violation THEN
            IF {contest}(_tm_key, _tm_take, _tm_there) = 'self' THEN RETURN; END IF;
            _tm_done := false;
        END;

-- contest: two rows claim the same: the one of the smaller key stays, the other goes, by a write of this side's own
-- The keys are the same on both sides at any moment, which no count of writes is while some are under way; the source's ids are below the
-- target's band. Told where the row was at home. Returns which row went: self, rival or none.
CREATE OR REPLACE FUNCTION {function}(_tm_key text, _tm_take jsonb, _tm_there boolean) RETURNS text
LANGUAGE plpgsql AS $task_migration$
#variable_conflict use_column
DECLARE
    _tm_row {table}%ROWTYPE;
    _tm_rival_key text;
BEGIN
    IF _tm_there THEN SELECT t.* INTO _tm_row FROM {table} t WHERE {here}; END IF;
    {overlay}
    {rivals}
    RETURN 'none';
END
$task_migration$

-- rival: one claim: a row that holds the same as the one at hand
-- By the table's own name, as an expression may take the whole row, and of a row variable that is a row of its type only so.
SELECT {rival_key} INTO _tm_rival_key
    FROM (SELECT {alias}.*, {expressions} FROM {table} {alias} {condition}) t, (SELECT {expressions} FROM unnest(ARRAY[_tm_row]) {alias} {condition}) n
    WHERE {clash} AND {rival_key} <> _tm_key LIMIT 1;
    IF FOUND THEN
        -- By length first, which is by number for a number.
        IF (length(_tm_rival_key), _tm_rival_key COLLATE "C") < (length(_tm_key), _tm_key COLLATE "C") THEN
            PERFORM {remove}(_tm_key, 'unique claim');
            RETURN 'self';
        END IF;
        PERFORM task_migration.tell({name}, _tm_rival_key, 'unique claim', task_migration.newest({name}, _tm_rival_key),
            (SELECT to_jsonb(t.*) FROM {table} t WHERE {rival_here}), _tm_take);
        PERFORM {remove}(_tm_rival_key, 'unique claim');
        RETURN 'rival';
    END IF;

-- remove: a row goes, and what hangs on it, as a write of this side's own, which travels
CREATE OR REPLACE FUNCTION {function}(_tm_key text, _tm_cause text) RETURNS void LANGUAGE plpgsql AS $task_migration$
#variable_conflict use_column
DECLARE
    _tm_applying text := current_setting('task_migration.applying', true);
    _tm_before text := current_setting('task_migration.cause', true);
    _tm_gone {table}%ROWTYPE;
BEGIN
    PERFORM set_config('task_migration.applying', '', true), set_config('task_migration.cause', _tm_cause, true);
    DELETE FROM {table} t WHERE {here} RETURNING t.* INTO _tm_gone;
    IF FOUND THEN
        {gone}
    ELSE
        -- It never was here: the other side must let go of it all the same.
        INSERT INTO {own} (v, table_name, key, kind, cause) VALUES (nextval('task_migration.clock'), {name}, _tm_key, 'delete', _tm_cause);
    END IF;
    PERFORM set_config('task_migration.applying', coalesce(_tm_applying, ''), true),
        set_config('task_migration.cause', coalesce(_tm_before, ''), true);
END
$task_migration$

-- gone: the children here of a row that is gone, as their keys say, by writes of this side's own
CREATE OR REPLACE FUNCTION {function}(_tm_key text, _tm_vals jsonb) RETURNS void LANGUAGE plpgsql AS $task_migration$
#variable_conflict use_column
DECLARE
    _tm_child text;
    _tm_before text := current_setting('task_migration.cause', true);
    -- With a row that the rules took away its children vanish unasked as well, and that is told once: a parent is found gone on one side
    -- alone, a unique claim on both.
    _tm_telling boolean := _tm_before = 'parent gone' OR {telling} AND _tm_before = 'unique claim';
BEGIN
    PERFORM set_config('task_migration.cause', 'cascade', true);
    {children}
    PERFORM set_config('task_migration.cause', coalesce(_tm_before, ''), true);
END
$task_migration$

-- child: one key that refers to the table; a parent that is there again, or another one, keeps its children
IF NOT EXISTS (SELECT 1 FROM {table} t WHERE {parent}) THEN
        {action}
    END IF;

-- child_removed: the child goes too
FOR _tm_child IN SELECT {child_key} FROM {child} c WHERE {mine} LOOP
            {remove}
        END LOOP;

-- remove_child: what happens to one child
IF _tm_telling THEN
                PERFORM task_migration.tell({child_name}, _tm_child, _tm_before, task_migration.newest({child_name}, _tm_child),
                    (SELECT to_jsonb(t.*) FROM {child} t WHERE {child_here}), NULL);
            END IF;
            PERFORM {remove}(_tm_child, CASE WHEN _tm_telling THEN _tm_before ELSE 'cascade' END);

-- child_set: the child lets go of it
UPDATE {child} c SET {sets} WHERE {mine};

-- child_set_or_removed: as `child_set`, child by child, where one may not be able to
FOR _tm_child IN SELECT {child_key} FROM {child} c WHERE {mine} LOOP
            {let_go}
        END LOOP;

-- let_go: a row lets go of its parent; one that cannot goes, as with a key that neither cascades nor sets: NOT NULL, a check, another
-- claim, a default that leads nowhere
BEGIN
            {tell}
            UPDATE {child} t SET {sets} WHERE {child_here};
            IF EXISTS (SELECT 1 FROM {child} t WHERE {child_here} AND {given} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {match})) THEN
                RAISE foreign_key_violation;
            END IF;
        EXCEPTION WHEN integrity_constraint_violation OR generated_always THEN
            {remove}
        END;

-- child_outside: a child that does not move: its own triggers and keys act, as if the application had deleted; what they write to a
-- table that moves counts as a write of the application's
PERFORM set_config('session_replication_role', 'origin', true);
        {statement}
        PERFORM set_config('session_replication_role', 'replica', true);

-- keys: at the end of the applying transaction: is what was applied as keys and late claims want it
CREATE OR REPLACE FUNCTION {function}(_tm_v bigint, _tm_key text, _tm_kind text, _tm_vals jsonb) RETURNS void LANGUAGE plpgsql AS $task_migration$
#variable_conflict use_column
DECLARE
    _tm_row {table}%ROWTYPE;
    _tm_went text;
BEGIN
    IF _tm_kind = 'update' AND NOT _tm_vals ?| {watched} THEN RETURN; END IF;
    SELECT t.* INTO _tm_row FROM {table} t WHERE {here};
    IF NOT FOUND THEN
        -- Made anew by its writer since: then its children come after that, and are told as they arrive.
        IF _tm_kind = 'delete' AND NOT EXISTS (SELECT 1 FROM {peer} w WHERE w.table_name = {name} AND w.key = _tm_key AND w.v > _tm_v) THEN {gone} END IF;
        RETURN;
    END IF;
    {parents}
    {late}
END
$task_migration$

-- late: claims that are checked at the end of a transaction
LOOP
        _tm_went := {contest}(_tm_key, _tm_vals, true);
        IF _tm_went = 'self' THEN RETURN; END IF;
        EXIT WHEN _tm_went = 'none';
    END LOOP;

-- parent: one key of the table: the row that it refers to must be here, and stay until this transaction ends
IF {given} THEN
        PERFORM 1 FROM {parent} t WHERE {match} FOR KEY SHARE;
        IF NOT FOUND {deleted} THEN
            {action}
        END IF;
    END IF;

-- let_go_of_parent: the row that arrived and refers to a parent that is gone
PERFORM set_config('task_migration.cause', 'parent gone', true);
            {let_go}
            PERFORM set_config('task_migration.cause', '', true);

-- tell_parent_gone: once, with what is lost
PERFORM task_migration.tell({name}, _tm_key, 'parent gone', _tm_v, {lost}, NULL);

-- deleted: both sides know a deletion that is pruned, and who refers to what went has seen that it is allowed
AND EXISTS (SELECT 1 FROM {own} w WHERE w.table_name = {parent_name} AND w.kind = 'delete' AND {same})
