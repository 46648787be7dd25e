-- What the catalogs say of tables (oids): the first column is the table's oid, the others are the fields of objects.py in their
-- order. Arrays are of text: JSON would be read as UTF-8, whatever the session's encoding is.

-- tables: the tables of a schema by name; rows and pages are estimates: pg_relation_size would wait behind whoever
-- locks the table, and so would everything that looks here
SELECT n.nspname, c.relname, c.oid, c.relkind::text, c.relpersistence::text,
       greatest(c.reltuples, 0)::bigint, c.relpages::bigint, c.relnatts::int, c.relreplident::text,
       (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident),
       c.relrowsecurity, c.relforcerowsecurity,
       ARRAY(SELECT unnest(c.reloptions) UNION ALL SELECT 'toast.' || unnest(t.reloptions)), d.description
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE n.nspname = %s AND c.relname = ANY(%s)

-- columns: each column of the tables, in order, and what its type is made of in the end
-- Without length a cast cuts nothing. `=` calls numeric 1.0 and 1.00, or texts under some collations, equal that are not the same.
WITH RECURSIVE made(outer_type, oid, many) AS (
    SELECT DISTINCT a.atttypid, a.atttypid, false FROM pg_attribute a WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION SELECT m.outer_type, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END, m.many OR t.typtype <> 'd' FROM made m JOIN pg_type t ON t.oid = m.oid
    WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0)
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE format('%%s.%%s', q.nspname, t.typname) END, a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity::text, t.typnamespace = 'pg_catalog'::regnamespace,
       CASE WHEN a.attcollation <> t.typcollation
            THEN (SELECT format('%%I.%%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                  WHERE l.oid = a.attcollation) END,
       format_type(a.atttypid, -1),
       t.typnamespace = 'pg_catalog'::regnamespace AND (
           t.typname IN ('int2', 'int4', 'int8', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz', 'oid', 'bytea')
           OR t.typname IN ('text', 'varchar') AND (SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation)),
       k.kinds ->> t.typtype::text,
       CASE WHEN r.typnamespace = 'pg_catalog'::regnamespace THEN r.typname::text ELSE format('%%s.%%s', s.nspname, r.typname) END,
       r.typnamespace = 'pg_catalog'::regnamespace, k.kinds ->> r.typtype::text, m.many,
       (SELECT ARRAY[n.nspname, w.relname]::text[] FROM pg_class w JOIN pg_namespace n ON n.oid = w.relnamespace
        WHERE w.oid = r.typrelid AND w.relkind <> 'c'),
       CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external'
            WHEN 'm' THEN 'main' ELSE 'extended' END END,
       CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END, nullif(a.attstattarget, -1)::int, c.description
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace q ON q.oid = t.typnamespace
JOIN made m ON m.outer_type = a.atttypid
JOIN pg_type r ON r.oid = m.oid AND r.typtype <> 'd' AND NOT (r.typcategory = 'A' AND r.typelem <> 0) JOIN pg_namespace s ON s.oid = r.typnamespace
CROSS JOIN (SELECT '{"b": "base", "c": "composite", "d": "domain", "e": "enum", "m": "multirange", "p": "pseudo", "r": "range"}'::jsonb AS kinds) k
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_description c ON c.classoid = 'pg_class'::regclass AND c.objoid = a.attrelid AND c.objsubid = a.attnum
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum

-- constraints: keys, checks and foreign keys of the tables, and foreign keys that lead to them; the table that one refers to comes first
-- What SET NULL and SET DEFAULT set can be less than the key's columns since PostgreSQL 15; with AWS DMS the source may be of 14.
SELECT c.confrelid, c.conrelid, ARRAY[s.nspname, o.relname]::text[], c.conname, c.contype::text, pg_get_constraintdef(c.oid),
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
       CASE c.contype WHEN 'f' THEN ARRAY[m.nspname, r.relname]::text[] END,
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.i),
       trim(c.confdeltype::text),
       ARRAY(SELECT format('OPERATOR(%%I.%%s)', q.nspname, p.oprname) FROM unnest(c.conpfeqop) WITH ORDINALITY k(n, i)
             JOIN pg_operator p ON p.oid = k.n JOIN pg_namespace q ON q.oid = p.oprnamespace ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(coalesce((SELECT array_agg(d.n::int2) FROM
                 jsonb_array_elements_text(nullif(to_jsonb(c) -> 'confdelsetcols', 'null')) d(n)), c.conkey)) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n WHERE c.confdeltype IN ('n', 'd') ORDER BY k.i),
       c.confmatchtype = 'f', c.convalidated, c.condeferrable, c.condeferred,
       pg_get_expr(c.conbin, c.conrelid), d.description
FROM pg_constraint c JOIN pg_class o ON o.oid = c.conrelid JOIN pg_namespace s ON s.oid = o.relnamespace
LEFT JOIN pg_class r ON r.oid = c.confrelid LEFT JOIN pg_namespace m ON m.oid = r.relnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE (c.conrelid = ANY(%(oids)s) OR c.contype = 'f' AND c.confrelid = ANY(%(oids)s)) AND c.contype IN ('p', 'u', 'c', 'f', 'x')
AND c.conparentid = 0 ORDER BY c.conrelid, c.contype, c.conname

-- indexes: indexes of the tables, those under constraints too; by element its expression, the operator by which two rows clash and the
-- collation, where it is not the column's own
SELECT i.indrelid, c.relname, pg_get_indexdef(i.indexrelid), i.indisunique,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE k.o <= i.indnkeyatts ORDER BY k.o),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY(i.indkey::int2[])
             OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE k.o > i.indnkeyatts ORDER BY k.o),
       (SELECT array_agg(ARRAY[pg_get_indexdef(i.indexrelid, k.n::int, false),
                 (SELECT format('OPERATOR(%%I.%%s)', s.nspname, o.oprname) FROM pg_opclass f
                  JOIN pg_operator o ON o.oid = coalesce(x.conexclop[k.n], (SELECT p.amopopr FROM pg_amop p
                      WHERE p.amopfamily = f.opcfamily AND p.amoplefttype = f.opcintype AND p.amoprighttype = f.opcintype
                      AND p.amopstrategy = 3))
                  JOIN pg_namespace s ON s.oid = o.oprnamespace WHERE f.oid = k.class AND (i.indisunique OR i.indisexclusion)),
                 (SELECT format('%%I.%%I', s.nspname, l.collname) FROM pg_collation l
                  JOIN pg_namespace s ON s.oid = l.collnamespace WHERE l.oid = i.indcollation[k.n - 1])] ORDER BY k.n)
        FROM unnest(i.indclass::oid[]) WITH ORDINALITY k(class, n)),
       pg_get_expr(i.indpred, i.indrelid),
       -- Since PostgreSQL 15, as confdelsetcols above.
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false), i.indisvalid AND i.indislive, NOT i.indimmediate,
       i.indisprimary, i.indisexclusion, x.conname, d.description
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_constraint x ON x.conindid = i.indexrelid AND x.contype IN ('p', 'u', 'x') AND x.conrelid = i.indrelid
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE i.indrelid = ANY(%(oids)s) ORDER BY i.indrelid, c.relname

