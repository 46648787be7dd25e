"""What is told of errors: names, never values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts import __main__ as entry_point
from scripts.database import error_text
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support.settings import PROJECT_ROOT

PUPIL = "Hanako Yamada"
SCHEMA = """
CREATE SCHEMA class;
CREATE TABLE class.pupils (id int PRIMARY KEY, name text NOT NULL CHECK (name !~ 'Yamada'), born date, score varchar(5));
CREATE TABLE class.marks (id int REFERENCES class.pupils);
CREATE TABLE class.names (name text UNIQUE);
INSERT INTO class.names VALUES ('Hanako Yamada');
CREATE DOMAIN class.short AS text CHECK (length(value) < 5);
CREATE FUNCTION class.angry(name text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% is no pupil', name USING ERRCODE = 'check_violation', HINT = name, DETAIL = name; END $$;
CREATE FUNCTION class.wrong(name text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN name::int; END $$;
CREATE SCHEMA task_migration;
CREATE FUNCTION task_migration.ours(_table text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'TRUNCATE of % is refused', _table; END $$;
"""


@pytest.fixture(scope="module")
def server(source_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A database of these tables."""
    source_server.start()
    source_server.execute("CREATE DATABASE error_text")
    with psycopg.connect(source_server.url("error_text"), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        yield connection
    source_server.execute("DROP DATABASE error_text WITH (FORCE)")


#: What a statement fails with, and what is told of it; each quotes the pupil in its message, DETAIL, HINT or CONTEXT.
FAILURES = {
    "unique": ("INSERT INTO class.names VALUES ('Hanako Yamada')", 'unique constraint "names_name_key" (SQLSTATE 23505)'),
    "check": ("INSERT INTO class.pupils VALUES (1, 'Hanako Yamada')", 'check constraint "pupils_name_check"'),
    "not null": ("INSERT INTO class.pupils VALUES (1, NULL, NULL, 'Hanak')", 'null value in column "name"'),
    "text for a number": ("SELECT 'Hanako Yamada'::int", "invalid input syntax for type integer (more is left out"),
    "text for a date": ("SELECT 'Hanako Yamada'::date", "invalid input syntax for type date"),
    "a date out of range": ("SELECT '2015-02-31'::date", "DatetimeFieldOverflow: date/time field value out of range ("),
    "a number out of range": ("SELECT '99999999999'::int", "NumericValueOutOfRange: value ("),
    "bytes": (r"SELECT convert_from('\x48616e616b6fff', 'UTF8')", "invalid byte sequence for encoding ("),
    "json": ("""SELECT '{"name": Hanako Yamada}'::json""", "invalid input syntax for type json"),
    "a regular expression": ("SELECT 'x' ~ 'Hanako Yamada('", "invalid regular expression"),
    "a foreign function's words": ("SELECT class.angry('Hanako Yamada')", "CheckViolation: raised by class.angry(text) (more is left out"),
    "in a foreign function": ("SELECT class.wrong('Hanako Yamada')", "invalid input syntax for type integer (more"),
    "a function of ours": ("SELECT task_migration.ours('tasks')", "TRUNCATE of tasks is refused (SQLSTATE P0001)"),
    "too long": ("INSERT INTO class.pupils VALUES (1, 'x', NULL, 'Hanako Yamada')", "too long for type character varying(5) (SQLSTATE 22001)"),
    "domain": ("SELECT 'Hanako Yamada'::class.short", 'value for domain class.short violates check constraint'),
    "what is not there": ("SELECT 1 FROM class.nobody", 'relation "class.nobody" does not exist (SQLSTATE 42P01)'),
    "division": ("SELECT 1 / 0", "division by zero (SQLSTATE 22012)"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_names_are_told_and_values_are_not(name: str, server: psycopg.Connection[tuple[object, ...]]) -> None:
    """Prevents a pupil's name in what a command prints, whichever part of an error PostgreSQL puts it into."""
    statement, expected = FAILURES[name]
    with pytest.raises(psycopg.Error) as caught:
        server.execute(statement.encode())
    told = error_text.told(caught.value)
    assert expected in told
    assert not [word for word in ("Hanak", "Yamada", "2015", "9999", "48616e") if word in told]
    error_text.show_values(True)
    assert str(caught.value).strip() in error_text.told(caught.value)


def test_copy_quotes_the_line_it_read(server: psycopg.Connection[tuple[object, ...]]) -> None:
    """Prevents the CONTEXT of a COPY, which is the failing line itself."""
    with pytest.raises(psycopg.Error) as caught, server.cursor().copy("COPY class.pupils FROM STDIN") as copy:
        copy.write(b"Hanako Yamada\tx\t\\N\t\\N\n")
    assert 'column id: "Hanako Yamada"' in str(caught.value)
    assert error_text.told(caught.value) == (
        "InvalidTextRepresentation: invalid input syntax for type integer (more is left out, as it may quote the row: see --show-values) "
        "(SQLSTATE 22P02)"
    )


def test_a_value_that_psycopg_cannot_read_is_not_quoted(server: psycopg.Connection[tuple[object, ...]]) -> None:
    """Prevents the values that psycopg's own errors quote."""
    with pytest.raises(psycopg.DataError) as caught:
        server.execute("SELECT 'infinity'::date").fetchone()
    assert error_text.told(caught.value) == f"DataError: date too large (after year 10K) {error_text.LEFT_OUT}"


def test_a_traceback_holds_no_row(server: psycopg.Connection[tuple[object, ...]]) -> None:
    """Prevents a crash that prints the error it came of with its DETAIL."""
    with pytest.raises(psycopg.Error) as caught:
        server.execute("INSERT INTO class.names VALUES ('Hanako Yamada')")
    crash = KeyError("nothing of PostgreSQL")
    crash.__context__ = ExceptionGroup("two", [ValueError("x"), caught.value])
    error_text.scrub(crash)
    assert str(caught.value) == 'duplicate key value violates unique constraint "names_name_key" (SQLSTATE 23505)'


#: As pg_restore 16 and AWS DMS write them.
RESTORED = """pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3400; 0 16400 TABLE DATA tasks myteacher_app_user
pg_restore: error: COPY failed for table "tasks": ERROR:  invalid input syntax for type integer: "Hanako Yamada"
CONTEXT:  COPY tasks, line 1, column title: "Hanako Yamada"
"""


def test_pg_restore_is_quoted_up_to_the_row() -> None:
    """Prevents the failing line in what `backup` says and keeps in its manifest."""
    told = error_text.of_client(RESTORED, "pg_restore")
    assert told.splitlines()[-1] == (
        'pg_restore: error: COPY failed for table "tasks": ERROR:  invalid input syntax for type integer ' + error_text.LEFT_OUT
    )  # fmt: skip
    assert "TABLE DATA tasks" in told
    assert "Hanako" not in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/usr/bin/pg_restore: error while loading shared libraries: libpq.so.5: cannot open", None),
        ("pg_restore: error: could not open input file \"x\": No such file or directory", None),
        ('pg_restore: error: could not execute query: ERROR:  relation "tasks" already exists\nCommand was: CREATE TABLE', 'pg_restore: error: could not execute query: ERROR:  relation "tasks" already exists'),
        ('pg_restore: error: could not execute query: ERROR:  could not create unique index "u"\nDETAIL:  Key (name)=(Hanako) is duplicated.', 'pg_restore: error: could not execute query: ERROR:  could not create unique index "u"'),
        ("pg_restore: error: COPY failed for table \"t\": ERROR:  Hanako is no pupil", f'pg_restore: error: COPY failed for table "t": ERROR:  {error_text.LEFT_OUT}'),
        ("pg_restore: error: COPY failed for table \"t\": ERREUR:  syntaxe invalide : « Hanako »", f'pg_restore: error: COPY failed for table "t": ERREUR:  {error_text.LEFT_OUT}'),
        ("pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input value for enum mood: \"Hanako\ndoes not exist\"", f'pg_restore: error: COPY failed for table "t": ERROR:  invalid input value for enum mood {error_text.LEFT_OUT}'),
    ],
)  # fmt: skip
def test_lines_of_a_client(said: str, told: str | None) -> None:
    """Prevents values in other kinds of lines, and that the program's own words go with them."""
    assert error_text.of_client(said, "pg_restore") == (told or said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('RetCode: SQL_ERROR  SqlState: 22P02 NativeError: 1 Message: ERROR: invalid input syntax for type bigint: "Hanako"; Error while executing the query', f"RetCode: SQL_ERROR  SqlState: 22P02 NativeError: 1 Message: ERROR: invalid input syntax for type bigint {error_text.LEFT_OUT}"),
        ('duplicate key value violates unique constraint "u"\nDETAIL:  Key (name)=(Hanako) already exists.', 'duplicate key value violates unique constraint "u"'),
        ("Hanako is too young", error_text.LEFT_OUT),
        ("0 rows affected", "0 rows affected"),
    ],
)  # fmt: skip
def test_texts_of_dms(said: str, told: str) -> None:
    """Prevents a pupil's name out of `awsdms_apply_exceptions`."""
    assert error_text.passed_on(said, own=False) == told


def test_what_dms_says_of_a_task_stays() -> None:
    """Prevents that the reason of a stopped task is lost with what may quote a row."""
    said = "Last Error Replication slot 'x' does not exist. Stop Reason RECOVERABLE_ERROR"
    assert error_text.passed_on(said, own=True) == said
    assert "Hanako" not in error_text.passed_on('Last Error; Message: ERROR: date out of range: "Hanako"', own=True)


def test_the_entry_point_tells_no_row_of_an_error_that_nobody_caught(
    server: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a failing row on the screen where a step lets PostgreSQL's own error through."""

    class Command:
        def main(self, **_: object) -> None:
            server.execute("INSERT INTO class.names VALUES ('Hanako Yamada')")

    monkeypatch.setattr("typer.main.get_command", lambda app: Command())
    assert entry_point._run() == 1
    said = capsys.readouterr().err
    assert 'PostgreSQL: duplicate key value violates unique constraint "names_name_key" (SQLSTATE 23505)' in said
    assert "Hanako" not in said


def _quoting(path: Path) -> list[str]:
    """Handlers of PostgreSQL's errors that make text of one by itself."""
    found = []
    for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        if "psycopg" not in ast.unparse(handler.type):
            continue
        for node in ast.walk(handler):
            argument = (
                node.args[0] if isinstance(node, ast.Call) and ast.unparse(node.func) == "str" and node.args else None
            )
            value = node.value if isinstance(node, ast.FormattedValue) else argument
            if isinstance(value, ast.Name) and value.id == handler.name:
                found.append(f"{path.name}:{value.lineno}")
    return found


def test_nobody_else_makes_text_of_an_error_of_postgresql(tmp_path: Path) -> None:
    """Prevents the next handler that prints an error as it is, with the row in its DETAIL."""
    made_up = tmp_path / "made_up.py"
    made_up.write_text("try:\n    pass\nexcept psycopg.Error as error:\n    x = f'{error}' + str(error)\n")
    assert _quoting(made_up) == ["made_up.py:4", "made_up.py:4"]
    # Data that a rehearsal made up is nobody's, and a server that does not start has no row to tell of.
    apart = ("rehearsal", "embedded")
    modules = [path for path in (PROJECT_ROOT / "scripts").rglob("*.py") if not set(path.parts) & set(apart)]
    assert len(modules) > 80
    assert [place for path in modules for place in _quoting(path)] == []
