"""What a table holds, what is told and what goes back to the other side once a record has arrived: a case for each shape of table.

One server: a record is put straight into the other side's table of writes, as a worker does, and all of a case is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support.sides import Side, other
from scripts.writes import apply, install, relations

Values = dict[str, Any]
Told = tuple[str, list[str], str, Values]


class Database:
    """One side. Its own clock begins far below the numbers of what arrives."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.v = 1000
        self.seen = 0
        self.here: Side = "target"

    def do(self, *statements: str) -> None:
        """As a person or an application."""
        for statement in statements:
            self.connection.execute(statement.encode())

    def rules(self, *tables: str, side: Side = "target", **config: Any) -> None:
        """Capture and rules of ``tables`` as they are now; rows that are there are known to both sides."""
        self.here = side
        found = MigrationConfig.model_validate(
            {"tables": tables, "referencedTables": [], "droppedForeignKeys": [], **config}
        )
        # As a command's session has it: names that the catalog writes have their schemas.
        self.do("SET LOCAL search_path = pg_catalog, pg_temp")
        install.capture_on(self.connection, found, side)
        install.rules_on(self.connection, found, side)
        self.do("SET LOCAL search_path = public")

    def arrive(self, *records: Sequence[Any], v: int | None = None) -> None:
        """Records of the other side in one transaction: table, key, kind, values, cause. ``v``: another number than the next of them."""
        self.v = self.v + 100 if v is None else v
        with self.connection.transaction():
            self.do("SET LOCAL session_replication_role = replica")
            for number, record in enumerate(records):
                table, key, kind, values, cause = (*record, None, None)[:5]
                self.connection.execute(
                    sql.SQL(
                        "INSERT INTO task_migration.{} (v, table_name, key, kind, vals, cause) VALUES (%s, %s, %s, %s, %s, %s)"
                    ).format(sql.Identifier(f"{other(self.here)}_writes")),
                    (
                        self.v + number,
                        table,
                        json.dumps([key] if isinstance(key, str) else key),
                        kind,
                        None if values is None else json.dumps(values),
                        cause,
                    ),
                )
            self.do(
                "SET CONSTRAINTS ALL IMMEDIATE",
                "SET CONSTRAINTS ALL DEFERRED",
                "SET LOCAL session_replication_role = origin",
            )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """In order; a table's name is all of it."""
        return self.connection.execute(
            (query if " " in query else f"SELECT * FROM {query} ORDER BY 1").encode()
        ).fetchall()

    def told(self) -> list[Told]:
        """What was lost, whole."""
        found = self.rows("SELECT table_name, key, kind, lost FROM task_migration.conflicts ORDER BY id")
        return [(table, json.loads(key), kind, json.loads(lost or "{}")) for table, key, kind, lost in found]

    def sent(self) -> list[tuple[str, list[str], str, Values, str | None]]:
        """What this side wrote since the last look, its rules' writes among it."""
        found = self.rows(
            f"SELECT v, table_name, key, kind, vals, cause FROM task_migration.{self.here}_writes ORDER BY v"
        )
        new = [row for row in found if row[0] > self.seen]
        self.seen = max([self.seen, *(row[0] for row in new)])
        return [
            (table, json.loads(key), kind, json.loads(values or "{}"), cause)
            for _, table, key, kind, values, cause in new
        ]


