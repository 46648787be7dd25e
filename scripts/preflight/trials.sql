-- needs: what the tables (oids), their parts but those `left` and triggers that are `carried` (table.name) use beside each other: of each object its oid, its key, what it is, its address, the extension that it is part of, who of
-- the tables uses it, which of these may stay behind, the keys of what it needs itself, of what its text alone names, and SQL that makes it
-- Followed by pg_depend (PostgreSQL, 'Dependency Tracking'), which knows nothing of a function's text: there a name before a bracket counts.
WITH RECURSIVE own(classid, objid, name, part) AS (
    SELECT 'pg_class'::regclass::oid, oid, relname::text, NULL::text FROM pg_class WHERE oid = ANY(%(oids)s)
    UNION SELECT d.classid, d.objid, o.name, x.name FROM own o JOIN pg_depend d ON d.refclassid = o.classid AND d.refobjid = o.objid AND d.deptype IN ('a', 'i')
    CROSS JOIN LATERAL (SELECT o.name || '.' || (CASE d.classid
        WHEN 'pg_attrdef'::regclass THEN (SELECT a.attname FROM pg_attrdef x JOIN pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum WHERE x.oid = d.objid)
        WHEN 'pg_constraint'::regclass THEN (SELECT conname FROM pg_constraint WHERE oid = d.objid AND contype <> 'f')
        WHEN 'pg_class'::regclass THEN (SELECT c.relname FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid WHERE c.oid = d.objid AND x.indisvalid)
        WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxname FROM pg_statistic_ext WHERE oid = d.objid)
        WHEN 'pg_policy'::regclass THEN (SELECT polname FROM pg_policy WHERE oid = d.objid)
        WHEN 'pg_trigger'::regclass THEN (SELECT tgname FROM pg_trigger WHERE oid = d.objid AND o.name || '.' || tgname = ANY(%(carried)s)) END)::text COLLATE "default") x(name)
    WHERE x.name IS NOT NULL AND x.name <> ALL(%(left)s)),
-- Other tables with their row types, and sequences, are not made here.
edges AS (
    SELECT d.classid, d.objid, d.refclassid, d.refobjid, d.deptype = 'e' AS member FROM pg_depend d
    WHERE d.deptype IN ('n', 'a', 'i', 'e') AND d.refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass,
        'pg_opclass'::regclass, 'pg_collation'::regclass, 'pg_extension'::regclass, 'pg_namespace'::regclass, 'pg_ts_config'::regclass,
        'pg_ts_dict'::regclass, 'pg_class'::regclass)
    AND NOT (d.refclassid = 'pg_class'::regclass AND EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = d.refobjid AND c.relkind IN ('S', 'i', 't')))
    AND NOT (d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'i')
    -- What stands in a composite type hangs on its relation.
    UNION ALL SELECT 'pg_type'::regclass, t.oid, 'pg_class'::regclass, c.oid, false FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
    UNION ALL SELECT 'pg_type'::regclass, c.contypid, d.refclassid, d.refobjid, false FROM pg_constraint c
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid AND d.deptype = 'n' WHERE c.contypid <> 0
    -- A cast is found by its function, as an expression depends on that alone.
    UNION ALL SELECT 'pg_proc'::regclass, c.castfunc, 'pg_cast'::regclass, c.oid, false FROM pg_cast c WHERE c.castfunc >= 16384
    UNION ALL SELECT 'pg_cast'::regclass, c.oid, 'pg_type'::regclass, t.oid, false FROM pg_cast c JOIN pg_type t ON t.oid IN (c.castsource, c.casttarget)
    WHERE c.oid >= 16384 AND t.oid >= 16384
    UNION ALL SELECT 'pg_opclass'::regclass, c.oid, 'pg_operator'::regclass, o.amopopr, false FROM pg_opclass c
    JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype WHERE c.oid >= 16384 AND o.amopopr >= 16384
    UNION ALL SELECT 'pg_opclass'::regclass, c.oid, 'pg_proc'::regclass, p.amproc, false FROM pg_opclass c
    JOIN pg_amproc p ON p.amprocfamily = c.opcfamily AND p.amproclefttype = c.opcintype WHERE c.oid >= 16384 AND p.amproc >= 16384),
