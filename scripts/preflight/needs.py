"""Preflight of what the tables use beside each other: functions, types, extensions, collations. What the target lacks is told as the SQL that
makes it, in an order in which it can be carried out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, queries
from scripts.database.catalog import Table, quoted
from scripts.database.connections import Connection
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.tables import named
from scripts.schema import choice
from scripts.support.order import in_order
from scripts.support.sides import Side

QUERIES = queries.load("scripts.preflight", "trials.sql")
#: Of each table so many rows are tried.
ROWS = 100
#: The check that must pass before the tables can be made.
USED = "both: what the tables use"


@dataclass(frozen=True)
class Need:
    """An object of the source.

    ``users`` are the tables' parts that use it directly, ``parts`` (table.name) those of them that may stay behind; ``needs`` are keys of what
    it needs itself, ``names`` of what the text of a function calls; ``definition`` is SQL, empty where it comes with what it needs, None where
    this program knows none."""

    key: str
    kind: str
    identity: str
    names_parts: tuple[str, ...]
    argument_parts: tuple[str, ...]
    extension: str | None
    users: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    definition: str | None = None

    @property
    def what(self) -> str:
        """In words, with what uses it."""
        used = f" ({', '.join(self.users)})" if self.users else ""
        return f"{self.kind} {self.identity}{used}"


def read(source: Connection, config: MigrationConfig, tables: Collection[Table]) -> dict[str, Need]:
    """All that the source's tables use, by key; not what only parts use that stay behind (`leaveBehind`)."""
    asked = {
        "oids": [table.oid for table in tables],
        "left": list(config.leave_behind),
        "carried": list(config.carry_triggers),
    }
    rows = source.execute(QUERIES["needs"], asked).fetchall()
    types = {
        (one.schema, one.name): one.definition
        for one in catalog.types_of(source, [row[0] for row in rows if row[2] == "type"])
    }
    made = {key: types[name] for name, key in _keys(source, types).items()}
    found = {}
    for _, key, kind, identity, names, arguments, extension, users, parts, needs, called, text in rows:
        address, uses = (tuple(names), tuple(arguments)), (tuple(users), tuple(parts), tuple(needs), tuple(called))
        found[key] = Need(key, kind, identity, *address, extension, *uses, made.get(key) or text)
    return found


def absent(connection: Connection, needs: Mapping[str, Need]) -> set[str]:
    """The keys of those that are not there on this side."""
    keys = set()
    for key, need in needs.items():
        address = need.kind, list(need.names_parts), list(need.argument_parts)
        try:
            with connection.transaction():
                connection.execute("SELECT pg_get_object_address(%s, %s, %s)", address)
        except psycopg.Error:
            keys.add(key)
    return keys


def hard(needs: Mapping[str, Need], roots: Iterable[str] | None = None) -> set[str]:
    """The keys of ``roots`` (those that the tables use) and all that they need: without them a statement fails that makes the tables. What the
    text of a function alone calls is not among them. Pure."""
    todo = [need.key for need in needs.values() if need.users] if roots is None else [*roots]
    seen = set[str]()
    while todo:
        key = todo.pop()
        if key in needs and key not in seen:
            seen.add(key)
            todo += needs[key].needs
    return seen


def ordered(needs: Mapping[str, Need], absent: Collection[str], wanted: Iterable[str]) -> list[Need]:
    """``wanted`` ones with all ``absent`` ones that they need, in an order in which they can be made. Pure."""
    graph: dict[str, set[str]] = {}
    todo = [key for key in wanted if key in absent]
    while todo:
        key = todo.pop()
        if key not in graph:
            below = {other for other in needs[key].needs if other in absent and other in needs}
            # A cast is found by its function, and made after it. What the text of a function calls may come later.
            graph[key] = {other for other in below if needs[other].kind != "cast"}
            todo += [*below, *(other for other in needs[key].names if other in absent)]
    return [needs[key] for key in in_order(graph)]


def users(needs: Mapping[str, Need], key: str) -> tuple[set[str], set[str]]:
    """What of the tables uses the object, be it through others, in words; and of that what is a part (table.name). Pure."""
    ways = [one for one in needs.values() if key in hard(needs, [one.key])]
    return {user for one in ways for user in one.users}, {part for one in ways for part in one.parts}


def checks(
    config: MigrationConfig,
    source: Connection,
    target: Connection,
    tables: Collection[Table],
    made: Collection[tuple[str, str]],
    schemas: Collection[str],
) -> Iterator[Check]:
    """What the target lacks of all that the tables use.

    Args:
        made: types (schema, name) that `schema apply` makes.
        schemas: those that it makes.
    """
    needs = read(source, config, tables)
    lacking, used = absent(target, needs), hard(needs)
    rows = set(_keys(source, [table.full_name for table in tables]).values())
    own = rows | set(_keys(source, made).values())
    own |= {key for key, need in needs.items() if need.kind == "schema" and need.names_parts[0] in schemas}
    # What comes with something else is not looked for itself.
    own |= {key for key, need in needs.items() if need.definition == ""}
    missing = sorted(used & lacking - own)
    offered = {row[0] for row in target.execute("SELECT name FROM pg_available_extensions")}
    remedy = partial(
        _remedy, needs=needs, offered=offered, rows=rows & lacking, tables={table.name: table for table in tables}
    )
    yield named(
        USED,
        list(dict.fromkeys(_what(needs[key]) for key in missing)),
        "the target has every type, function, operator, collation and extension",
        "fail",
        remedy(ordered(needs, lacking, missing)),
    )
    called = sorted(lacking - used - own) if not missing else []
    yield named(
        "both: what functions call",
        [_what(needs[key]) for key in called],
        "the target has what the texts of these functions name" if not missing else "looked at when those are there",
        "warn",
        remedy(ordered(needs, lacking, called)),
    )
    others = {key: text for key, text in _functions(target, needs, lacking).items() if text != needs[key].definition}
    yield named(
        "both: functions that differ",
        [_what(needs[key]) for key in sorted(others)],
        "those that the tables use are the same on both sides",
        "warn",
        "a default, a check or an index would not compute the same; on the target, as the source has them: "
        + ";\n".join(str(needs[key].definition) for key in sorted(others)),
    )
    casts = source.execute(QUERIES["text_casts"], {"oids": [table.oid for table in tables]}).fetchall()
    yield named(
        "source: casts of text",
        [f"{row[1]} by the cast {row[0]}" for row in casts],
        "every value becomes text, and a value again, by its type alone",
        "fail",
        "values travel as text, which such a cast makes another one: "
        + "; ".join(dict.fromkeys(f"DROP CAST {row[0]}" for row in casts)),
    )