@pytest.fixture(scope="module")
def connection(kept_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A database for all cases, and where a server is kept for more than one run of them, as nothing of a case stays."""
    with psycopg.connect(kept_server.url(), autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = 'rules'").fetchall():
            admin.execute("CREATE DATABASE rules")
    with psycopg.connect(kept_server.url("rules"), autocommit=True) as made:
        made.execute("SET lock_timeout = '300ms'; SET client_min_messages = 'warning'")
        helper_schema.install(made)
        # Two workers of `make mutants`: one after the other.
        made.execute("SELECT pg_advisory_lock(1)")
        yield made


@pytest.fixture
def db(connection: psycopg.Connection[Any]) -> Iterator[Database]:
    with connection.transaction(force_rollback=True):
        yield Database(connection)


def test_a_record_becomes_a_row(db: Database) -> None:
    """Prevents a column that is left out, one that a record without it empties, and a row that stays after its deletion."""
    db.do("CREATE TABLE t (id int PRIMARY KEY, a int, b text)", "INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')")
    db.rules("t")
    db.arrive(
        ("t", "1", "update", {"a": "5"}),
        ("t", "2", "delete"),
        ("t", "3", "insert", {"id": "3", "a": None, "b": "z"}),
        ("t", "4", "update", {"a": "4"}),
    )
    assert db.rows("t") == [(1, 5, "x"), (3, None, "z")]
    assert db.told() == [("t", ["4"], "update of deleted", {"a": "4"})]
    assert db.sent() == [], "what was applied is no write of this side's"
    db.do("UPDATE t SET b = 'mine' WHERE id = 3")
    assert db.sent() == [("t", ["3"], "update", {"b": "mine"}, None)]


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_newer_write_of_a_column_stays(db: Database, side: Side) -> None:
    """Prevents a record that overwrites a newer one of this side, and a loss that nobody is told of."""
    db.do("CREATE TABLE t (id int PRIMARY KEY, a int, b int, seen int)", "INSERT INTO t VALUES (1, 1, 1, 1)")
    db.rules("t", side=side, bookkeepingColumns=["seen"])
    db.arrive(("t", "1", "update", {"a": "2"}))
    db.do("UPDATE t SET a = 7, seen = 7")
    db.arrive(("t", "1", "update", {"a": "3", "b": "3", "seen": "3"}), v=1001)
    assert db.rows("t") == [(1, 7, 3, 7)]
    assert db.told() == [("t", ["1"], "update", {"a": "3"})]
    # Of a row that is gone, only what is more than bookkeeping is told.
    db.do("DELETE FROM t")
    db.arrive(("t", "1", "update", {"seen": "4"}), v=1002)
    assert len(db.told()) == 1


def test_a_column_that_is_not_known(db: Database) -> None:
    """Prevents a value that is dropped in silence."""
    db.do("CREATE TABLE t (id int PRIMARY KEY, a int)")
    db.rules("t")
    with pytest.raises(
        psycopg.errors.UndefinedColumn, match="update of t came with columns that are not known here: b"
    ):
        db.arrive(("t", "1", "update", {"a": "1", "b": "2"}))


def test_a_table_that_is_not_configured(db: Database) -> None:
    """Prevents a write that is kept in the record and applied nowhere."""
    db.do("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    db.rules("t")
    with pytest.raises(
        psycopg.errors.RaiseException, match="a write of the table u arrived, which is not configured here"
    ):
        db.arrive(("u", "1", "insert", {"id": "1"}))


def test_former_names_of_columns(db: Database) -> None:
    """Prevents a record under way that stops the worker, or loses its value, as the column was renamed or dropped meanwhile."""
    db.do("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int)", "INSERT INTO t VALUES (1, 1, 1, 1)")
    db.rules("t")
    db.do("ALTER TABLE t RENAME a TO a1", "ALTER TABLE t RENAME b TO b1", "ALTER TABLE t DROP c")
    db.rules("t")
    db.arrive(
        ("t", "1", "update", {"a": "5", "c": "5"}), ("t", "2", "insert", {"id": "2", "a": None, "b": "6", "c": "6"})
    )
    db.arrive(("t", "1", "update", {"b1": "7"}))
    assert db.rows("t") == [(1, 5, 7), (2, None, 6)]


def test_a_key_of_several_columns(db: Database) -> None:
    """Prevents a row that is looked for by its key in another order, and an update that empties a column named like a mark."""
    db.do(
        'CREATE TABLE t (b text, a int, "x%s" int, PRIMARY KEY (a, b))', "INSERT INTO t VALUES ('q', 1, 5), ('1', 2, 5)"
    )
    db.rules("t")
    db.arrive(
        ("t", ["1", "q"], "update", {"x%s": "6"}),
        ("t", ["2", "1"], "delete"),
        ("t", ["3", 'w"'], "insert", {"a": "3", "b": 'w"', "x%s": "1"}),
    )
    assert db.rows("t") == [("q", 1, 6), ('w"', 3, 1)]


def test_a_table_of_its_key_alone(db: Database) -> None:
    """Prevents an UPDATE that sets nothing: a syntax error as the functions are made."""
    db.do("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))", "INSERT INTO t VALUES (1, 1)")
    db.rules("t")
    db.arrive(("t", ["1", "1"], "insert", {"a": "1", "b": "1"}), ("t", ["1", "2"], "insert", {"a": "1", "b": "2"}))
    assert db.rows("SELECT * FROM t ORDER BY 1, 2") == [(1, 1), (1, 2)]


#: A row of the same key comes up between the look and the INSERT, once, as from another session.
MEANWHILE = (
    "CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.a = 9 AND nextval('public.tries') = 1 THEN INSERT INTO public.t (id, a, w) VALUES (NEW.id, 0, 'theirs'); END IF; RETURN NEW; END $$",
    "CREATE SEQUENCE tries",
    "CREATE TRIGGER m BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION meanwhile()",
    "ALTER TABLE t ENABLE ALWAYS TRIGGER m",
)


@pytest.mark.parametrize("more", ["", ", UNIQUE (a)", ", UNIQUE (a) DEFERRABLE", ", UNIQUE (id, w) DEFERRABLE"])
def test_a_key_that_somebody_inserts_meanwhile(db: Database, more: str) -> None:
    """Prevents a worker that stops at a key which is there since a moment ago: the record is laid over that row."""
    db.do(f"CREATE TABLE t (id int PRIMARY KEY, a int, w text{more})", *MEANWHILE)
    db.rules("t")
    db.arrive(("t", "1", "insert", {"id": "1", "a": "9", "w": "w"}))
    assert db.rows("t") == [(1, 9, "w")]


@pytest.mark.parametrize(
    "keys",
    [
        "id int PRIMARY KEY DEFERRABLE",
        "id int PRIMARY KEY, UNIQUE (id) DEFERRABLE",
        "id int PRIMARY KEY, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED, UNIQUE (v)",
    ],
)
def test_what_is_checked_late_is_no_arbiter(db: Database, keys: str) -> None:
    """Prevents ON CONFLICT on what is checked late, which PostgreSQL refuses."""
    db.do(f"CREATE TABLE t (v int, {keys})", "INSERT INTO t VALUES (1, 1)")
    db.rules("t")
    db.arrive(("t", "2", "insert", {"id": "2", "v": "2"}), ("t", "1", "insert", {"id": "1", "v": "3"}))
    assert db.rows("t") == [(2, 2), (3, 1)]


def test_keys_that_are_equal_and_not_the_same(db: Database) -> None:
    """Prevents 1.00 beside 1.0, which no row can stand beside: by length first, the smaller key stays."""
    db.do("CREATE TABLE t (n numeric PRIMARY KEY, v text)", "INSERT INTO t VALUES (1.00, 'here'), (2.0, 'here')")
    db.rules("t")
    db.arrive(("t", "1.0", "insert", {"n": "1.0", "v": "there"}), ("t", "2.00", "insert", {"n": "2.00", "v": "there"}))
    assert db.rows("SELECT n::text, v FROM t ORDER BY n") == [("1.0", "there"), ("2.0", "here")]
    assert db.told() == [("t", ["1.00"], "unique claim", {"n": 1.0, "v": "here"})]
    assert db.sent() == [
        ("t", ["1.00"], "delete", {}, "unique claim"),
        ("t", ["2.00"], "delete", {}, "unique claim"),
    ]


def test_an_identity_that_is_always_generated(db: Database) -> None:
    """Prevents an UPDATE that PostgreSQL refuses: such a column takes a value by an INSERT alone; one that is by default may be set."""
    db.do(
        "CREATE TABLE t (id int PRIMARY KEY, al int GENERATED ALWAYS AS IDENTITY, de int GENERATED BY DEFAULT AS IDENTITY, v text)",
        "INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b')",
    )
    db.rules("t")
    db.arrive(
        ("t", "1", "update", {"v": "c", "de": "7"}),
        ("t", "2", "update", {"al": "9"}),
        ("t", "3", "insert", {"id": "3", "al": "8", "de": "8", "v": None}),
    )
    assert db.rows("t") == [(1, 1, 7, "c"), (2, 9, 2, "b"), (3, 8, 8, None)]
    db.arrive(("t", "2", "update", {"al": "10", "v": None}))
    assert db.rows("SELECT * FROM t WHERE id = 2") == [(2, 10, 2, None)]


@pytest.mark.parametrize("identity", ["", ", al int GENERATED ALWAYS AS IDENTITY"])
def test_a_key_that_is_always_generated(db: Database, identity: str) -> None:
    """Prevents a row that is made anew, or an UPDATE that is refused, as the key is an identity."""
    db.do(
        f"CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text{identity})",
        "INSERT INTO t (v) VALUES ('a')",
    )
    db.rules("t")
    db.arrive(
        ("t", "1", "update", {"v": "b"}),
        ("t", "5", "insert", {"id": "5", "v": "c", **({"al": "4"} if identity else {})}),
    )
    assert db.rows("SELECT id, v FROM t ORDER BY id") == [(1, "b"), (5, "c")]


def test_values_of_a_domain(db: Database) -> None:
    """Prevents a NULL that stops the worker: it gets past a domain that is NOT NULL where a column may hold it."""
    db.do(
        "CREATE DOMAIN given AS int NOT NULL CHECK (VALUE > 0)",
        "CREATE TABLE t (id int PRIMARY KEY, d given, v text UNIQUE)",
        "INSERT INTO t VALUES (1, 1, 'a')",
    )
    db.rules("t")
    db.arrive(("t", "1", "update", {"d": "5"}), ("t", "2", "insert", {"id": "2", "d": None, "v": "b"}))
    assert db.rows("t") == [(1, 5, "a"), (2, None, "b")]


CLAIMED = "CREATE TABLE t (id int PRIMARY KEY, a int, b text, g text GENERATED ALWAYS AS (b || a) STORED, note text{})"
OF_ROW = "CREATE FUNCTION ab(r t) RETURNS text LANGUAGE sql IMMUTABLE RETURN r.b || r.a"
#: How rows claim what only one may hold: in the table, after it, and whether it is checked late.
CLAIMS = {
    "column": (", UNIQUE (a)", ""),
    "second of two": (", UNIQUE (id, note), UNIQUE (a, b)", ""),
    "computed": ("", "CREATE UNIQUE INDEX ON t (lower(b), a) WHERE note IS NOT NULL"),
    "generated": (", UNIQUE (g)", ""),
    "exclusion": (", EXCLUDE USING gist (int4range(a, a + 5) WITH &&)", ""),
    "late": (", UNIQUE (a, b) DEFERRABLE INITIALLY DEFERRED", ""),
    "late, of a generated one": (", UNIQUE (g) DEFERRABLE", ""),
    "whole row": ("", f"{OF_ROW}; CREATE UNIQUE INDEX ON t (ab(t))"),
    "late, of the whole row": ("", f"{OF_ROW}; ALTER TABLE t ADD EXCLUDE (ab(t) WITH =) DEFERRABLE"),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_rows_that_claim_the_same(db: Database, claim: tuple[str, str]) -> None:
    """Prevents two rows that cannot stand side by side, or that both go: the smaller key stays, and the other side is told to let go."""
    inside, after = claim
    db.do(
        CLAIMED.format(inside),
        *([after] if after else []),
        "INSERT INTO t VALUES (10, 20, 'x', DEFAULT, 'n'), (20, 40, 'y', DEFAULT, 'n')",
    )
    db.rules("t")
    values = {"b": "x", "note": "there"}
    # Below the rival: the one that is here goes, and is told whole.
    db.arrive(("t", "9", "insert", {"id": "9", "a": "20", **values}))
    assert db.rows("t") == [(9, 20, "x", "x20", "there"), (20, 40, "y", "y40", "n")]
    assert db.told() == [("t", ["10"], "unique claim", {"id": 10, "a": 20, "b": "x", "g": "x20", "note": "n"})]
    assert db.sent() == [("t", ["10"], "delete", {}, "unique claim")]
    # Above it: the one that arrived goes, which is told where it was at home.
    db.arrive(("t", "100", "insert", {"id": "100", "a": "20", **values}))
    assert db.sent() == [("t", ["100"], "delete", {}, "unique claim")]
    # By an update of a part, on what else the row holds; and one that claims nothing.
    db.arrive(("t", "20", "update", {"b": "x"}), ("t", "20", "update", {"a": "60", "note": "free"}))
    assert db.sent() == []
    db.arrive(("t", "20", "update", {"a": "20"}))
    assert db.rows("t") == [(9, 20, "x", "x20", "there")]
    assert len(db.told()) == 1
    assert db.sent() == [("t", ["20"], "delete", {}, "unique claim")]


def test_late_claims_are_looked_at_where_their_columns_are_written(db: Database) -> None:
    """Prevents a look at every record, and none at the one that matters: what an index only includes or computes from counts too."""
    db.do(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, p int, UNIQUE (a) DEFERRABLE)",
        "CREATE TABLE u (id int PRIMARY KEY, a int, p int REFERENCES t)",
    )
    db.rules("t", "u")
    ((trigger,),) = db.rows(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'task_migration_arrived' AND tgrelid = 'task_migration.source_writes'::regclass"
    )
    assert "?| ARRAY['a'::text, 'p'::text]" in trigger
    # A late claim alone makes a table looked at.
    db.arrive(("t", "1", "insert", {"id": "1", "a": "1", "b": None, "c": None, "p": None}))
    db.arrive(("t", "2", "insert", {"id": "2", "a": "1", "b": None, "c": None, "p": None}))
    assert db.rows("SELECT id FROM t") == [(1,)]


PARENT = "CREATE TABLE p (id int PRIMARY KEY, code text UNIQUE, k int)"
CHILD = "CREATE TABLE c (id int PRIMARY KEY, p int {}, v int {})"
#: Of a child: its column, its key and whatever else it holds; then what is left of it, what is told, and what goes back.
WHOLE = {"id": "1", "p": "1", "v": "5"}
GONE: tuple[Any, ...] = ("c", ["1"], "delete", {}, "cascade")
FATES: dict[str, tuple[str, str, list[tuple[Any, ...]], list[Any]]] = {
    "cascade": ("REFERENCES p ON DELETE CASCADE", "", [], [GONE]),
    "no action": ("REFERENCES p", "", [], [GONE]),
    "restrict": ("REFERENCES p ON DELETE RESTRICT", "", [], [GONE]),
    "set null": ("REFERENCES p ON DELETE SET NULL", "", [(1, None, 5)], [("c", ["1"], "update", {"p": None}, "cascade")]),
    "set null, refused": ("NOT NULL REFERENCES p ON DELETE SET NULL", "", [], [GONE]),
    "set null, refused by a check": ("REFERENCES p ON DELETE SET NULL", "CHECK (p IS NOT NULL OR v < 5)", [], [GONE]),
    "set null, allowed by a check": (
        "REFERENCES p ON DELETE SET NULL",
        "CHECK (p IS NOT NULL OR v < 6)",
        [(1, None, 5)],
        [("c", ["1"], "update", {"p": None, "v": "5"}, "cascade")],
    ),
    "set default": ("DEFAULT 2 REFERENCES p ON DELETE SET DEFAULT", "", [(1, 2, 5)], [("c", ["1"], "update", {"p": "2"}, "cascade")]),
    "set default, nowhere": ("DEFAULT 9 REFERENCES p ON DELETE SET DEFAULT", "", [], [GONE]),
    "set default, none": ("REFERENCES p ON DELETE SET DEFAULT", "", [(1, None, 5)], [("c", ["1"], "update", {"p": None}, "cascade")]),
}  # fmt: skip


@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
@pytest.mark.parametrize("side", ["source", "target"])
def test_children_of_a_row_that_goes(db: Database, fate: tuple[Any, ...], side: Side) -> None:
    """Prevents an orphan, a child that goes though its key would have let go, and one that goes with another's parent."""
    column, more, left, sent = fate
    db.do(
        PARENT,
        CHILD.format(column, more),
        "INSERT INTO p VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO c VALUES (1, 1, 5), (2, 2, 6)",
    )
    db.rules("p", "c", side=side)
    db.arrive(("p", "1", "delete", {"code": "a"}))
    assert db.rows("SELECT id FROM p") == [(2,)]
    assert db.rows("c") == [*left, (2, 2, 6)]
    assert db.sent() == sent
    assert db.told() == [], "as if the application had deleted"


@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
def test_a_row_whose_parent_is_gone(db: Database, fate: tuple[Any, ...]) -> None:
    """Prevents a row that refers to nothing, and one whose loss nobody is told of."""
    column, more, left, _ = fate
    db.do(PARENT, CHILD.format(column, more), "INSERT INTO p VALUES (1), (2)")
    db.rules("p", "c")
    db.do("DELETE FROM p WHERE id = 1")
    db.sent()
    db.arrive(("c", "1", "insert", WHOLE), ("c", "2", "insert", {"id": "2", "p": "2", "v": "6"}))
    assert db.rows("c") == [*left, (2, 2, 6)]
    assert db.told() == [("c", ["1"], "parent gone", {"p": "1"} if left else WHOLE)]
    ((table, key, kind, values, cause),) = db.sent()
    assert (table, key, kind, cause) == ("c", ["1"], "update" if left else "delete", "parent gone")
    assert values == (
        {} if not left else {"p": None if left[0][1] is None else str(left[0][1]), **({"v": "5"} if more else {})}
    )


def test_an_update_of_what_another_table_s_key_is_called_by_takes_no_row_away(db: Database) -> None:
    """Prevents the loss of a row whose parent never was there, when a column is written that only another table looks at."""
    db.do(
        PARENT,
        "CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, other int)",
        "CREATE TABLE d (id int PRIMARY KEY, other int REFERENCES p)",
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO c VALUES (1, 9, 1)",
        "SET LOCAL session_replication_role = origin",
    )
    db.rules("p", "c", "d")
    db.arrive(("c", "1", "update", {"other": "2"}))
    assert db.rows("c") == [(1, 9, 2)]
    assert db.told() == []


def test_an_update_that_leads_to_a_parent_that_is_gone(db: Database) -> None:
    """Prevents a part of a row in the log where all of it is lost; an update of another column is not looked at."""
    db.do(
        PARENT,
        CHILD.format("REFERENCES p", ""),
        "INSERT INTO p VALUES (2)",
        "INSERT INTO c VALUES (1, 2, 5), (3, 2, 5)",
    )
    db.rules("p", "c")
    db.arrive(("c", "1", "update", {"p": "9"}), ("c", "3", "update", {"v": "9"}))
    assert db.rows("c") == [(3, 2, 9)]
    assert db.told() == [("c", ["1"], "parent gone", {"id": "1", "p": "9", "v": "5"})]


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE"])
def test_a_parent_that_comes_in_the_same_transaction(db: Database, action: str) -> None:
    """Prevents a child that goes as its parent comes after it, and one that goes with a parent that is there again."""
    db.do(
        PARENT,
        CHILD.format(f"REFERENCES p (id) ON DELETE {action}", ""),
        "INSERT INTO p VALUES (1)",
        "INSERT INTO c VALUES (1, 1, 5)",
    )
    db.rules("p", "c")
    db.arrive(
        ("p", "1", "delete", {"code": None}),
        ("c", "2", "insert", {"id": "2", "p": "3", "v": "6"}),
        ("p", "3", "insert", {"id": "3", "code": None, "k": None}),
        ("p", "1", "insert", {"id": "1", "code": None, "k": None}),
    )
    assert db.rows("c") == [(1, 1, 5), (2, 3, 6)]
    assert (db.told(), db.sent()) == ([], [])


def test_children_by_columns_outside_the_key(db: Database) -> None:
    """Prevents a child that is looked for by the parent's key, though it refers to another column of it; a new parent of that value keeps it."""
    db.do(
        PARENT,
        "CREATE TABLE c (id int PRIMARY KEY, code text REFERENCES p (code) ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "INSERT INTO c VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    db.rules("p", "c")
    db.arrive(
        ("p", "1", "delete", {"code": "a"}),
        ("p", "2", "delete", {"code": "b"}),
        ("p", "4", "insert", {"id": "4", "code": "b", "k": None}),
    )
    assert db.rows("c") == [(2, "b"), (3, "c")]
    # Taken away by a claim: what children refer to is known here, and they go before the row that claims it has come.
    db.sent()
    db.do("INSERT INTO p VALUES (20, 'x')", "INSERT INTO c VALUES (9, 'x')")
    db.arrive(("p", "19", "insert", {"id": "19", "code": "x", "k": None}))
    assert db.rows("SELECT id FROM c") == [(2,), (3,)]
    assert db.sent()[2:] == [
        ("p", ["20"], "delete", {"code": "x"}, "unique claim"),
        ("c", ["9"], "delete", {}, "cascade"),
    ]


@pytest.mark.parametrize("side", ["source", "target"])
def test_children_of_a_row_that_a_claim_takes_away(db: Database, side: Side) -> None:
    """Prevents children that vanish unasked and untold, or told on both sides."""
    db.do(
        PARENT,
        CHILD.format("REFERENCES p ON DELETE CASCADE", ""),
        "INSERT INTO p VALUES (20, 'x')",
        "INSERT INTO c VALUES (1, 20, 5)",
    )
    db.rules("p", "c", side=side)
    db.arrive(("p", "19", "insert", {"id": "19", "code": "x", "k": None}))
    assert db.rows("SELECT id FROM p") == [(19,)]
    assert db.rows("c") == []
    parent = ("p", ["20"], "unique claim", {"id": 20, "code": "x", "k": None})
    child = ("c", ["1"], "unique claim", {"id": 1, "p": 20, "v": 5})
    assert db.told() == ([parent, child] if side == "source" else [parent])
    assert db.sent() == [
        ("p", ["20"], "delete", {}, "unique claim"),
        ("c", ["1"], "delete", {}, "unique claim" if side == "source" else "cascade"),
    ]


def test_a_chain_of_tables(db: Database) -> None:
    """Prevents a grandchild that stays, and one whose loss with a parent that is gone nobody is told of."""
    db.do(
        "CREATE TABLE p (id int PRIMARY KEY)",
        "CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p)",
        "CREATE TABLE d (id int PRIMARY KEY, c int REFERENCES c ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1)",
        "INSERT INTO c VALUES (1, 1), (2, 1)",
        "INSERT INTO d VALUES (1, 1), (2, 2)",
    )
    db.rules("p", "c", "d")
    db.arrive(("c", "1", "update", {"p": "9"}))
    assert (db.rows("c"), db.rows("d")) == ([(2, 1)], [(2, 2)])
    assert db.told() == [
        ("c", ["1"], "parent gone", {"id": "1", "p": "9"}),
        ("d", ["1"], "parent gone", {"id": 1, "c": 1}),
    ]
    db.arrive(("p", "1", "delete"))
    assert (db.rows("c"), db.rows("d")) == ([], [])
    assert len(db.told()) == 2


def test_keys_of_several_columns(db: Database) -> None:
    """Prevents a child that is found by one of the columns, or by them in another order; and more that is set than the key says."""
    db.do(
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b))",
        "CREATE TABLE c (id int PRIMARY KEY, x int NOT NULL, y int, FOREIGN KEY (y, x) REFERENCES p (b, a) ON DELETE SET NULL (y))",
        "INSERT INTO p VALUES (1, 2), (2, 1), (1, 1)",
        "INSERT INTO c VALUES (1, 1, 2), (2, 2, 1), (3, 1, 1), (4, 1, NULL)",
    )
    db.rules("p", "c")
    db.arrive(("p", ["1", "2"], "delete"))
    assert db.rows("c") == [(1, 1, None), (2, 2, 1), (3, 1, 1), (4, 1, None)]
    assert db.sent() == [("c", ["1"], "update", {"x": "1", "y": None}, "cascade")]
    db.arrive(
        ("c", "5", "insert", {"id": "5", "x": "1", "y": "2"}), ("c", "6", "insert", {"id": "6", "x": "7", "y": None})
    )
    assert db.rows("SELECT * FROM c WHERE id > 4 ORDER BY id") == [(5, 1, None), (6, 7, None)]
    assert db.told() == [("c", ["5"], "parent gone", {"y": "2"})]


