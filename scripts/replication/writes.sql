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

-- whole: records by number, in the order in which they were committed, each with what its transaction is told by: all parts of one have one
-- time of commit, its savepoints too (PostgreSQL, 'Committed Transaction Information'); without these times, the transaction alone
SELECT x.v, x.table_name, x.key, x.kind, x.vals, x.cause, coalesce(x.committed::text, x.xmin::text)
FROM (SELECT w.*, w.xmin, CASE WHEN current_setting('track_commit_timestamp') = 'on' THEN pg_xact_commit_timestamp(w.xmin) END AS committed
      FROM {writes} w WHERE w.v = ANY(%s)) x ORDER BY x.committed NULLS FIRST, x.v

-- digest: one number for all that travels of a record `w`
hashtextextended(concat_ws(chr(31), w.v::text, w.table_name, w.key, w.kind, coalesce(w.vals, chr(30)),
    coalesce(w.cause, chr(30))) COLLATE "C", 0)

-- summed: the records with numbers in (`low`, `high`]: how many, and one sum over their digests
SELECT count(*), coalesce(sum(({digest})::numeric), 0) FROM {writes} w WHERE w.v > %(low)s AND w.v <= %(high)s

-- chunk_end: the number of the record that ends the next chunk of a table, at most `high`
SELECT coalesce((SELECT w.v FROM {writes} w WHERE w.v > %(low)s AND w.v <= %(high)s ORDER BY w.v OFFSET %(size)s LIMIT 1),
    %(high)s)

-- somebody: somebody's own writes of a side by minute, table, kind, role and application: those in the record, after a moment if one is
-- given, and those kept of pruned ones
(SELECT date_trunc('minute', w.at) AS minute, w.table_name, {kind} AS kind, coalesce(w.role, '') AS role, coalesce(w.application, '') AS application,
        count(*) AS writes, min(w.at) AS oldest, max(w.at) AS newest FROM {writes} w WHERE w.kind <> 'fence' AND w.cause IS NULL
        AND w.at > coalesce(%(since)s::timestamptz, '-infinity') GROUP BY 1, 2, 3, 4, 5
 UNION ALL SELECT k.minute, k.table_name, k.kind, k.role, k.application, k.writes, k.oldest, k.newest FROM task_migration.writers k
        WHERE k.newest > coalesce(%(since)s::timestamptz, '-infinity'))

-- kind: what a record `w` says of its row; what a foreign key leaves of one whose parent went is `cleared`, or deleted
CASE WHEN w.kind = 'update' AND NOT EXISTS (SELECT 1 FROM json_each_text(w.vals::json) v WHERE v.value IS NOT NULL) THEN 'cleared' ELSE w.kind END

-- writers: who wrote on a side, by role, application and table: how many of these kinds, when first and last, and how many seconds ago last
SELECT x.role, x.application, x.table_name, sum(x.writes)::bigint, to_char(min(x.oldest), 'YYYY-MM-DD HH24:MI:SS'),
    to_char(max(x.newest), 'YYYY-MM-DD HH24:MI:SS'), greatest(0, extract(epoch FROM clock_timestamp() - max(x.newest)))::float8
FROM {somebody} x WHERE x.newest > clock_timestamp() - make_interval(mins => %(minutes)s) AND x.kind = ANY(%(kinds)s)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- runs: who wrote on a side in the last so many minutes, by minute: when first and last, in seconds since the epoch
SELECT x.role, x.application, extract(epoch FROM min(x.oldest))::float8, extract(epoch FROM max(x.newest))::float8
FROM {somebody} x WHERE x.minute > clock_timestamp() - make_interval(mins => %(minutes)s) GROUP BY x.minute, x.role, x.application

-- deleted: the target's own deletions of the last so many minutes, by table and minute; and how many rows the table has, by its statistics
SELECT x.table_name, to_char(x.minute, 'YYYY-MM-DD HH24:MI'), sum(x.writes)::bigint, coalesce((SELECT greatest(c.reltuples, 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = x.table_name AND n.nspname = %(schema)s), 0)
FROM {somebody} x WHERE x.kind = 'delete' AND x.minute > clock_timestamp() - make_interval(mins => %(minutes)s)
GROUP BY x.minute, x.table_name ORDER BY x.minute, x.table_name

-- delete: remove the records up to `high`, a chunk of them, and say how many of each kind went; somebody's writes are counted if it is their side
WITH old AS (SELECT w.v FROM {writes} w WHERE w.v <= %(high)s ORDER BY w.v LIMIT %(size)s),
     gone AS (DELETE FROM {writes} w USING old WHERE w.v = old.v RETURNING w.*),
     counted AS (INSERT INTO task_migration.writers AS k
         SELECT date_trunc('minute', w.at), w.table_name, {kind}, coalesce(w.role, ''), coalesce(w.application, ''), count(*), min(w.at), max(w.at)
         FROM gone w WHERE %(own)s AND w.kind <> 'fence' AND w.cause IS NULL GROUP BY 1, 2, 3, 4, 5
         ON CONFLICT (minute, table_name, kind, role, application)
         DO UPDATE SET writes = k.writes + excluded.writes, oldest = least(k.oldest, excluded.oldest), newest = greatest(k.newest, excluded.newest))
SELECT g.kind, count(*) FROM gone g GROUP BY 1

-- forget: what was counted before the time that is looked back on
DELETE FROM task_migration.writers WHERE minute < clock_timestamp() - make_interval(mins => %s)

-- begin: where a side's clock stands, and then a new transaction: whoever has a number up to there runs in an older one
SELECT c.last_value - (NOT c.is_called)::int, pg_current_xact_id()::text::bigint FROM task_migration.clock c

-- oldest: the oldest transaction that still runs, and then where the clock stands
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, (SELECT last_value FROM task_migration.clock)

-- fenced: whether a fence has arrived that was written after the other side's clock stood at a number
SELECT EXISTS (SELECT 1 FROM {writes} w WHERE w.kind = 'fence' AND w.v > %s)

-- told_by_kind: lost writes of a side's conflict log, counted
SELECT table_name, kind, count(*) FROM task_migration.conflicts GROUP BY 1, 2

-- losses: the newest lost writes of a side's conflict log; no values
SELECT at::text, table_name, key::text, kind, v, columns FROM task_migration.conflicts ORDER BY id DESC LIMIT %s
