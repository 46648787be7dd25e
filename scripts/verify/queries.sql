-- history: of each key the row's values as texts, this side's own records of it, and which of the other side's it has, at one moment
SELECT k.key,
       (SELECT json_object({names}, ARRAY[{values}]::text[]) FROM {table} t WHERE {match}),
       (SELECT json_agg(json_build_array(w.v, w.kind, w.vals::json) ORDER BY w.v) FROM {own} w
        WHERE w.table_name = {name} AND w.key = k.key
          AND w.v > coalesce((SELECT (s.value ->> 'v')::bigint FROM task_migration.settings s WHERE s.name = 'known'), 0)),
       (SELECT json_agg(w.v) FROM {peer} w WHERE w.table_name = {name} AND w.key = k.key)
FROM unnest({keys}) k(key)

-- pair_part: what of a side a base is bound to: its server, its database, and of the tables (oids) the file, the key and the columns. TRUNCATE
-- and whatever writes a table anew without triggers give it another file (PostgreSQL, 'pg_class').
SELECT concat_ws(' ', (SELECT s.system_identifier FROM pg_control_system() s), (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
    (SELECT md5(string_agg(concat_ws(' ', c.oid, c.relfilenode,
        (SELECT x.indkey FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary), (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid), ',' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)), ';' ORDER BY c.oid)) FROM pg_class c WHERE c.oid = ANY(%s)))

-- oldest: the oldest transaction that still runs: older ones have ended
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- written: the keys of the tables (names) that somebody wrote to since the last match, and maybe some of before, as far as a side knows;
-- at most so many
SELECT k.table_name, k.key FROM (SELECT w.table_name, w.key FROM task_migration.written w
    UNION SELECT w.table_name, w.key FROM task_migration.source_writes w UNION SELECT w.table_name, w.key FROM task_migration.target_writes w) k
WHERE k.table_name = ANY(%s) LIMIT %s

-- answered: forget keys of before a verification that matched. Nobody is waited for: who holds one's row is keeping it anew
DELETE FROM task_migration.written w USING (SELECT o.ctid FROM task_migration.written o WHERE o.xid < %s FOR UPDATE SKIP LOCKED) o WHERE w.ctid = o.ctid

-- referring: of the rows `t` that are meant, the key and the values of a foreign key, where it refers to something
SELECT {key}, ARRAY[{values}]::text[] {rows} WHERE {given}

-- holders: values of a foreign key, each with the key of a row that holds it
SELECT ARRAY[{values}]::text[], {key} FROM {given} JOIN {parent} t ON {match}

-- held: of the rows `t` that are meant, the key and the values by which a foreign key refers to it, each with the key of a row that does
SELECT {key}, ARRAY[{values}]::text[], {child_key} {rows} JOIN {child} c ON {match}

-- texts: of the rows `t` that are meant, the key, and all values by their names
SELECT {key}, json_object({names}, ARRAY[{values}]::text[])::text {rows}

-- rivals: of rows given by their values, each one's place and the key of a row here that claims the same. A row has the table's name and
-- type where the claim is computed, as a function of the whole row is written so
SELECT n._tm_place, {key} FROM (SELECT {row}.*, {expressions} FROM {table} {row} {condition}) t,
    (SELECT s._tm_place, e.* FROM unnest({texts}) WITH ORDINALITY s(_tm_text, _tm_place) CROSS JOIN LATERAL (SELECT {expressions}
        FROM (SELECT jsonb_populate_record(NULL::{table}, s._tm_text::jsonb) AS _tm_row) g CROSS JOIN LATERAL
            (SELECT jsonb_populate_record(g._tm_row, jsonb_build_object({generated})) AS _tm_whole FROM unnest(ARRAY[g._tm_row]) {row}) h
            CROSS JOIN LATERAL unnest(ARRAY[h._tm_whole]) {row} {condition}) e) n
WHERE {clash}