def functions(
    config: MigrationConfig, side: Side, connection: Connection, tables: Collection[Table]
) -> Iterator[Check]:
    """Functions in indexes, checks and generated columns that need a `search_path`: what applies a change has none."""
    wrong, parts = list[str](), set[str]()
    with connection.transaction(force_rollback=True):
        oids = [table.oid for table in tables]
        for table, what, part, expression in connection.execute(
            QUERIES["table_expressions"], {"oids": oids}
        ).fetchall():
            try:
                with connection.transaction():
                    # For some rows: a function is called where there is one.
                    connection.execute(sql.SQL(f"SELECT ({expression}) IS NULL FROM {table} LIMIT {ROWS}"))
            except psycopg.Error as error:
                wrong.append(f"{what} of {table}: {told(error)}")
                parts.add(part)
    yield named(
        f"{side}: functions without a search_path",
        wrong,
        "indexes, checks and generated columns work without one",
        "fail",
        "what arrives could not be written; name the schema inside of the function, or: "
        + "; ".join(with_path(read(connection, config, tables), parts) if wrong else []),
    )


def _functions(target: Connection, needs: Mapping[str, Need], lacking: Collection[str]) -> dict[str, str]:
    """The target's definitions of functions that are no extension's, by key."""
    keys = [key for key, one in needs.items() if one.kind == "function" and not one.extension and key not in lacking]
    rows = target.execute(QUERIES["functions"], ([needs[key].identity for key in keys],)).fetchall()
    return {key: str(row[0]) for key, row in zip(keys, rows, strict=True)}


def with_path(needs: Mapping[str, Need], parts: Collection[str] | None = None) -> list[str]:
    """SQL that gives the functions that ``parts`` (table.name; None: any) use a search_path: the schemas of all that they call. Pure."""
    texts = []
    for need in needs.values():
        if need.kind == "function" and set(need.parts) & set(need.parts if parts is None else parts):
            calls = {other for key in hard(needs, [need.key]) for other in needs[key].names}
            schemas = dict.fromkeys(needs[key].names_parts[0] for key in [need.key, *sorted(calls)] if key in needs)
            path = ", ".join(quoted(schema) for schema in schemas)
            texts.append(f"ALTER FUNCTION {need.identity} SET search_path = pg_catalog, {path}, pg_temp")
    return texts


def _keys(source: Connection, types: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The keys of types (schema, name)."""
    names = [space for space, _ in types], [name for _, name in types]
    return {(row[0], row[1]): row[2] for row in source.execute(QUERIES["type_keys"], names)}


def _what(need: Need) -> str:
    return f"extension {need.extension}" if need.extension else need.what


def _remedy(
    todo: list[Need],
    needs: Mapping[str, Need],
    offered: Collection[str],
    rows: Collection[str],
    tables: Mapping[str, Table],
) -> str:
    """What makes them: SQL, and a sentence for each that no SQL makes. ``rows``: types of rows of tables that are not there yet."""
    texts, later, said = list[str](), list[str](), list[str]()
    extensions = {need.names_parts[0] for need in todo if need.kind == "extension"}
    for need in todo:
        if need.key in rows:
            continue
        if not hard(needs, [need.key]).isdisjoint(rows):
            words, parts = users(needs, need.key)
            if need.definition and all(word.startswith("index ") for word in words):
                later.append(need.definition)
            else:
                said.append(f"{need.what} takes a row of a table that is not there yet{choice.may_stay(tables, parts)}")
        elif need.extension:
            # A member alone is missing where the extension is there in another version.
            texts += [f"ALTER EXTENSION {quoted(need.extension)} UPDATE"] * (need.extension not in extensions)
        elif need.kind == "extension" and need.names_parts[0] not in offered:
            said.append(
                f"the target's server does not offer the extension {need.identity}: install its package there (RDS: SHOW rds.extensions)"
            )
        elif need.definition:
            texts.append(need.definition)
        elif need.definition is None:
            said.append(f"{need.kind} {need.identity}: make it on the target as it is on the source")
    scripts = (
        ("on the target, as the source has them: ", texts),
        ("once `schema apply` has made the tables, on the target: ", later),
    )
    return "; ".join([*said, *(when + _script(found) for when, found in scripts if found)])


def _script(texts: list[str]) -> str:
    """Statements, each once; the text of a function may call what is made later."""
    code = any(text.startswith(("CREATE OR REPLACE FUNCTION", "CREATE OR REPLACE PROCEDURE")) for text in texts)
    return ";\n".join(dict.fromkeys([*["SET check_function_bodies = off"] * code, *texts]))