@pytest.mark.parametrize(
    ("action", "left"),
    [
        ("CASCADE", [(2, 2)]),
        ("SET NULL", [(1, None), (2, 2)]),
        ("SET DEFAULT", [(1, 2), (2, 2)]),
        ("NO ACTION", [(1, 1), (2, 2)]),
        ("RESTRICT", [(1, 1), (2, 2)]),
    ],
)
@pytest.mark.parametrize("outside", ["public.o", "elsewhere.c"])
def test_children_that_stay_behind(db: Database, action: str, left: list[tuple[Any, ...]], outside: str) -> None:
    """Prevents an orphan in a table that does not move, one of a moved one's name in another schema among them; its triggers fire."""
    db.do(
        PARENT,
        "CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p)",
        "CREATE SCHEMA elsewhere",
        f"CREATE TABLE {outside} (id int PRIMARY KEY, p int DEFAULT 2 REFERENCES p ON DELETE {action})",
        "CREATE TABLE fired (id int)",
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (OLD.id); RETURN NULL; END $$",
        f"CREATE TRIGGER f AFTER DELETE OR UPDATE ON {outside} FOR EACH ROW EXECUTE FUNCTION fire()",
        "INSERT INTO p VALUES (1), (2)",
        f"INSERT INTO {outside} VALUES (1, 1), (2, 2)",
    )
    db.rules("p", "c")
    db.arrive(("p", "1", "delete", {"code": None}))
    assert db.rows("SELECT id FROM p") == [(2,)]
    assert db.rows(outside) == left
    assert db.rows("fired") == ([] if (1, 1) in left else [(1,)])
    assert db.sent() == []


