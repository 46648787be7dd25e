"""Whatever a table can have: the target has it too, or the documents say why not. One chain holds the tables of all cases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.preflight import run as preflight
from scripts.preflight.documents import Check
from scripts.replication import bands, fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.schema.documents import SchemaDiff
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.conftest import Pair, pairs

BAND = 1_000_000_000
#: What the tables need and nobody moves.
BOTH_SIDES = (
    "CREATE FUNCTION public.count_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1; RETURN NEW; END'"
)
#: The tables of each case.
SCHEMAS = {
    "checks": "CREATE TABLE checks (id int PRIMARY KEY, v int); INSERT INTO checks VALUES (1, -1), (2, 5);"
    "ALTER TABLE checks ADD CONSTRAINT positive CHECK (v > 0) NOT VALID, ADD CONSTRAINT small CHECK (v < 100);"
    "COMMENT ON CONSTRAINT positive ON checks IS 'late'; COMMENT ON CONSTRAINT small ON checks IS 'soon'",
    "keys": "CREATE TABLE keys (id int PRIMARY KEY, of int, other int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO keys VALUES (1, 99, 1); ALTER TABLE keys ADD CONSTRAINT loose FOREIGN KEY (of) REFERENCES keys NOT VALID,"
    "ADD CONSTRAINT firm FOREIGN KEY (other) REFERENCES keys; COMMENT ON CONSTRAINT loose ON keys IS 'dangles';"
    "COMMENT ON CONSTRAINT firm ON keys IS 'holds'; COMMENT ON CONSTRAINT keys_pkey ON keys IS 'its key'",
    "broken": "CREATE TABLE broken (id int PRIMARY KEY, v int); INSERT INTO broken VALUES (1, 1), (2, 1)",
    "device": "CREATE TABLE device (id int PRIMARY KEY, serial text NOT NULL, extra text NOT NULL UNIQUE);"
    "CREATE UNIQUE INDEX device_serial ON device (serial); ALTER TABLE device REPLICA IDENTITY USING INDEX device_serial;"
    "COMMENT ON INDEX device_serial IS 'by the plate'",
    "device2": "CREATE TABLE device2 (id int PRIMARY KEY, serial text NOT NULL UNIQUE); ALTER TABLE device2 REPLICA IDENTITY USING INDEX device2_serial_key",
    "whole": "CREATE TABLE whole (id int PRIMARY KEY); ALTER TABLE whole REPLICA IDENTITY FULL;"
    "CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    "rooms": "CREATE TABLE rooms (id int PRIMARY KEY, owner text, kind text); ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY app ON rooms FOR ALL TO myteacher_app_user, pg_monitor USING (kind IN ('a', 'b')) WITH CHECK (owner IS NOT NULL);"
    "CREATE POLICY all_of_them ON rooms AS RESTRICTIVE FOR SELECT USING (true); COMMENT ON POLICY app ON rooms IS 'who';"
    "INSERT INTO rooms VALUES (1, 'x', 'a'), (2, 'y', 'z')",
    "said": "CREATE TABLE said (id int PRIMARY KEY, \"It's\" text, v text); COMMENT ON TABLE said IS 'it''s \\ said';"
    "COMMENT ON COLUMN said.\"It's\" IS 'quoted'; CREATE STATISTICS said_st (ndistinct) ON id, v FROM said;"
    "CREATE STATISTICS said_ex ON lower(v), id FROM said; ALTER STATISTICS said_st SET STATISTICS 77; COMMENT ON STATISTICS said_st IS 'st'",
    "stored": "CREATE TABLE stored (id int PRIMARY KEY, v text, w text, j jsonb) WITH (fillfactor = 70, toast.autovacuum_enabled = false);"
    "ALTER TABLE stored ALTER v SET STORAGE external, ALTER w SET COMPRESSION pglz, ALTER w SET STATISTICS 0, ALTER j SET STORAGE main",
    "typed": "CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('sad', 'so so'); COMMENT ON TYPE kinds.mood IS 'how';"
    "CREATE DOMAIN kinds.few AS int DEFAULT 3 NOT NULL CONSTRAINT few CHECK (VALUE < 10);"
    "CREATE DOMAIN moods AS kinds.mood[] CHECK (cardinality(VALUE) < 4); CREATE TYPE point3 AS (x int, y kinds.few, m moods);"
    "CREATE TYPE span AS RANGE (subtype = float8, multirange_type_name = kinds.spans); CREATE DOMAIN lower_text AS text COLLATE \"C\" CHECK (VALUE = lower(VALUE));"
    "CREATE TABLE typed (id int PRIMARY KEY, few kinds.few, moods moods, p point3[], s span, ss kinds.spans, t lower_text DEFAULT 'a'::lower_text);"
    "INSERT INTO typed VALUES (1, 2, '{sad,\"so so\"}', '{\"(1,2,{sad})\"}', '[1,2)', '{[1,2)}', 'x')",
    "holder": "CREATE TABLE holder (id int PRIMARY KEY); CREATE TABLE held (id int PRIMARY KEY, x text); ALTER TABLE holder ADD r held, ADD rr held[];"
    "INSERT INTO holder VALUES (1, '(1,a)', '{\"(2,)\"}')",
    "fired": "CREATE TABLE fired (id int PRIMARY KEY, n int); CREATE TRIGGER up BEFORE UPDATE OF n ON fired FOR EACH ROW EXECUTE FUNCTION count_up();"
    "CREATE TRIGGER off BEFORE UPDATE ON fired FOR EACH ROW EXECUTE FUNCTION count_up(); ALTER TABLE fired DISABLE TRIGGER off;"
    "CREATE TRIGGER stays AFTER DELETE ON fired FOR EACH ROW EXECUTE FUNCTION count_up(); COMMENT ON TRIGGER up ON fired IS 'counts';"
    "INSERT INTO fired VALUES (1, 0)",
    "behind": "CREATE FUNCTION ours(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v'; CREATE SEQUENCE behind_seq; CREATE TABLE behind"
    "(id int PRIMARY KEY, v int DEFAULT ours(1), n int DEFAULT nextval('behind_seq'), CONSTRAINT behind_v CHECK (ours(v) > 0));"
    "CREATE INDEX behind_index ON behind (ours(v)); CREATE STATISTICS behind_st ON ours(v), id FROM behind;"
    "CREATE POLICY behind_policy ON behind USING (ours(v) > 0); ALTER TABLE behind ENABLE ROW LEVEL SECURITY; INSERT INTO behind VALUES (1)",
    # Sequences.
    "shared": "CREATE TABLE shared (id serial PRIMARY KEY, v text); CREATE TABLE shared2 (id int PRIMARY KEY DEFAULT nextval('shared_id_seq'), "
    "n bigint DEFAULT nextval('shared_id_seq')); INSERT INTO shared (v) VALUES ('a'); INSERT INTO shared2 (id, n) VALUES (5000000, 2000000000)",
    "free": "CREATE SCHEMA elsewhere; CREATE SEQUENCE elsewhere.free INCREMENT 3 CACHE 5 AS bigint; CREATE DOMAIN ident AS numeric;"
    "CREATE TABLE free (id ident PRIMARY KEY DEFAULT nextval('elsewhere.free')); INSERT INTO free VALUES (1.5), ('NaN'), ('Infinity')",
    "staying": "CREATE TABLE staying (id serial PRIMARY KEY); CREATE TABLE guest (id int PRIMARY KEY DEFAULT nextval('staying_id_seq'))",
    "lettered": "CREATE TABLE lettered (id text PRIMARY KEY); CREATE SEQUENCE letters OWNED BY lettered.id;"
    "ALTER TABLE lettered ALTER id SET DEFAULT 'T' || nextval('letters'); INSERT INTO lettered DEFAULT VALUES",
    "unused": "CREATE TABLE unused (id int PRIMARY KEY, v text); CREATE SEQUENCE unused_seq OWNED BY unused.v",
    "borrowed": "CREATE TABLE lent (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY); CREATE TABLE borrows (id bigint PRIMARY KEY, "
    "n bigint DEFAULT nextval('lent_id_seq')); ALTER TABLE lent RENAME TO zz_lent; ALTER TABLE zz_lent ADD n int DEFAULT nextval('lent_id_seq')",
    "counted": "CREATE TABLE counted (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT 2 START 7 CACHE 3) PRIMARY KEY, v int)",
    "wider": "CREATE TABLE wider (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY); ALTER SEQUENCE wider_id_seq AS bigint NO MAXVALUE",
}  # fmt: skip
STAYS = {"staying"}
CONFIG = {
    "carryTriggers": ["fired.up", "fired.off"],
    "leaveBehind": ["behind.v", "behind.n", "behind.behind_v", "behind.behind_index", "behind.behind_st", "behind.behind_policy"],
}  # fmt: skip
#: Of one table on one side: its own objects as the server writes them, under names that need no schema.
LOOKS = {
    "constraints": "SELECT conname, pg_get_constraintdef(oid), convalidated, condeferrable, condeferred, obj_description(oid) FROM pg_constraint "
    "WHERE conrelid = %(t)s::regclass ORDER BY 1",
    "indexes": "SELECT pg_get_indexdef(indexrelid), indisvalid, indisreplident, obj_description(indexrelid) FROM pg_index WHERE indrelid = %(t)s::regclass ORDER BY 1",
    "table": "SELECT relreplident, relrowsecurity, relforcerowsecurity, reloptions, obj_description(c.oid), (SELECT reloptions FROM pg_class t "
    "WHERE t.oid = c.reltoastrelid) FROM pg_class c WHERE oid = %(t)s::regclass",
    "columns": "SELECT attname, format_type(atttypid, atttypmod), attstorage, attcompression, attstattarget, col_description(attrelid, attnum), "
    "pg_get_expr(d.adbin, d.adrelid), attidentity FROM pg_attribute LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum "
    "WHERE attrelid = %(t)s::regclass AND attnum > 0 ORDER BY attnum",
    "policies": "SELECT policyname, permissive, ARRAY(SELECT replace(r::text, 'myteacher_app_user', 'task_service_user') FROM unnest(roles) r ORDER BY 1), cmd, qual, with_check "
    "FROM pg_policies WHERE tablename = %(t)s ORDER BY 1",
    "statistics": "SELECT pg_get_statisticsobjdef(oid), stxstattarget, obj_description(oid) FROM pg_statistic_ext WHERE stxrelid = %(t)s::regclass ORDER BY 1",
    "triggers": "SELECT pg_get_triggerdef(oid), tgenabled, obj_description(oid) FROM pg_trigger WHERE tgrelid = %(t)s::regclass AND NOT tgisinternal "
    "AND tgname !~ '^00_task' AND tgname <> 'stays' ORDER BY 1",
    "types": "SELECT DISTINCT t.oid::regtype::text, obj_description(t.oid), (SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY 1) FROM pg_constraint k "
    "WHERE contypid = t.oid), t.typdefault, t.typnotnull FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid "
    "WHERE attrelid = %(t)s::regclass AND attnum > 0 ORDER BY 1",
}  # fmt: skip
NAMES = [
    name.replace("lent", "zz_lent")
    for name in re.findall(r"CREATE TABLE (\w+)", " ".join(SCHEMAS.values()))
    if name not in STAYS
]


class Chain:
    """Everything made, and what each step said."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.checks: list[Check] = preflight.run(pair.settings, wal_seconds=0).checks
        self.applied = schema.apply(pair.settings)
        self.again = schema.apply(pair.settings)
        self.between = [
            row[0] for row in pair.target.execute("SELECT conname FROM pg_constraint WHERE conname = 'positive'")
        ]
        copy.run(pair.settings)
        self.copied: SchemaDiff = schema.diff(pair.settings)
        # Lost with the server, as one that was restored has none: what the copy made is taken away and made once more.
        pair.source.execute("SELECT pg_drop_replication_slot(%s)", (pair.settings.config.subscription,))
        copy.run(pair.settings)
        self.anew: SchemaDiff = schema.diff(pair.settings)