-- sequences: sequences that columns of the tables take ids from, or own; who owns one, and which other columns of the database take from it
WITH takes AS (
    SELECT d.adrelid AS rel, d.adnum AS num, p.refobjid AS seq FROM pg_attrdef d
    JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S' WHERE d.adrelid = ANY(%(oids)s)),
owns AS (
    SELECT d.refobjid AS rel, d.refobjsubid AS num, d.objid AS seq, d.deptype = 'i' AS identity FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    AND (d.refobjid = ANY(%(oids)s) OR d.objid IN (SELECT seq FROM takes))),
found AS (
    SELECT rel, num, seq FROM takes
    UNION SELECT rel, num, seq FROM owns o WHERE rel = ANY(%(oids)s)
        AND (o.identity OR NOT EXISTS (SELECT 1 FROM takes t WHERE t.seq = o.seq AND t.rel = o.rel)))
SELECT f.rel, c.relname, n.nspname, a.attname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin,
       s.seqmax, s.seqcache, s.seqcycle, coalesce(o.identity AND o.rel = f.rel AND o.num = f.num, false),
       (SELECT ARRAY[m.nspname, r.relname, b.attname]::text[] FROM pg_class r JOIN pg_namespace m ON m.oid = r.relnamespace
        JOIN pg_attribute b ON b.attrelid = r.oid AND b.attnum = o.num WHERE r.oid = o.rel),
       (SELECT array_agg(ARRAY[m.nspname, r.relname, b.attname]::text[] ORDER BY m.nspname, r.relname, b.attname)
        FROM pg_depend p JOIN pg_attrdef e ON e.oid = p.objid JOIN pg_class r ON r.oid = e.adrelid JOIN pg_namespace m ON m.oid = r.relnamespace
        JOIN pg_attribute b ON b.attrelid = e.adrelid AND b.attnum = e.adnum
        WHERE p.classid = 'pg_attrdef'::regclass AND p.refclassid = 'pg_class'::regclass AND p.refobjid = f.seq
        AND (e.adrelid, e.adnum) <> (f.rel, f.num))
FROM found f JOIN pg_class c ON c.oid = f.seq JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid JOIN pg_attribute a ON a.attrelid = f.rel AND a.attnum = f.num LEFT JOIN owns o ON o.seq = f.seq
ORDER BY f.rel, a.attnum, c.relname

-- policies: row security policies of the tables; the role PUBLIC is `public`, which no role can be named
SELECT p.polrelid, p.polname, p.polpermissive,
       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
       ARRAY(SELECT CASE o.oid WHEN 0 THEN 'public' ELSE pg_get_userbyid(o.oid)::text END FROM unnest(p.polroles) o(oid) ORDER BY 1),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), d.description
