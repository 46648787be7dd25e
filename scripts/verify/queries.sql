-- history: of each key the row's values as texts, this side's own records of it, and which of the other side's it has, at one moment
SELECT k.key,
       (SELECT json_object({names}, ARRAY[{values}]::text[]) FROM {table} t WHERE {match}),
       (SELECT json_agg(json_build_array(w.v, w.kind, w.vals::json) ORDER BY w.v) FROM {own} w
        WHERE w.table_name = {name} AND w.key = k.key
          AND w.v > coalesce((SELECT (s.value ->> 'v')::bigint FROM task_migration.settings s WHERE s.name = 'known'), 0)),
       (SELECT json_agg(w.v) FROM {peer} w WHERE w.table_name = {name} AND w.key = k.key)
FROM unnest(%s::text[]) k(key)