@pytest.fixture(scope="module")
def chain(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    """All tables, through preflight, `schema apply` (twice) and `copy`."""
    directory: Path = tmp_path_factory.mktemp("everything")
    with pairs(source_server, target_server, directory) as make:
        pair = make(rows=None)
        for connection in (pair.source, pair.target):
            connection.execute(BOTH_SIDES.encode())
        for ddl in SCHEMAS.values():
            pair.source.execute(ddl.encode())
        with pytest.raises(psycopg.errors.UniqueViolation):
            pair.source.execute("CREATE UNIQUE INDEX CONCURRENTLY broken_index ON broken (v)")
        pair.config(tables=NAMES, referencedTables=[], droppedForeignKeys=[], **CONFIG)
        yield Chain(pair)


def test_the_two_schemas_agree_after_each_step(chain: Chain) -> None:
    """Prevents a difference that nobody made, and one that a second run finds."""
    failed = [check for check in chain.checks if check.status == "fail"]
    assert failed == []
    assert (chain.applied.match, chain.applied.text) == (True, "")
    assert (chain.again.match, chain.again.created) == (True, [])
    assert (chain.copied.match, chain.copied.text, chain.copied.pending) == (True, "", [])
    assert (chain.anew.match, chain.anew.text) == (True, "")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("behind", "broken")])