-- What belongs to an extension comes with it.
followed AS (
    SELECT e.* FROM edges e WHERE e.member OR NOT EXISTS (
        SELECT 1 FROM pg_depend m WHERE m.classid = e.classid AND m.objid = e.objid AND m.deptype = 'e')),
-- Each step, with what asked for it.
reach(classid, objid, byclass, byobj, named) AS (
    SELECT e.refclassid, e.refobjid, o.classid, o.objid, false FROM own o JOIN edges e ON e.classid = o.classid AND e.objid = o.objid
    WHERE (e.refclassid, e.refobjid) NOT IN (SELECT classid, objid FROM own)
    -- A parent is no part of a table, which is refused for it.
    AND NOT (o.classid = 'pg_class'::regclass AND e.refclassid = 'pg_class'::regclass)
    UNION SELECT x.classid, x.objid, r.classid, r.objid, x.named FROM reach r CROSS JOIN LATERAL (
        SELECT e.refclassid, e.refobjid, false FROM followed e WHERE e.classid = r.classid AND e.objid = r.objid
        AND (e.refclassid, e.refobjid) NOT IN (SELECT classid, objid FROM own)
        UNION ALL SELECT r.classid, g.oid, true FROM pg_proc f CROSS JOIN pg_proc g JOIN pg_namespace n ON n.oid = g.pronamespace
        WHERE r.classid = 'pg_proc'::regclass AND f.oid = r.objid AND g.oid >= 16384 AND f.oid <> g.oid AND n.nspname <> 'task_migration'
        AND strpos(lower(f.prosrc), lower(g.proname)) > 0
        AND f.prosrc ~* ('(^|\W)' || regexp_replace(g.proname, '(\W)', '\\\1', 'g') || '"?\s*\(')
        AND NOT EXISTS (SELECT 1 FROM pg_depend m WHERE m.classid = r.classid AND m.objid = r.objid AND m.deptype = 'e')) x(classid, objid, named))