def test_a_key_that_is_not_valid(db: Database) -> None:
    """Prevents rows that go as they always referred to nothing; where the parent went here they do."""
    db.do(
        PARENT,
        "CREATE TABLE c (id int PRIMARY KEY, p int, code text)",
        "INSERT INTO p VALUES (1, 'a'), (2, 'b')",
        "ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID, ADD FOREIGN KEY (code) REFERENCES p (code) NOT VALID",
    )
    db.rules("p", "c")
    db.do("DELETE FROM p WHERE id = 1")
    db.arrive(
        ("c", "1", "insert", {"id": "1", "p": "9", "code": "z"}),
        ("c", "2", "insert", {"id": "2", "p": "1", "code": None}),
        ("c", "3", "insert", {"id": "3", "p": None, "code": "a"}),
        ("c", "4", "insert", {"id": "4", "p": "2", "code": "b"}),
    )
    assert db.rows("c") == [(1, 9, "z"), (4, 2, "b")]
    assert [(key, kind) for _, key, kind, _ in db.told()] == [(["2"], "parent gone"), (["3"], "parent gone")]


def test_a_key_of_several_columns_that_is_not_valid(db: Database) -> None:
    """Prevents a deleted parent that is looked for by its columns in the referring key's order."""
    db.do(
        "CREATE TABLE p (a int, b int, x int, y int, PRIMARY KEY (a, b), UNIQUE (x, y))",
        "CREATE TABLE c (id int PRIMARY KEY, k int, m int)",
        "CREATE TABLE d (id int PRIMARY KEY, k int, m int)",
        "INSERT INTO p VALUES (1, 2, 3, 4)",
        "ALTER TABLE c ADD FOREIGN KEY (k, m) REFERENCES p (b, a) NOT VALID",
        "ALTER TABLE d ADD FOREIGN KEY (k, m) REFERENCES p (y, x) NOT VALID",
    )
    db.rules("p", "c", "d")
    db.do("DELETE FROM p")
    for table, there, other_way in (("c", ("2", "1"), ("1", "2")), ("d", ("4", "3"), ("3", "4"))):
        db.arrive(
            *(
                (table, str(n), "insert", {"id": str(n), "k": k, "m": m})
                for n, (k, m) in enumerate((there, other_way, (there[0], "9")))
            )
        )
        assert db.rows(f"SELECT id FROM {table} ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("outside", ["public.o", "elsewhere.c"])
def test_a_key_that_is_not_valid_to_a_table_that_stays_behind(db: Database, outside: str) -> None:
    """Prevents rows that go as a parent is missing of which no record says that it ever went."""
    db.do(
        "CREATE SCHEMA elsewhere",
        f"CREATE TABLE {outside} (id int PRIMARY KEY)",
        "CREATE TABLE c (id int PRIMARY KEY, p int, q int)",
        f"ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES {outside} NOT VALID",
        "INSERT INTO c VALUES (5)",
    )
    db.rules("c")
    db.do("DELETE FROM c")
    db.arrive(("c", "1", "insert", {"id": "1", "p": "5", "q": None}))
    assert db.rows("c") == [(1, 5, None)]


def test_a_row_that_refers_to_its_own_table(db: Database) -> None:
    """Prevents a chain of which only the first goes."""
    db.do(
        "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE CASCADE)",
        "INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)",
    )
    db.rules("t")
    db.arrive(("t", "1", "delete"))
    assert db.rows("t") == [(4, None)]
    assert [(key, cause) for _, key, _, _, cause in db.sent()] == [(["2"], "cascade"), (["3"], "cascade")]


def test_a_full_match(db: Database) -> None:
    """Prevents a row with a part of a reference, which MATCH FULL does not allow."""
    db.do(
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b))",
        "CREATE TABLE c (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES p MATCH FULL)",
    )
    db.rules("p", "c")
    db.arrive(
        ("c", "1", "insert", {"id": "1", "x": "1", "y": None}), ("c", "2", "insert", {"id": "2", "x": None, "y": None})
    )
    assert db.rows("c") == [(2, None, None)]