def test_the_target_has_all_that_the_source_has(chain: Chain, name: str) -> None:
    """Prevents what `diff` and `apply` both overlook: looked at with other eyes than theirs."""
    for what, query in LOOKS.items():
        ours, theirs = (
            connection.execute(query, {"t": name}).fetchall() for connection in (chain.pair.source, chain.pair.target)
        )
        assert theirs == ours, (name, what)


def test_a_check_that_old_rows_break_comes_after_the_rows(chain: Chain) -> None:
    """Prevents a copy that fails on the rows that it was made to let through."""
    assert chain.between == []
    assert "positive" in {item.name for item in chain.applied.pending}
    said = chain.pair.target.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'positive'")
    assert said.fetchone() == ("CHECK ((v > 0)) NOT VALID",)


def test_what_stays_behind_is_said(chain: Chain) -> None:
    """Prevents a trigger, an index or a policy that is quietly missing."""
    left = {(one.table, one.kind, one.name) for one in chain.copied.left}
    assert left == {
        ("broken", "index", "broken_index"),
        ("fired", "trigger", "stays"),
        ("behind", "check", "behind_v"),
        ("behind", "index", "behind_index"),
        ("behind", "statistics", "behind_st"),
        ("behind", "policy", "behind_policy"),
        ("behind", "default", "v"),
        ("behind", "default", "n"),
    }
    warned = {check.name: check.detail for check in chain.checks if check.status == "warn"}
    assert warned["source: triggers"] == "fired.stays (calls public.count_up)"
    assert warned["source: policies"] == "rooms.all_of_them, rooms.app"
    assert warned["source: indexes that are not valid"] == "broken.broken_index"
    assert warned["source: left behind"].startswith("behind.behind_v (check), behind.behind_index (index)")
    gone = chain.pair.target.execute(
        "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = ANY(%(t)s::regclass[])), (SELECT count(*) FROM pg_attrdef WHERE adrelid "
        "= ANY(%(t)s::regclass[])), (SELECT count(*) FROM pg_policy WHERE polrelid = ANY(%(t)s::regclass[])), (SELECT bool_or(relrowsecurity) "
        "FROM pg_class WHERE oid = ANY(%(t)s::regclass[])), to_regclass('behind_seq')",
        {"t": ["behind", "broken"]},
    )
    assert gone.fetchone() == (2, 0, 0, False, None)


