"""A name of the configuration is one that PostgreSQL has, whole and as it is written; and what stands on somebody's tables stays."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from components.config import MigrationConfig
from components.config_values import parse
from scripts.database import end_mark
from scripts.database.connections import Connection
from scripts.embedded.postgres_server import EmbeddedPostgres
from tests.foreign import read

ONE_SERVER = settings(max_examples=60)
#: What is made of a key's name; of those that name a table's object, what a server has it for.
KINDS = {"tables": "TABLE pg_temp.{} ()", "schema": "SCHEMA {}"} | dict.fromkeys(
    ("sourceRole", "targetRole", "replicationRole", "operatorRole"), "ROLE {}"
)
_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=24) | st.sampled_from(
    ["public", "none", "pg_x", "PG_x", "current_user", "a.b", 'a"b', "%s", "{}", "é" * 31, "é" * 32, "x" * 63, "x" * 64, "\0", "select", "Task", "\n", " "]
)  # fmt: skip


@pytest.fixture(scope="module")
def connection(source_server: EmbeddedPostgres) -> Iterator[Connection]:
    with psycopg.connect(source_server.url("postgres")) as connection:
        yield connection


@ONE_SERVER
@given(st.sampled_from(sorted(KINDS)), _NAMES)
@example("targetRole", "public")
@example("sourceRole", "é" * 32)
def test_a_name_is_taken_where_postgresql_has_it_as_it_is_written(connection: Connection, key: str, name: str) -> None:
    """Prevents a role of 40 letters, of which PostgreSQL keeps 31 and finds none, and rights that are granted to everybody."""
    found, refused = read(lambda: parse(MigrationConfig, {key: [name] if key == "tables" else name}))
    if name == "" and key != "tables":
        assert found is not None  # not set
        return
    try:
        connection.execute(sql.SQL("CREATE " + KINDS[key]).format(sql.Identifier(name)))
        (whole,) = connection.execute("SELECT (%s::text)::name::text = %s", (name, name)).fetchone() or (False,)
    except psycopg.errors.DuplicateSchema:
        whole = True
    except psycopg.Error:
        whole = False
    connection.rollback()
    assert (found is not None) == whole, refused
    if found is None:
        assert f"{key}: value " in refused
        assert "is no identifier: 1 to 63 bytes; correct the name" in refused or "keeps this name for itself" in refused


_LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), max_size=4)


@ONE_SERVER
@given(_LINES.map("\n".join))
@example("of the team\n\n  it says more\n")
def test_a_tables_own_comment_outlives_a_finalize_and_the_way_back(connection: Connection, comment: str) -> None:
    """Prevents empty lines that are gone from what a team wrote on its table."""
    config = MigrationConfig(tables=("noted",))
    connection.execute("CREATE TABLE noted ()")
    connection.execute(sql.SQL("COMMENT ON TABLE noted IS {}").format(sql.Literal(comment or None)))

    def said() -> str | None:
        row = connection.execute("SELECT obj_description('noted'::regclass)").fetchone()
        return row[0] if row else None

    end_mark.put(connection, config, "2026-11-27 by the plan")
    assert end_mark.found(connection, config) == "2026-11-27 by the plan"
    end_mark.put(connection, config, "2026-11-28 by the plan")
    assert (said() or "").count(end_mark.MARK) == 1
    end_mark.put(connection, config, None)
    assert (said(), end_mark.found(connection, config)) == (comment or None, None)
    connection.rollback()
