"""What later steps do, tried by preflight on real servers: what cannot be carried is told with a remedy, after which the chain goes through."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.database import catalog
from scripts.preflight import run as preflight
from scripts.preflight import shapes, trials
from scripts.preflight.documents import Check
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.conftest import Pair

MakePair = Callable[..., Pair]

#: What tables use beside each other: types of each kind, functions that call functions, operators and their classes, casts, a collation, a
#: text search of its own, an extension in a schema of its own, names that need quotes.
USES = """
CREATE SCHEMA util; CREATE SCHEMA "We ird"; CREATE EXTENSION vector SCHEMA "We ird";
CREATE DOMAIN util.pos AS int DEFAULT 3 CHECK (value > 0);
CREATE TYPE mood AS ENUM ('sad', 'o''k');
CREATE TYPE pt AS (x int, "Y y" util.pos);
CREATE TYPE "We ird"."R" AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE FUNCTION util.base(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION util.twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN util.base($1); END';
CREATE FUNCTION def() RETURNS int LANGUAGE sql AS 'SELECT util.twice(3)';
CREATE FUNCTION ok(mood) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 IS NOT NULL';
CREATE FUNCTION moodnum(mood) RETURNS int IMMUTABLE LANGUAGE sql AS $$SELECT CASE $1 WHEN 'sad' THEN 1 ELSE 2 END$$;
CREATE CAST (mood AS int) WITH FUNCTION moodnum(mood);
CREATE COLLATION util.german (provider = libc, locale = 'C');
CREATE TEXT SEARCH DICTIONARY util.dict (TEMPLATE = pg_catalog.simple, accept = false);
CREATE TEXT SEARCH CONFIGURATION util.conf (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION util.conf ALTER MAPPING FOR word, asciiword WITH util.dict, pg_catalog.simple;
CREATE FUNCTION util.eq(pt, pt) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT ($1).x = ($2).x';
CREATE OPERATOR util.=== (FUNCTION = util.eq, LEFTARG = pt, RIGHTARG = pt, COMMUTATOR = OPERATOR(util.===));
CREATE FUNCTION util.cmpdesc(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS
    'SELECT CASE WHEN $1 > $2 THEN -1 WHEN $1 < $2 THEN 1 ELSE 0 END';
CREATE OPERATOR CLASS util.rev FOR TYPE int USING btree AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 util.cmpdesc(int, int);
CREATE TABLE shape (n int, m mood);
CREATE TABLE uses (
    id int PRIMARY KEY DEFAULT def(), p util.pos, m mood[] DEFAULT '{sad}', c pt, r "We ird"."R", t text COLLATE util.german, s shape,
    v tsvector GENERATED ALWAYS AS (to_tsvector('util.conf', coalesce(t, ''))) STORED, w "We ird".vector(2) UNIQUE, n mood,
    CONSTRAINT okn CHECK (ok(n)), CONSTRAINT same CHECK (c OPERATOR(util.===) c), CONSTRAINT num CHECK (n::int > 0), "Q u" int DEFAULT util.twice(1));
CREATE INDEX reversed ON uses (p util.rev); CREATE INDEX computed ON uses (util.twice(p)); CREATE INDEX near ON uses USING hnsw (w "We ird".vector_l2_ops);
INSERT INTO uses (id, m, n, p, t, c, s, w, r) VALUES (1, '{sad,o''k}', 'o''k', 1, 'hello world', '(1,2)', '(1,sad)', '[1,2]', '[1,2)');
"""


def looked(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in preflight.run(settings, wal_seconds=0).checks}


def failed(found: dict[str, Check]) -> dict[str, tuple[str, str]]:
    return {name: (check.detail, check.remedy) for name, check in found.items() if check.status == "fail"}


def test_what_the_target_lacks_is_told_as_the_sql_that_makes_it_and_then_the_rows_can_be_moved(
    make_pair: MakePair,
) -> None:
    """Prevents a `schema apply`, or an index after all rows, that fails with a server's words alone."""
    pair = make_pair(rows=None)
    pair.source.execute(USES.encode())
    pair.config(tables=["uses"], droppedForeignKeys=[], referencedTables=[])
    found = looked(pair.settings)
    lacking = found["both: what the tables use"]
    assert list(failed(found)) == [lacking.name]
    for what in (
        *(
            'function util.twice(integer) (default value for public.uses."Q u", index public.computed)',
            "extension vector",
        ),
        *(
            "operator util.===(public.pt,public.pt) (table constraint same on public.uses)",
            "collation util.german",
            "table public.shape",
        ),
        *("operator class util.rev USING btree (index public.reversed)", "text search configuration util.conf"),
    ):
        assert what in lacking.detail
    assert found["target: make the tables"].status == "warn"
    script = lacking.remedy.removeprefix("on the target, as the source has them: ")
    assert script.startswith("SET check_function_bodies = off;\nCREATE ")
    pair.target.execute(script.encode())
    # A function that another one names in its text alone, and one that is not the source's.
    pair.target.execute(
        "DROP FUNCTION util.base(int); CREATE OR REPLACE FUNCTION def() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    mended = looked(pair.settings)
    assert list(failed(mended)) == ["target: apply to uses"]
    for name, what in (
        ("both: what functions call", "function util.base(integer)"),
        ("both: functions that differ", "function public.def()"),
    ):
        assert mended[name].status == "warn"
        assert what in mended[name].detail
        pair.target.execute(mended[name].remedy.partition("as the source has them: ")[2].encode())
    mended = looked(pair.settings)
    assert failed(mended) == {}
    assert mended["both: functions that differ"].status == "pass"
    assert "1 rows arrived" in mended["target: apply to uses"].detail
    assert schema.apply(pair.settings).match
    copy.run(pair.settings)
    assert schema.diff(pair.settings).match
    rows = "SELECT u::text FROM uses u"
    assert pair.source.execute(rows).fetchall() == pair.target.execute(rows).fetchall() != []


def test_a_function_of_a_tables_own_row_is_made_between_apply_and_copy_or_what_calls_it_stays_behind(
    make_pair: MakePair,
) -> None:
    """Prevents a circle: the function needs the table, and the table's check the function."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE TABLE own (id int PRIMARY KEY, v text); INSERT INTO own VALUES (1, 'x');"
        "CREATE FUNCTION whole(own) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT ($1).v'; CREATE UNIQUE INDEX one_whole ON own (whole(own));"
        "CREATE FUNCTION good(own) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true'; ALTER TABLE own ADD CONSTRAINT fine CHECK (good(own))"
    )
    pair.config(tables=["own"], droppedForeignKeys=[], referencedTables=[])
    before = looked(pair.settings)["both: what the tables use"]
    assert before.status == "fail"
    left, _, later = before.remedy.partition("; once `schema apply` has made the tables, on the target: ")
    assert left.endswith(
        "takes a row of a table that is not there yet; or what the target can do without stays behind: leaveBehind: [own.fine]"
    )
    pair.config(leaveBehind=["own.fine"])
    after = looked(pair.settings)["both: what the tables use"]
    assert after.detail == "function public.whole(public.own) (index public.one_whole)"
    assert schema.apply(pair.settings).match
    pair.target.execute(later.encode())
    assert failed(looked(pair.settings)) == {}
    copy.run(pair.settings)
    assert schema.diff(pair.settings).match


#: Tables whose shape stops a migration. The remedies of the first are SQL that runs as it is printed.
SHAPES = """
CREATE TABLE by_index (id int NOT NULL, b text NOT NULL); CREATE UNIQUE INDEX "By it" ON by_index (b, id) INCLUDE (id);
CREATE TABLE by_constraint (id int NOT NULL UNIQUE, v text); INSERT INTO by_constraint VALUES (1), (2);
CREATE TABLE by_order (id int NOT NULL); CREATE UNIQUE INDEX ON by_order (id DESC);
CREATE TABLE by_nulls (id int, p int); CREATE UNIQUE INDEX nulled ON by_nulls (id); INSERT INTO by_nulls VALUES (1);
CREATE TABLE by_nothing ("id" text, row_id int); CREATE UNIQUE INDEX ON by_nothing (lower(id)); CREATE UNIQUE INDEX ON by_nothing (id) WHERE id > '';
INSERT INTO by_nothing VALUES ('x', 1), (NULL, 2);
CREATE UNLOGGED TABLE above (id int PRIMARY KEY); CREATE UNLOGGED TABLE below (id int PRIMARY KEY REFERENCES above, up int REFERENCES below);
CREATE TABLE parent (id int); CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9);
CREATE TABLE narrow (id smallserial PRIMARY KEY, up smallint REFERENCES narrow); INSERT INTO narrow DEFAULT VALUES;
CREATE TABLE narrower (id int GENERATED ALWAYS AS IDENTITY (MAXVALUE 900) PRIMARY KEY, n smallint REFERENCES narrow); INSERT INTO narrower DEFAULT VALUES;
CREATE SEQUENCE falling INCREMENT -2; CREATE TABLE falls (id int PRIMARY KEY DEFAULT nextval('falling')); INSERT INTO falls VALUES (DEFAULT), (77);
CREATE TABLE cycles (id int GENERATED BY DEFAULT AS IDENTITY (CYCLE) PRIMARY KEY);
CREATE TABLE named (id int PRIMARY KEY, "_tm_row" int); CREATE RULE kept AS ON DELETE TO named DO INSTEAD NOTHING;
"""
MOVED = (
    "by_index",
    "by_constraint",
    "by_order",
    "by_nulls",
    "by_nothing",
    "below",
    "heir",
    "part",
    "named",
    "narrow",
    "narrower",
    "falls",
    "cycles",
)


def test_a_shape_that_cannot_be_moved_has_a_remedy_that_leads_on(make_pair: MakePair) -> None:
    """Prevents a remedy with dots in it, and one that PostgreSQL refuses: an index of a constraint makes no key, a logged table refers to
    no unlogged one."""
    pair = make_pair(rows=None)
    pair.source.execute(SHAPES.encode())
    pair.config(tables=MOVED, droppedForeignKeys=["below_id_fkey"], referencedTables=["above"])
    found = looked(pair.settings)
    wrong = {name: check for name, check in found.items() if name in {
        *("source: primary keys", "source: unlogged tables", "source: inheritance", "source: names of columns"),
        *("source: triggers that fire on apply", "source: sequence band", "source: kinds of sequences"),
    }}  # fmt: skip
    assert {name: check.detail for name, check in wrong.items()} == {
        "source: primary keys": "by_index, by_constraint, by_order, by_nulls, by_nothing",
        "source: unlogged tables": "below",
        "source: inheritance": "public.heir of public.parent, public.part of public.parts",
        "source: names of columns": "named._tm_row",
        "source: sequence band": "narrow_id_seq (at 1, ends at 32767), narrower_id_seq (at 1, ends at 900)",
        "source: kinds of sequences": "falling (increment -2, ends), cycles_id_seq (increment 1, cycles)",
        "source: triggers that fire on apply": "the rule kept rewrites statements on public.named",
    }
    assert set(failed(found)) == set(wrong)
    for check in wrong.values():
        for statement in re.split("; ", check.remedy[check.remedy.rindex(": ") + 2 :]):
            pair.source.execute(re.sub(r" \([a-z ,A-Z]*\)$", "", statement).encode())
    assert failed(looked(pair.settings)) == {}
    assert schema.apply(pair.settings).match
    copy.run(pair.settings)
    assert pair.source.execute("INSERT INTO falls DEFAULT VALUES RETURNING id").fetchall() == [(78,)]
    band = [(1_000_000_000,)]
    assert pair.target.execute("INSERT INTO narrow DEFAULT VALUES RETURNING id").fetchall() == band
    assert pair.target.execute("INSERT INTO narrower (n) SELECT max(id) FROM narrow RETURNING id").fetchall() == band


def test_rows_that_are_hidden_or_were_never_checked_are_counted(make_pair: MakePair) -> None:
    """Prevents a copy of what one role sees, and a verification that differs for rows that were wrong before."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE TABLE up (a int, b int, PRIMARY KEY (a, b)); INSERT INTO up VALUES (1, 1);"
        "CREATE TABLE low (id int PRIMARY KEY, a int, b int, v int); INSERT INTO low VALUES (1, 1, 1, 1), (2, 1, 2, -1), (3, NULL, 2, NULL), (4, 2, NULL, 0);"
        "ALTER TABLE low ADD CONSTRAINT simple FOREIGN KEY (a, b) REFERENCES up NOT VALID, "
        "ADD CONSTRAINT whole FOREIGN KEY (a, b) REFERENCES up MATCH FULL NOT VALID, ADD CONSTRAINT positive CHECK (v > 0 AND format('{}{0}%%', v) <> '{}') NOT VALID;"
        ""
    )
    # As CREATE UNIQUE INDEX CONCURRENTLY leaves one that met its duplicates last: new rows are held against it.
    pair.source.execute(
        "CREATE INDEX failed ON low (a); UPDATE pg_index SET indisunique = true, indisvalid = false WHERE indexrelid = 'failed'::regclass"
    )
    pair.config(tables=["up", "low"], droppedForeignKeys=[], referencedTables=[])
    found = looked(pair.settings)
    assert failed(found) == {}
    # Of four rows three break a check or an index that nobody could make valid.
    assert found["source: write low"].detail.startswith("1 rows written")
    pair.source.execute(
        "ALTER TABLE low ENABLE ROW LEVEL SECURITY; ALTER TABLE low FORCE ROW LEVEL SECURITY; ALTER TABLE low OWNER TO myteacher_app_user"
    )
    tables = catalog.read(pair.source, "public", ["up", "low"], "source")
    (broken,) = shapes.unchecked(pair.source, tables)
    assert broken.status == "warn"
    assert set(broken.detail.split(", ")) == {"simple of low: 1", "whole of low: 3", "positive of low: 2"}
    seen = {check.name: check for check in shapes.checks("source", pair.source, tables, True)}
    assert seen["source: row security"].status == "pass"
    pair.source.execute("SET ROLE myteacher_app_user")
    hidden = {check.name: check for check in shapes.checks("source", pair.source, tables, True)}["source: row security"]
    assert (hidden.status, hidden.detail) == ("fail", "low")
    pair.source.execute(hidden.remedy.split(", or: ")[1].encode())
    mended = {check.name: check for check in shapes.checks("source", pair.source, tables, True)}
    assert mended["source: row security"].status == "pass"


def test_what_a_domain_refuses_is_told_before_copy_does(make_pair: MakePair) -> None:
    """A check of a domain that came NOT VALID, and a NULL that a subquery without a row gave: COPY ended at the first such row."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE DOMAIN positive AS int NOT NULL; CREATE TABLE sums (id int PRIMARY KEY, v positive, w positive);"
        "INSERT INTO sums SELECT n, n - 5, n FROM generate_series(1, 20) n; ALTER DOMAIN positive ADD CONSTRAINT up CHECK (VALUE > 0) NOT VALID;"
        "INSERT INTO sums SELECT 30, 1, (SELECT w FROM sums WHERE false)"
    )
    pair.config(tables=["sums"], droppedForeignKeys=[], referencedTables=[])
    found = looked(pair.settings)["source: values that their domains refuse"]
    assert found.status == "fail"
    assert "sums.v (public.positive): value for domain public.positive violates check constraint" in found.detail
    assert "sums.w (public.positive): domain public.positive does not allow null values" in found.detail
    pair.source.execute(
        "UPDATE sums SET v = 1 WHERE NOT pg_input_is_valid(v::text, 'positive'); DELETE FROM sums WHERE w IS NULL"
    )
    assert failed(looked(pair.settings)) == {}
    schema.apply(pair.settings)
    copy.run(pair.settings)
    replicate.start(pair.settings)
    pair.source.execute("INSERT INTO sums SELECT 31, 1, (SELECT w FROM sums WHERE false)")
    fence.both(pair.settings, 60)
    assert pair.target.execute("SELECT v, w FROM sums WHERE id = 31").fetchall() == [(1, None)]
    assert verify.run(pair.settings).match


#: A function that calls another one without its schema, where there are rows and where there are none; a sample does not suit every check.
CALLS = """
CREATE SCHEMA util; CREATE FUNCTION util.inner_(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
CREATE FUNCTION util.outer_(text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET search_path = util AS 'BEGIN RETURN inner_($1); END';
ALTER FUNCTION util.outer_(text) RESET search_path;
CREATE TABLE filled (id int PRIMARY KEY, v text); SET search_path = util; INSERT INTO public.filled VALUES (1, 'A'); CREATE INDEX low ON public.filled (util.outer_(v));
CREATE TABLE public.empty (id uuid PRIMARY KEY, v text, r int4range, n int[], CONSTRAINT low CHECK (util.outer_(v) <> 'zz')); RESET search_path;
CREATE TABLE strict (id int PRIMARY KEY CHECK (id > 100), b box, t timestamptz, p point NOT NULL);
"""


def test_a_function_that_needs_a_search_path_is_given_one_though_no_row_calls_it_yet(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a worker that stops at the first row of a table that was empty."""
    pair = make_pair(rows=None)
    pair.source.execute(CALLS.encode())
    pair.target.execute("CREATE SCHEMA util; " + CALLS[CALLS.index("CREATE FUNCTION") : CALLS.index("ALTER FUNCTION")])
    pair.config(tables=["filled", "empty", "strict"], droppedForeignKeys=[], referencedTables=[])
    found = looked(pair.settings)
    path = 'ALTER FUNCTION util.outer_(pg_catalog.text) SET search_path = pg_catalog, "util", pg_temp'
    assert set(failed(found)) == {
        "source: functions without a search_path",
        "source: write filled",
        "source: write empty",
    }
    for check in failed(found).values():
        assert "function inner_(text) does not exist" in check[0]
        assert check[1].endswith(path)
    pair.source.execute(path.encode())
    assert failed(looked(pair.settings)) == {}
    # A writer that does not commit: nobody is kept waiting behind the trial, which says that it was none.
    monkeypatch.setattr(trials, "LOCK_SECONDS", 0)
    with psycopg.connect(pair.settings.source()) as writer:
        writer.execute("UPDATE filled SET v = 'B'")
        busy = looked(pair.settings)["source: write filled"]
    assert busy.status == "warn"
    assert "locking filled: no lock after 0 s" in busy.detail
    assert pair.source.execute("SELECT v FROM filled").fetchall() == [("B",)]
    assert pair.source.execute(
        "SELECT to_regnamespace('task_migration'), count(*) FROM pg_trigger WHERE NOT tgisinternal"
    ).fetchall() == [(None, 0)]


def test_ids_that_do_not_fit_and_roles_that_are_not_there_are_refused_and_the_remedies_lead_on(
    make_pair: MakePair,
) -> None:
    """Prevents a service whose first insert is refused, as an id of its band is longer, and a policy that cannot be made."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE SEQUENCE s; CREATE TABLE short (id varchar(6) PRIMARY KEY DEFAULT 'T' || nextval('s'), v int);"
        "CREATE ROLE night_shift; CREATE TABLE asked (id int PRIMARY KEY); CREATE POLICY for_it ON asked TO night_shift USING (true)"
    )
    try:
        pair.config(tables=["short", "asked"], droppedForeignKeys=[], referencedTables=[])
        found = failed(looked(pair.settings))
        assert set(found) == {"target: make the tables", "target: roles of policies"}
        assert "short.id: value too long for type character varying(6)" in found["target: make the tables"][0]
        pair.source.execute("ALTER TABLE short ALTER id TYPE varchar(20)")
        left = re.findall(r"leaveBehind: \[(.*)\]", found["target: roles of policies"][1])
        assert left == ["asked.for_it"]
        pair.config(leaveBehind=left)
        assert failed(looked(pair.settings)) == {}
        made = schema.apply(pair.settings)
        assert (made.match, [(one.kind, one.name) for one in made.left]) == (True, [("policy", "for_it")])
        assert pair.target.execute("SELECT last_value, is_called FROM s").fetchone() == (1, False)
    finally:
        pair.source.execute("DROP TABLE asked; DROP ROLE night_shift")


def test_tables_that_are_on_the_target_already_are_the_sources_or_are_said_not_to_be(make_pair: MakePair) -> None:
    """Prevents a `copy` that refuses what preflight let pass, and a row that arrives where its column is missing."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE TABLE one (id int PRIMARY KEY, v text NOT NULL, n numeric); INSERT INTO one VALUES (1, 'x', 1.50)"
    )
    pair.target.execute("CREATE TABLE one (id bigint NOT NULL, v text DEFAULT 'y', CHECK (id < 9))")
    pair.config(tables=["one"], droppedForeignKeys=[], referencedTables=[])
    found = looked(pair.settings)["both: schema"]
    assert found.status == "fail"
    for what in ("column id (source", "column n (source", "constraint one_id_check (source none"):
        assert what in found.detail
    pair.target.execute(found.remedy.partition(": ")[2].encode())
    mended = looked(pair.settings)
    assert failed(mended) == {}
    assert mended["both: schema"].status == "pass"
    assert "1 rows arrived" in mended["target: apply to one"].detail
