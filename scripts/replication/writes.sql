-- held: the records that a side holds of both sides' writes, and the bytes of both tables with their indexes
SELECT (SELECT count(*) FROM task_migration.source_writes) + (SELECT count(*) FROM task_migration.target_writes),
       pg_total_relation_size('task_migration.source_writes') + pg_total_relation_size('task_migration.target_writes')

-- own: the records of a side's own writes after `known`, in order, each with a digest of all that travels
SELECT w.v, {digest}, w.table_name, w.key, w.kind, w.cause FROM {writes} w WHERE w.v > %s ORDER BY w.v

-- newest: so many of the newest records of a side, each with its digest
SELECT w.v, {digest} FROM {writes} w ORDER BY w.v DESC LIMIT %s

-- absent: which of the records (numbers, digests) the other side lacks, or has otherwise
SELECT o.v FROM unnest(%s::bigint[], %s::bigint[]) o(v, digest) LEFT JOIN {writes} w ON w.v = o.v
WHERE w.v IS NULL OR {digest} <> o.digest

-- whole: records by number
SELECT w.v, w.table_name, w.key, w.kind, w.vals, w.cause FROM {writes} w WHERE w.v = ANY(%s) ORDER BY w.v

-- digest: one number for all that travels of a record `w`
hashtextextended(concat_ws(chr(31), w.v::text, w.table_name, w.key, w.kind, coalesce(w.vals, chr(30)),
    coalesce(w.cause, chr(30))) COLLATE "C", 0)

-- summed: the records with numbers in (`low`, `high`]: how many, and one sum over their digests
SELECT count(*), coalesce(sum(({digest})::numeric), 0) FROM {writes} w WHERE w.v > %(low)s AND w.v <= %(high)s

-- chunk_end: the number of the record that ends the next chunk of a table, at most `high`
SELECT coalesce((SELECT w.v FROM {writes} w WHERE w.v > %(low)s AND w.v <= %(high)s ORDER BY w.v OFFSET %(size)s LIMIT 1),
    %(high)s)

-- deleted: the target's own deletions of the last so many minutes, by table and minute: those in the record, and those kept of pruned
-- ones; and how many rows the table has, by its statistics
SELECT x.table_name, x.minute, sum(x.deleted)::bigint, coalesce((SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = x.table_name AND n.nspname = %(schema)s), 0)
FROM (SELECT w.table_name, to_char(w.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS minute, count(*) AS deleted
      FROM task_migration.target_writes w WHERE w.kind = 'delete' AND w.cause IS NULL GROUP BY 1, 2
      UNION ALL SELECT k.table_name, k.minute, k.deleted FROM task_migration.settings s,
          jsonb_to_recordset(s.value) k(table_name text, minute text, deleted bigint) WHERE s.name = 'deletes') x
WHERE x.minute > to_char((clock_timestamp() - make_interval(mins => %(minutes)s)) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
GROUP BY 1, 2 ORDER BY 2, 1

-- delete: remove the records up to `high`, a chunk of them, and say how many of each kind went, somebody's own deletions by table
-- and minute
WITH old AS (SELECT w.v FROM {writes} w WHERE w.v <= %(high)s ORDER BY w.v LIMIT %(size)s),
     gone AS (DELETE FROM {writes} w USING old WHERE w.v = old.v RETURNING w.*)
SELECT g.kind, o.table_name, o.minute, count(*) FROM gone g LEFT JOIN LATERAL (
    SELECT g.table_name, to_char(g.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS minute) o ON g.kind = 'delete' AND g.cause IS NULL
GROUP BY 1, 2, 3

-- begin: where a side's clock stands, and then a new transaction: whoever has a number up to there runs in an older one
SELECT c.last_value - (NOT c.is_called)::int, pg_current_xact_id()::text::bigint FROM task_migration.clock c

-- oldest: the oldest transaction that still runs, and then where the clock stands
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, (SELECT last_value FROM task_migration.clock)

-- fenced: whether a fence has arrived that was written after the other side's clock stood at a number
SELECT EXISTS (SELECT 1 FROM {writes} w WHERE w.kind = 'fence' AND w.v > %s)

-- losses: the newest lost writes of a side's conflict log; no values
SELECT at::text, table_name, key::text, kind, v, columns FROM task_migration.conflicts ORDER BY id DESC LIMIT %s