FROM pg_policy p LEFT JOIN pg_description d ON d.classoid = 'pg_policy'::regclass AND d.objoid = p.oid
WHERE p.polrelid = ANY(%(oids)s) ORDER BY p.polrelid, p.polname

-- triggers: triggers of the tables but for PostgreSQL's own and ours
SELECT t.tgrelid, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text, format('%%I.%%I', n.nspname, p.proname), d.description
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_trigger'::regclass AND d.objoid = t.oid
WHERE t.tgrelid = ANY(%(oids)s) AND NOT t.tgisinternal AND t.tgname !~ '^00_task_migration_' ORDER BY t.tgrelid, t.tgname

-- statistics: extended statistics of the tables
SELECT s.stxrelid, s.stxname, n.nspname, pg_get_statisticsobjdef(s.oid), nullif(s.stxstattarget, -1)::int, d.description
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_statistic_ext'::regclass AND d.objoid = s.oid
WHERE s.stxrelid = ANY(%(oids)s) ORDER BY s.stxrelid, n.nspname, s.stxname

-- types: types that columns, defaults, checks and indexes of the tables name
SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
UNION SELECT d.refobjid FROM pg_depend d WHERE d.refclassid = 'pg_type'::regclass AND (
    d.classid = 'pg_attrdef'::regclass AND d.objid IN (SELECT e.oid FROM pg_attrdef e WHERE e.adrelid = ANY(%(oids)s))
    OR d.classid = 'pg_constraint'::regclass AND d.objid IN (SELECT c.oid FROM pg_constraint c WHERE c.conrelid = ANY(%(oids)s))
    OR d.classid = 'pg_class'::regclass AND d.objid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = ANY(%(oids)s)))

