-- strangers: what would run as this session's role when it writes to the tables, or could be made to: kind, what, SQL that mends it
-- Trusted are the session's role and superusers. Looks at catalogs only: no table is locked, none waited for.
WITH RECURSIVE trusted AS (SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user),
moved AS (SELECT c.oid, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')),
-- Tables that stay behind and follow the moved ones: what happens to them happens as if their application had done it.
followers AS (SELECT DISTINCT r.oid, r.relowner FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
              WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
              AND c.confrelid IN (SELECT oid FROM moved) AND c.conrelid NOT IN (SELECT oid FROM moved)),
written AS (SELECT oid, relowner, 'moved' AS part FROM moved UNION ALL SELECT oid, relowner, 'followers' FROM followers
            UNION ALL SELECT oid, relowner, 'helpers' FROM pg_class WHERE relnamespace = to_regnamespace('task_migration') AND relkind IN ('r', 'p')),
-- What is made for a table (indexes, checks, defaults, generated columns), and what that uses: functions, operators, types with
-- their casts, domains with their checks.
reach(classid, objid, relation) AS (
    SELECT 'pg_class'::regclass::oid, oid, oid FROM written WHERE part <> 'helpers'
    UNION SELECT e.classid, e.objid, r.relation FROM reach r CROSS JOIN LATERAL (
        SELECT d.classid, d.objid FROM pg_depend d WHERE d.refclassid = r.classid AND d.refobjid = r.objid AND d.deptype IN ('a', 'i')
            AND d.classid IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass)
        UNION ALL SELECT d.refclassid, d.refobjid FROM pg_depend d WHERE d.classid = r.classid AND d.objid = r.objid
            AND (d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
                 OR d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_type'::regclass)
        UNION ALL SELECT 'pg_proc'::regclass, c.castfunc FROM pg_cast c
        WHERE r.classid = 'pg_type'::regclass AND r.objid IN (c.castsource, c.casttarget) AND c.castfunc <> 0) e),
uses AS (SELECT classid, objid, string_agg(DISTINCT relation::regclass::text, ', ') AS tables FROM reach GROUP BY 1, 2)
SELECT 'owner', format('the table %%s belongs to %%I, who could put any code on it', m.oid::regclass, pg_get_userbyid(m.relowner)),
    format('BEGIN; ALTER TABLE %%s OWNER TO %%I; GRANT %%s ON %%1$s TO %%4$I%%s; COMMIT', m.oid::regclass, current_user, %(given)s::text,
           pg_get_userbyid(m.relowner),
           (SELECT string_agg(format('; GRANT USAGE, SELECT ON SEQUENCE %%s TO %%I', d.objid::regclass, pg_get_userbyid(m.relowner)), '' ORDER BY 1)
            FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid AND d.deptype IN ('a', 'i')))
FROM written m WHERE m.part <> 'helpers' AND m.relowner NOT IN (SELECT oid FROM trusted)
UNION ALL SELECT 'schema', format('the schema %%I belongs to %%I, who could put another table in a table''s place', n.nspname, r.rolname),
    format('ALTER SCHEMA %%I OWNER TO %%I', n.nspname, current_user)
FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner
-- pg_database_owner has one member, whom the catalog of memberships does not show.
JOIN pg_roles r ON r.oid = CASE WHEN o.rolname = 'pg_database_owner'
                                THEN (SELECT datdba FROM pg_database WHERE datname = current_database()) ELSE o.oid END
WHERE n.nspname = %(schema)s AND r.oid NOT IN (SELECT oid FROM trusted)
UNION ALL SELECT 'trigger', format('the trigger %%I of %%s fires %%s', g.tgname, g.tgrelid::regclass,
                                   CASE g.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'on REPLICA' ELSE 'on a cascade' END),
    CASE w.part WHEN 'moved' THEN format('ALTER TABLE %%s ENABLE TRIGGER %%I', g.tgrelid::regclass, g.tgname)
                ELSE format('DROP TRIGGER %%I ON %%s', g.tgname, g.tgrelid::regclass) END
FROM pg_trigger g JOIN written w ON w.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
WHERE NOT g.tgisinternal
    AND NOT ((g.tgname ~ '^00_task_migration_' OR w.part = 'helpers') AND p.pronamespace = to_regnamespace('task_migration')
             AND p.proowner IN (SELECT oid FROM trusted))
    AND CASE w.part WHEN 'moved' THEN g.tgenabled IN ('A', 'R')
                    WHEN 'followers' THEN g.tgenabled IN ('A', 'O') AND p.proowner NOT IN (SELECT oid FROM trusted)
                    ELSE g.tgenabled <> 'D' END
UNION ALL SELECT 'rule', format('the rule %%I rewrites statements on %%s', w.rulename, w.ev_class::regclass),
    format('DROP RULE %%I ON %%s', w.rulename, w.ev_class::regclass)
FROM pg_rewrite w JOIN written t ON t.oid = w.ev_class WHERE w.ev_enabled <> 'D' AND w.rulename <> '_RETURN'
UNION ALL SELECT 'event trigger', format('the event trigger %%I calls %%s of %%I', v.evtname, p.oid::regprocedure, pg_get_userbyid(p.proowner)),
    format('DROP EVENT TRIGGER %%I', v.evtname)
FROM pg_event_trigger v JOIN pg_proc p ON p.oid = v.evtfoid
WHERE v.evtenabled <> 'D' AND p.proowner NOT IN (SELECT oid FROM trusted)
UNION ALL SELECT 'function', format('%%s calls %%s of %%I', u.tables, p.oid::regprocedure, pg_get_userbyid(p.proowner)),
    format('ALTER FUNCTION %%s OWNER TO %%I', p.oid::regprocedure, current_user)
FROM uses u JOIN pg_proc p ON p.oid = u.objid AND u.classid = 'pg_proc'::regclass WHERE p.proowner NOT IN (SELECT oid FROM trusted)
UNION ALL SELECT 'type', format('%%s uses the type %%s of %%I, who could make a cast or a check of it', u.tables, t.oid::regtype,
                                pg_get_userbyid(t.typowner)),
    format('ALTER TYPE %%s OWNER TO %%I', t.oid::regtype, current_user)
FROM uses u JOIN pg_type t ON t.oid = u.objid AND u.classid = 'pg_type'::regclass
WHERE t.typowner NOT IN (SELECT oid FROM trusted) AND t.typcategory <> 'A' AND t.typtype <> 'm'
    AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
ORDER BY 1, 2

-- named: the functions and operators of their own that the tables' indexes, keys and checks use, as text
WITH RECURSIVE moved AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s)),
made(classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM moved
    UNION SELECT d.classid, d.objid FROM made m JOIN pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid
    WHERE d.deptype IN ('a', 'i') AND d.classid IN ('pg_class'::regclass, 'pg_constraint'::regclass))
SELECT DISTINCT d.refclassid = 'pg_operator'::regclass,
    CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid::regprocedure::text ELSE d.refobjid::regoperator::text END
FROM made m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid
WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)

-- theirs: of functions, some those of operators (names, whether of an operator), those that strangers have here: which, whose, its remedy
SELECT format('%%s of %%I, which an index or a key of the source calls', p.oid::regprocedure, pg_get_userbyid(p.proowner)),
    format('ALTER FUNCTION %%s OWNER TO %%I', p.oid::regprocedure, current_user)
FROM unnest(%(operators)s::boolean[], %(names)s::text[]) w(operator, name)
JOIN pg_proc p ON p.oid = CASE WHEN w.operator THEN (SELECT o.oprcode FROM pg_operator o WHERE o.oid = to_regoperator(w.name))
                               ELSE to_regprocedure(w.name) END
WHERE p.proowner NOT IN (SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user) ORDER BY 1
