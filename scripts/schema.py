"""Step 0.3: the target's schema from the source's catalog, and the comparison of the two catalogs."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from pydantic import SecretStr

from scripts import catalog, catalog_state, schema_statements
from scripts.support.errors import Refused
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.redact import remember_secret
from scripts.support.settings import Settings

LOCK_TIMEOUT_MS = 2000


def apply(settings: Settings, dry_run: bool = False, role_password: SecretStr | None = None) -> dict[str, Any]:
    """Make on the target what of the configured tables is missing there; tables that exist are left as they are.

    Keys, indexes and foreign keys of a table made here come after the rows, by ``copy``. Foreign keys that lead out of the
    moved tables are left out. The owner is the target role when it exists; it is made when ``role_password`` is given.

    Returns:
        ``{"created": [tables], "statements": [sql], "role": str|None, "match", "differences", "pending", "text"}``; with
        ``dry_run`` nothing is changed and ``match`` is about the present.

    Raises:
        Refused: a table is missing on the source, or is of a kind that cannot be moved.
        DatabaseError: PostgreSQL refused a statement.
    """
    config = settings.config
    with connect(settings.source(), step="schema", name="SOURCE_DATABASE_URL") as source:
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        enums = schema_statements.read_enums(source, tables)
    unmovable = [f"{t.name} (relkind {t.kind})" for t in tables.values() if t.kind != "r"]
    if unmovable:
        raise Refused(f"{', '.join(unmovable)}: only ordinary tables can be moved; take them out of `tables`")
    with (
        domain_errors("schema apply on the target"),
        connect(
            settings.target(), step="schema", name="TARGET_DATABASE_URL", lock_timeout_ms=LOCK_TIMEOUT_MS
        ) as target,
    ):
        there = catalog.existing(target, config.db_schema, config.tables)
        missing = [table for table in tables.values() if table.name not in there]
        statements = schema_statements.pre_data(missing, config.db_schema, enums, target) if missing else []
        role = _role(target, config.target_role, role_password, dry_run)
        if role:
            statements += schema_statements.owners(missing, role) + schema_statements.grants(
                [t for t in tables.values() if t.name in there], role, config.db_schema
            )
        texts = [statement.as_string(target) for statement in statements]
        if not dry_run:
            with target.transaction():
                for statement in statements:
                    target.execute(statement)
            catalog_state.install(target)
    if not dry_run:
        settings.journal.record("schema", "applied", created=[table.name for table in missing])
    found = diff(settings) if not dry_run else {"match": not missing, "differences": [], "pending": [], "text": ""}
    return {"created": [table.name for table in missing], "statements": texts, "role": role, **found}


def _role(target: Connection, name: str, password: SecretStr | None, dry_run: bool) -> str | None:
    if target.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
        return name
    if password is None:
        return None
    if not dry_run:
        secret = password.get_secret_value()
        remember_secret(secret)
        # Hashed here, so that the password itself is in no statement log (libpq, PQencryptPasswordConn).
        hashed = target.pgconn.encrypt_password(secret.encode(), name.encode(), b"scram-sha-256").decode()
        target.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(hashed)))
    return name


def diff(settings: Settings) -> dict[str, Any]:
    """Compare the two catalogs of the configured tables.

    Returns:
        ``{"match": bool, "differences": [{"table", "kind", "name", "source", "target", "sql"}], "pending": [...], "text"}``.
        ``pending`` are keys and indexes that `copy` makes after the rows; they spoil the match only once the copy is done.
    """
    config = settings.config
    with connect(settings.source(), step="schema", name="SOURCE_DATABASE_URL") as source:
        wanted = catalog.read(source, config.db_schema, config.tables, "source")
    with connect(settings.target(), step="schema", name="TARGET_DATABASE_URL") as target:
        there = catalog.existing(target, config.db_schema, config.tables)
        found = catalog.read(target, config.db_schema, there, "target")
        state = catalog_state.get(target, "copy")
        for name, table in list(found.items()):
            checks = [{c.definition for c in t.constraints if c.kind == "c"} for t in (wanted[name], table)]
            if checks[0] != checks[1]:
                wanted[name] = schema_statements.with_canonical_checks(target, wanted[name], table)
                found[name] = schema_statements.with_canonical_checks(target, table, table)
    copied = bool(state and state.get("status") == "complete")
    everything = [item for table in wanted.values() for item in compare(table, found.get(table.name), set(wanted))]
    pending = [] if copied else [item for item in everything if item["after_rows"]]
    differences = [item for item in everything if copied or not item["after_rows"]]
    lines = [_line(item) for item in differences]
    for item in everything:
        del item["after_rows"]
    return {"match": not differences, "differences": differences, "pending": pending, "text": "\n".join(lines)}


def _line(item: dict[str, Any]) -> str:
    return (
        f"{item['table']}: {item['kind']} {item['name']}: source {item['source'] or 'has none'}; target {item['target'] or 'has none'}\n"
        f"  mend on the target: {item['sql']}"
    )


def compare(wanted: catalog.Table, found: catalog.Table | None, moved: set[str]) -> list[dict[str, Any]]:
    """What differs between a source table and its target. Pure: reads two catalogs' descriptions, does no I/O."""

    def item(
        kind: str, name: str, source: str | None, target: str | None, mend: str, after: bool = False
    ) -> dict[str, Any]:
        return {
            "table": wanted.name,
            "kind": kind,
            "name": name,
            "source": source,
            "target": target,
            "sql": mend,
            "after_rows": after,
        }

    if found is None:
        return [item("table", wanted.name, "present", None, "task-migration schema apply")]
    name = wanted.identifier.as_string(None)
    items = []
    theirs = {column.name: column for column in found.columns}
    for column in wanted.columns:
        other = theirs.pop(column.name, None)
        text = schema_statements.column_text(column)
        if other is None:
            items.append(item("column", column.name, text, None, f"ALTER TABLE {name} ADD COLUMN {text}"))
        elif schema_statements.column_text(other) != text:
            mend = schema_statements.column_mend(name, column, other)
            items.append(item("column", column.name, text, schema_statements.column_text(other), mend))
    for column in theirs.values():
        mend = f"ALTER TABLE {name} DROP COLUMN {schema_statements.quote(column.name)}"
        items.append(item("column", column.name, None, schema_statements.column_text(column), mend))
    # Keys and checks are compared by what they say, not by their names: another migration tool names them otherwise.
    kept = [c for c in wanted.constraints if c.kind != "f" or c.references in moved]
    have = {(c.kind, c.definition): c for c in found.constraints}
    want = {(c.kind, c.definition): c for c in kept}
    for key, constraint in want.items():
        if key not in have:
            mend = (
                f"ALTER TABLE {name} ADD CONSTRAINT {schema_statements.quote(constraint.name)} {constraint.definition}"
            )
            items.append(item("constraint", constraint.name, constraint.definition, None, mend, constraint.kind != "c"))
    for key, constraint in have.items():
        if key not in want:
            mend = f"ALTER TABLE {name} DROP CONSTRAINT {schema_statements.quote(constraint.name)}"
            items.append(item("constraint", constraint.name, None, constraint.definition, mend))
    ours, others = ({schema_statements.index_shape(i): i for i in t.indexes} for t in (wanted, found))
    for shape, index in ours.items():
        if shape not in others:
            items.append(item("index", index.name, index.definition, None, index.definition, True))
    for shape, index in others.items():
        if shape not in ours:
            mend = f"DROP INDEX {schema_statements.quote(found.schema)}.{schema_statements.quote(index.name)}"
            items.append(item("index", index.name, None, index.definition, mend))
    return items