-- type: of those types (oids) that are not PostgreSQL's: oid, oids of what each is made of, whether it is one of its own (no array, no
-- multirange), and the fields of `Type`
SELECT t.oid, ARRAY(
           SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype::bigint WHEN t.typcategory = 'A' THEN t.typelem::bigint ELSE 0 END
           UNION SELECT r.rngsubtype::bigint FROM pg_range r WHERE r.rngtypid = t.oid
           UNION SELECT r.rngtypid::bigint FROM pg_range r WHERE r.rngmultitypid = t.oid
           UNION SELECT a.atttypid::bigint FROM pg_attribute a
               WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
           UNION SELECT d.refobjid::bigint FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
               WHERE c.contypid = t.oid AND d.refclassid = 'pg_type'::regclass),
       t.typtype <> 'm' AND NOT (t.typcategory = 'A' AND t.typelem <> 0),
       n.nspname, t.typname, CASE t.typtype WHEN 'c' THEN 'composite' WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' WHEN 'm' THEN 'multirange'
           WHEN 'r' THEN 'range' ELSE 'base' END,
       (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'),
       CASE WHEN t.typtype = 'e' THEN format('CREATE TYPE %%I.%%I AS ENUM (%%s)', n.nspname, t.typname,
               (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
           WHEN t.typtype = 'd' THEN format('CREATE DOMAIN %%I.%%I AS %%s', n.nspname, t.typname, format_type(t.typbasetype, t.typtypmod))
               || coalesce((SELECT format(' COLLATE %%I.%%I', s.nspname, l.collname) FROM pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
                   WHERE l.oid = t.typcollation AND t.typcollation <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = t.typbasetype)), '')
               || coalesce(' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0), '') || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END
               || coalesce((SELECT string_agg(format(' CONSTRAINT %%I %%s', c.conname, pg_get_constraintdef(c.oid)), '' ORDER BY c.conname)
                   FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c' AND c.convalidated), '')
               || coalesce((SELECT string_agg(format(E';\nALTER DOMAIN %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, t.typname, c.conname,
                   pg_get_constraintdef(c.oid)), '' ORDER BY c.conname)
                   FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c' AND NOT c.convalidated), '')
           WHEN t.typtype = 'c' THEN (SELECT format('CREATE TYPE %%I.%%I AS (%%s)', n.nspname, t.typname, (
               SELECT string_agg(format('%%I %%s', a.attname, format_type(a.atttypid, a.atttypmod)) || coalesce((
                   SELECT format(' COLLATE %%I.%%I', s.nspname, l.collname) FROM pg_type b, pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
                   WHERE b.oid = a.atttypid AND l.oid = a.attcollation AND a.attcollation <> b.typcollation), ''), ', ' ORDER BY a.attnum)
               FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped))
               FROM pg_class r WHERE r.oid = t.typrelid AND r.relkind = 'c')
           -- What makes its values canonical is code for a type that is not there yet (PostgreSQL, 'CREATE TYPE').
           WHEN t.typtype = 'r' THEN (SELECT format('CREATE TYPE %%I.%%I AS RANGE (SUBTYPE = %%s, SUBTYPE_OPCLASS = %%I.%%I', n.nspname, t.typname,
                   format_type(r.rngsubtype, NULL), s.nspname, o.opcname)
               || coalesce((SELECT format(', COLLATION = %%I.%%I', k.nspname, l.collname) FROM pg_collation l JOIN pg_namespace k ON k.oid = l.collnamespace
                   WHERE l.oid = r.rngcollation), '')
               || CASE WHEN r.rngsubdiff = 0 THEN '' ELSE ', SUBTYPE_DIFF = ' || (SELECT format('%%I.%%I', k.nspname, f.proname)
                   FROM pg_proc f JOIN pg_namespace k ON k.oid = f.pronamespace WHERE f.oid = r.rngsubdiff) END
               || (SELECT format(', MULTIRANGE_TYPE_NAME = %%I.%%I)', k.nspname, m.typname) FROM pg_type m JOIN pg_namespace k ON k.oid = m.typnamespace
                   WHERE m.oid = r.rngmultitypid)
               FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc JOIN pg_namespace s ON s.oid = o.opcnamespace
               WHERE r.rngtypid = t.oid AND r.rngcanonical = 0) END,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
       (SELECT d.description FROM pg_description d WHERE d.classoid = 'pg_type'::regclass AND d.objoid = t.oid AND d.objsubid = 0)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND t.oid = ANY(%(oids)s)
ORDER BY n.nspname, t.typname

-- parts: what the stored columns of the tables (oids) are made of, as far as it needs a closer look: table, column, the way to it
-- (`each` element of an array or a multirange, the `ends` of a range, the `field` of a composite, by name), the type, and whether it is made
-- by CREATE TYPE, has a binary form, and is a number of this database that is written as a name: what PostgreSQL takes for an oid
-- without any work (pg_cast) is one, but integer, which is just a number
WITH RECURSIVE inside (relation, place, name, type, steps) AS (
    SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, ARRAY[]::text[] FROM pg_attribute a
    WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    UNION ALL
    SELECT i.relation, i.place, i.name, n.type, i.steps || n.step FROM inside i JOIN pg_type t ON t.oid = i.type, LATERAL (
        SELECT t.typbasetype, ARRAY[]::text[] WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem, ARRAY['each'] WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
        UNION ALL SELECT a.atttypid, ARRAY['field', a.attname::text COLLATE "default"] FROM pg_attribute a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT r.rngsubtype, ARRAY['ends'] FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid, ARRAY['each'] FROM pg_range r WHERE r.rngmultitypid = t.oid) n (type, step))
SELECT i.relation, i.name, i.steps, format_type(t.oid, NULL), t.oid >= 16384,
       -- An array with a function of its own (oidvector, int2vector) does not take what it sends of an empty one.
       t.typsend <> 0 AND t.typreceive <> 0 AND (t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc OR t.typreceive = 'pg_catalog.array_recv'::regproc),
       t.oid <> 'integer'::regtype AND EXISTS (SELECT FROM pg_cast c WHERE c.castsource = t.oid AND c.casttarget = 'oid'::regtype AND c.castmethod = 'b')
FROM inside i JOIN pg_type t ON t.oid = i.type ORDER BY i.relation, i.place, i.steps