SELECT r.objid, concat(r.classid, '/', r.objid), i.type, i.identity, a.object_names, a.object_args,
    (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
     WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype = 'e'),
    ARRAY(SELECT DISTINCT concat(u.type, ' ', u.identity) FROM own o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid
          CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) u
          WHERE d.refclassid = r.classid AND d.refobjid = r.objid ORDER BY 1),
    ARRAY(SELECT DISTINCT o.part FROM own o JOIN reach n ON n.byclass = o.classid AND n.byobj = o.objid
          WHERE n.classid = r.classid AND n.objid = r.objid AND o.part IS NOT NULL ORDER BY 1),
    ARRAY(SELECT concat(n.classid, '/', n.objid) FROM reach n WHERE n.byclass = r.classid AND n.byobj = r.objid AND NOT n.named),
    ARRAY(SELECT concat(n.classid, '/', n.objid) FROM reach n WHERE n.byclass = r.classid AND n.byobj = r.objid AND n.named),
    CASE r.classid
    WHEN 'pg_namespace'::regclass THEN (SELECT format('CREATE SCHEMA %%I', nspname) FROM pg_namespace WHERE oid = r.objid)
    WHEN 'pg_type'::regclass THEN (SELECT CASE WHEN t.typcategory = 'A' OR t.typtype = 'm' OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c') THEN ''
            END FROM pg_type t WHERE t.oid = r.objid)
    -- Its shape is all that a type or an expression needs of a table that stays behind.
    WHEN 'pg_class'::regclass THEN (SELECT CASE WHEN c.relkind = 'c' THEN '' ELSE format('CREATE TABLE %%s (%%s)', c.oid::regclass, (SELECT string_agg(format('%%I %%s', a.attname,
            format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) END
        FROM pg_class c WHERE c.oid = r.objid)
    WHEN 'pg_extension'::regclass THEN (SELECT format('CREATE EXTENSION %%I SCHEMA %%I', x.extname, n.nspname)
        FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.oid = r.objid)
    WHEN 'pg_proc'::regclass THEN (SELECT rtrim(pg_get_functiondef(oid), E'\n') FROM pg_proc WHERE oid = r.objid AND prokind <> 'a')
    WHEN 'pg_collation'::regclass THEN (SELECT format('CREATE COLLATION %%I.%%I (provider = %%s, %%s, deterministic = %%s%%s)', n.nspname, c.collname,
            CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
            CASE WHEN l.locale IS NULL THEN format('lc_collate = %%L, lc_ctype = %%L', c.collcollate, c.collctype) ELSE format('locale = %%L', l.locale) END,
            c.collisdeterministic::text, ', rules = ' || quote_literal(to_jsonb(c) ->> 'collicurules'))
        FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace,
        -- Under another name in each of PostgreSQL 14, 15 and 17.
        LATERAL (SELECT coalesce(to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale', CASE c.collprovider WHEN 'i' THEN c.collcollate END)) l(locale)
        WHERE c.oid = r.objid)
    WHEN 'pg_cast'::regclass THEN (SELECT format('CREATE CAST (%%s AS %%s) WITH FUNCTION %%s%%s', c.castsource::regtype, c.casttarget::regtype,
            c.castfunc::regprocedure, CASE c.castcontext WHEN 'i' THEN ' AS IMPLICIT' WHEN 'a' THEN ' AS ASSIGNMENT' END)
        FROM pg_cast c WHERE c.oid = r.objid)
    WHEN 'pg_operator'::regclass THEN (SELECT format('CREATE OPERATOR %%I.%%s (FUNCTION = %%s%%s, RIGHTARG = %%s%%s%%s%%s%%s%%s%%s)', n.nspname, o.oprname,
            o.oprcode, ', LEFTARG = ' || nullif(o.oprleft, 0)::regtype, o.oprright::regtype,
            (SELECT format(', COMMUTATOR = OPERATOR(%%I.%%s)', m.nspname, p.oprname) FROM pg_operator p JOIN pg_namespace m ON m.oid = p.oprnamespace
             WHERE p.oid = o.oprcom),
            (SELECT format(', NEGATOR = OPERATOR(%%I.%%s)', m.nspname, p.oprname) FROM pg_operator p JOIN pg_namespace m ON m.oid = p.oprnamespace
             WHERE p.oid = o.oprnegate),
            ', RESTRICT = ' || nullif(o.oprrest, 0)::regproc, ', JOIN = ' || nullif(o.oprjoin, 0)::regproc,
            CASE WHEN o.oprcanhash THEN ', HASHES' END, CASE WHEN o.oprcanmerge THEN ', MERGES' END)
        FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = r.objid)
    WHEN 'pg_opclass'::regclass THEN (SELECT format('CREATE OPERATOR CLASS %%I.%%I %%sFOR TYPE %%s USING %%I AS %%s', n.nspname, c.opcname,
            CASE WHEN c.opcdefault THEN 'DEFAULT ' END, c.opcintype::regtype, m.amname, concat_ws(', ',
            (SELECT string_agg(format('OPERATOR %%s %%s%%s', o.amopstrategy, o.amopopr::regoperator, CASE o.amoppurpose WHEN 'o' THEN
                 (SELECT format(' FOR ORDER BY %%I.%%I', s.nspname, f.opfname) FROM pg_opfamily f JOIN pg_namespace s ON s.oid = f.opfnamespace
                  WHERE f.oid = o.amopsortfamily) END), ', ' ORDER BY o.amopstrategy)
             FROM pg_amop o WHERE o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype),
            (SELECT string_agg(format('FUNCTION %%s (%%s, %%s) %%s', p.amprocnum, p.amproclefttype::regtype, p.amprocrighttype::regtype, p.amproc::regprocedure),
                               ', ' ORDER BY p.amprocnum)
             FROM pg_amproc p WHERE p.amprocfamily = c.opcfamily AND p.amproclefttype = c.opcintype), 'STORAGE ' || nullif(c.opckeytype, 0)::regtype))
        FROM pg_opclass c JOIN pg_namespace n ON n.oid = c.opcnamespace JOIN pg_am m ON m.oid = c.opcmethod WHERE c.oid = r.objid)
    WHEN 'pg_ts_dict'::regclass THEN (SELECT format('CREATE TEXT SEARCH DICTIONARY %%I.%%I (TEMPLATE = %%I.%%I%%s)', n.nspname, d.dictname, m.nspname, t.tmplname,
            ', ' || d.dictinitoption)
        FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace JOIN pg_ts_template t ON t.oid = d.dicttemplate
        JOIN pg_namespace m ON m.oid = t.tmplnamespace WHERE d.oid = r.objid)
    WHEN 'pg_ts_config'::regclass THEN (SELECT format('CREATE TEXT SEARCH CONFIGURATION %%I.%%I (PARSER = %%I.%%I)', n.nspname, c.cfgname, m.nspname, p.prsname)
            || coalesce((SELECT string_agg(format(E';\nALTER TEXT SEARCH CONFIGURATION %%I.%%I ADD MAPPING FOR %%I WITH %%s', n.nspname, c.cfgname, k.alias, w.dicts), ''
                                           ORDER BY k.tokid)
                FROM ts_token_type(c.cfgparser) k, LATERAL (SELECT string_agg(x.mapdict::regdictionary::text, ', ' ORDER BY x.mapseqno)
                    FROM pg_ts_config_map x WHERE x.mapcfg = c.oid AND x.maptokentype = k.tokid) w(dicts) WHERE w.dicts IS NOT NULL), '')
        FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace JOIN pg_ts_parser p ON p.oid = c.cfgparser
        JOIN pg_namespace m ON m.oid = p.prsnamespace WHERE c.oid = r.objid)
    END
FROM (SELECT DISTINCT classid, objid FROM reach) r CROSS JOIN LATERAL pg_identify_object(r.classid, r.objid, 0) i CROSS JOIN LATERAL pg_identify_object_as_address(r.classid, r.objid, 0) a
ORDER BY 3, 4

-- places: where a few rows stand: those of the smallest keys and those of the largest
SELECT DISTINCT ctid::text FROM ((SELECT ctid FROM {table} ORDER BY {first} LIMIT {rows}) UNION ALL (SELECT ctid FROM {table} ORDER BY {last} LIMIT {rows})) x

-- hold: a row by its place, unless somebody has it or one of its values is large as it is stored
SELECT 1 FROM {table} WHERE ctid = {place}::tid AND coalesce(greatest({sizes}), 0) < {limit} FOR UPDATE SKIP LOCKED

-- rewrite: a row that goes and comes again as it was, by its place
WITH gone AS (DELETE FROM {table} WHERE ctid = {place}::tid RETURNING *)
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone RETURNING ctid::text

-- recorded: the newest of what was recorded, unless it is large
SELECT w.key, w.vals FROM (SELECT * FROM task_migration.source_writes WHERE kind = 'insert' ORDER BY v DESC LIMIT 1) w WHERE octet_length(w.vals) < 20 * {limit}

-- arrive: a record of the other side's arrives, as the newest
INSERT INTO {records} (v, table_name, key, kind, vals) SELECT c.last_value + 2, {name}, {key}, {kind}, {vals} FROM task_migration.clock c

-- values: a row's values as a record has them; the table holds no other
SELECT json_object({names}, {values})::text FROM {table} t

-- type_keys: types by schema and name, with their keys in `needs`
SELECT n.nspname, t.typname, concat('pg_type'::regclass::oid, '/', t.oid) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN unnest(%s::text[], %s::text[]) w(space, name) ON w.space = n.nspname AND w.name = t.typname

-- text_casts: functions that turn a type of the tables' (oids) columns into text, or text into it, in the place of the type's own
SELECT DISTINCT format('(%%s AS %%s)', c.castsource::regtype, c.casttarget::regtype), concat(a.attrelid::regclass, '.', quote_ident(a.attname))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_cast c ON 'text'::regtype = c.casttarget AND c.castsource = t.oid OR 'text'::regtype = c.castsource AND c.casttarget = t.oid
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped AND c.castmethod = 'f' AND c.oid >= 16384 ORDER BY 1, 2

-- unlogged: the tables (oids) that are unlogged with those that they refer to, parents first: a logged one refers to no other
WITH RECURSIVE found(oid, depth) AS (
    SELECT oid, 0 FROM pg_class WHERE oid = ANY(%s) AND relpersistence = 'u'
    UNION SELECT c.oid, f.depth + 1 FROM found f JOIN pg_constraint k ON k.conrelid = f.oid AND k.contype = 'f' AND k.confrelid <> k.conrelid
    JOIN pg_class c ON c.oid = k.confrelid AND c.relpersistence = 'u' WHERE f.depth < 50)
SELECT oid::regclass::text FROM found GROUP BY oid ORDER BY max(depth) DESC, 1

-- heirs: who of the tables (oids) inherits, or is inherited from: child, parent, SQL that parts them
SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text, CASE WHEN c.relispartition
    THEN format('ALTER TABLE %%s DETACH PARTITION %%s', i.inhparent::regclass, i.inhrelid::regclass)
    ELSE format('ALTER TABLE %%s NO INHERIT %%s', i.inhrelid::regclass, i.inhparent::regclass) END
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, (SELECT %s::oid[]) t(oids) WHERE i.inhrelid = ANY(t.oids) OR i.inhparent = ANY(t.oids) ORDER BY 1, 2

-- table_expressions: what is computed when a row of the tables (oids) is written: table, what computes it, that as table.name, the expression
SELECT i.indrelid::regclass::text, 'the index ' || x.relname, concat(t.relname, '.', x.relname), e.expression
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid,
LATERAL (SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnkeyatts) k WHERE i.indkey[k - 1] = 0
         UNION ALL SELECT pg_get_expr(i.indpred, i.indrelid) WHERE i.indpred IS NOT NULL) e(expression)
WHERE i.indrelid = ANY(%(oids)s) AND i.indisready
UNION ALL SELECT c.conrelid::regclass::text, 'the check ' || c.conname, concat(t.relname, '.', c.conname), pg_get_expr(c.conbin, c.conrelid)
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid WHERE c.contype = 'c' AND c.conrelid = ANY(%(oids)s)
UNION ALL SELECT d.adrelid::regclass::text, 'the column ' || a.attname, concat(t.relname, '.', a.attname), pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum JOIN pg_class t ON t.oid = d.adrelid
WHERE a.attgenerated <> '' AND d.adrelid = ANY(%(oids)s)

-- sample: a text that a type (its name) takes: of some, or of an enum's labels
SELECT coalesce((SELECT s.text FROM unnest(ARRAY['1', 'a', '{}', '2000-01-01', '00000000-0000-4000-8000-000000000001', '(1,1)', '[1,2)', 't', '127.0.0.1',
    '08:00:2b:01:02:03', '((0,0),(1,1))', '{1,1,1}', '0/1', '1:1:', '[1]', '<a/>']) WITH ORDINALITY s(text, place)
    WHERE pg_input_is_valid(s.text, %(type)s) ORDER BY s.place LIMIT 1),
    (SELECT enumlabel FROM pg_enum WHERE enumtypid = to_regtype(%(type)s) ORDER BY enumsortorder LIMIT 1))

-- insert: a row of texts
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values})

-- functions: the definitions of functions by their names with arguments, in that order
SELECT rtrim(pg_get_functiondef(n.name::regprocedure), E'\n') FROM unnest(%s::text[]) WITH ORDINALITY n(name, place) ORDER BY n.place