def test_each_sequence_is_made_once_and_bound_as_on_the_source(chain: Chain) -> None:
    """Prevents two sequences in the place of one, and one that goes with a column that it is not of."""
    query = (
        "SELECT s.seqrelid::regclass::text, format_type(seqtypid, NULL), seqincrement, seqcache, (SELECT d.refobjid::regclass || '.' || a.attname "
        "FROM pg_depend d JOIN pg_attribute a ON attrelid = refobjid AND attnum = refobjsubid WHERE d.objid = s.seqrelid AND d.deptype IN ('a', 'i') "
        "AND d.classid = 'pg_class'::regclass) FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid "
        "WHERE c.relnamespace <> ALL(ARRAY[to_regnamespace('task_migration')]) AND c.relname <> 'behind_seq' ORDER BY 1"
    )
    ours, theirs = (connection.execute(query).fetchall() for connection in (chain.pair.source, chain.pair.target))
    # Its owner stays behind.
    assert theirs == [(*row[:4], None) if row[4] == "staying.id" else row for row in ours]
    assert "letters" in {row[0] for row in theirs}


#: A column's next id on the target, by sequence: above the band and above every id that is there.
NEXT = {
    "shared_id_seq": 2_000_000_001,
    "elsewhere.free": BAND,
    "staying_id_seq": BAND,
    "letters": BAND,
    "counted_id_seq": BAND,
    "lent_id_seq": BAND,
}