def test_a_reference_that_is_computed(db: Database) -> None:
    """Prevents a row whose computed reference leads nowhere: no record holds such a column, what it is computed from is looked at."""
    db.do(
        "CREATE TABLE p (id int PRIMARY KEY)",
        "CREATE TABLE c (id int PRIMARY KEY, v int, p int GENERATED ALWAYS AS (v + 1) STORED REFERENCES p)",
        "INSERT INTO p VALUES (1), (2)",
        "INSERT INTO c VALUES (1, 0), (2, 0)",
    )
    db.rules("p", "c")
    db.arrive(("c", "1", "update", {"v": "1"}), ("c", "2", "update", {"v": "2"}))
    assert db.rows("c") == [(1, 1, 2)]
    assert db.told() == [("c", ["2"], "parent gone", {"id": "2", "v": "2"})]


def test_settings_of_what_applies(db: Database) -> None:
    """Prevents a deadlock in which the application gives way, and another's view that is read in a table's place."""
    db.do("CREATE TABLE t (id int PRIMARY KEY)")
    db.rules("t")
    for name in ("arrive", "arrived"):
        ((config,),) = db.rows(f"SELECT proconfig FROM pg_proc WHERE oid = 'task_migration.{name}'::regproc")
        assert {"deadlock_timeout=50ms", "restrict_nonsystem_relation_kind=view, foreign-table"} <= set(config)
    # Where a role may not set the one and the server does not know the other.
    found = relations.of(catalog.read(db.connection, "public", ["t"], "target"), [])
    for statement in apply.shared({}, found, "target", False, ""):
        db.connection.execute(statement)
    ((config,),) = db.rows("SELECT proconfig FROM pg_proc WHERE oid = 'task_migration.arrive'::regproc")
    assert {one.partition("=")[0] for one in config} & {"deadlock_timeout", "restrict_nonsystem_relation_kind"} == set()