@pytest.mark.parametrize("name", NEXT)
def test_the_band_begins_above_all_who_take_from_it(chain: Chain, name: str) -> None:
    """Prevents an id that another table already took from the same sequence."""
    stands = chain.pair.target.execute(f"SELECT last_value, is_called FROM {name}".encode()).fetchone()
    assert stands == (NEXT[name], False)


def test_the_bands_are_looked_at_for_each_who_takes(chain: Chain) -> None:
    """Prevents a status that looks at owned sequences only."""
    found = {(band.table, band.column, band.sequence): band for band in bands.read(chain.pair.settings)}
    assert ("guest", "id", "staying_id_seq") in found
    assert {("shared", "id"), ("shared2", "id"), ("shared2", "n")} <= {key[:2] for key in found}
    assert not [key for key in found if key[0] == "behind"]
    assert {band.status for band in found.values()} == {"ok"}


@pytest.mark.last
def test_both_sides_take_ids_and_stay_equal(chain: Chain) -> None:
    """Prevents ids that collide, and policies, triggers or checks that keep the rules from applying what the other side wrote."""
    replicate.start(chain.pair.settings)
    for table in ("shared", "shared2", "free", "guest", "lettered"):
        for connection in (chain.pair.source, chain.pair.target):
            connection.execute(f"INSERT INTO {table} DEFAULT VALUES".encode())
    chain.pair.source.execute("UPDATE fired SET n = 5")
    chain.pair.target.execute("INSERT INTO counted (v) VALUES (1)")
    chain.pair.source.execute("UPDATE rooms SET owner = 'z' WHERE id = 2")
    fence.both(chain.pair.settings, 30)
    found = verify.run(chain.pair.settings)
    assert [entry.table for entry in found.tables if not entry.match] == []
    assert chain.pair.target.execute("SELECT n FROM fired").fetchall() == [(6,)]
    assert [row[0] for row in chain.pair.source.execute("SELECT id FROM lettered ORDER BY 1")] == [
        "T1",
        f"T{BAND}",
        "T2",
    ]


@pytest.mark.parametrize("name", ["carryTriggers", "leaveBehind"])
def test_a_list_that_names_nothing_is_refused(chain: Chain, name: str) -> None:
    """Prevents a slip of the pen by which what was meant to stay behind is made, or what was meant to be carried is not."""
    settings, entry = chain.pair.settings, "keys.keys_other_key"
    values = {**settings.config.model_dump(by_alias=True), name: [*CONFIG[name], entry]}
    wrong = Settings(
        type(settings.config).model_validate(values), None, settings.source_url, settings.target_url, settings.state_dir
    )
    checks = preflight.run(wrong, wal_seconds=0).checks
    found = next(check for check in checks if check.name == "source: carryTriggers and leaveBehind")
    assert (found.status, found.detail) == ("fail", f"{name}: {entry}")
