"""The PL/pgSQL of the conflict rules, written for each table from its catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from psycopg import sql

from scripts.database.catalog import Table
from scripts.support.sides import Side

_FUNCTION = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $task_migration$
#variable_conflict use_column
DECLARE
    here {table}%ROWTYPE;
    written timestamptz;
    origin oid;
    takes boolean;
BEGIN
    -- A mend decides for itself; depth 2 is this function's own insert or update.
    {applying}
    IF pg_trigger_depth() > 1 OR current_setting('task_migration.mend', true) = 'on' THEN
        {mending}
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        {writer_old}
        IF origin = 0 AND written > task_migration.known_until({peer}) THEN
            PERFORM task_migration.log_conflict({name}, {old_json}, 'delete_over_write', 'applied',
                {old_updated}, NULL, written, OLD::text, NULL);
        END IF;
        {cascades}
        RETURN OLD;
    END IF;
    {parents}
    IF TG_OP = 'INSERT' THEN
        -- Waits for a local insert of the same key that is not committed yet, where a plain insert would fail.
        INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({new_values}) ON CONFLICT DO NOTHING;
        IF FOUND THEN RETURN NULL; END IF;
        SELECT t.* INTO here FROM {table} t WHERE {new_key} FOR UPDATE;
        IF FOUND THEN
            IF here::text = NEW::text THEN
                PERFORM task_migration.log_conflict({name}, {new_json}, 'duplicate_insert', 'equal', {here_updated},
                    {new_updated}, NULL, NULL, NULL);
                RETURN NULL;
            END IF;
            {writer_new}
            takes := {insert_takes};
            PERFORM task_migration.log_conflict({name}, {new_json}, 'duplicate_insert',
                CASE WHEN takes THEN 'applied' ELSE 'skipped' END, {here_updated}, {new_updated}, written, here::text, NEW::text);
            IF takes THEN
                {overwrite}
            END IF;
            RETURN NULL;
        END IF;
        {uniques_insert}
        INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({new_values}) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END IF;
    {uniques_update}
    {writer_old}
    -- Last written by the other side, or known to it: nothing to decide. Timestamps of old commits are not kept (NULL).
    IF origin IS DISTINCT FROM 0 OR written IS NULL OR written <= task_migration.known_until({peer}) THEN
        RETURN NEW;
    END IF;
    takes := {update_takes};
    PERFORM task_migration.log_conflict({name}, {old_json}, {update_kind},
        CASE WHEN takes THEN 'applied' ELSE 'skipped' END, {old_updated}, {new_updated}, written, OLD::text, NEW::text);
    IF takes THEN RETURN NEW; END IF;
    RETURN NULL;
END
$task_migration$
"""


def function_name(table: Table) -> sql.Identifier:
    """The table's rule function; hashed, as a name of 63 bytes leaves no room for a prefix."""
    digest = hashlib.sha256(f"{table.schema}.{table.name}".encode()).hexdigest()[:12]
    return sql.Identifier("task_migration", f"apply_{digest}")


def trigger(table: Table) -> sql.Composed:
    """CREATE TRIGGER for the table's rule function."""
    return sql.SQL(
        "CREATE OR REPLACE TRIGGER task_migration_apply BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}()"
    ).format(table.identifier, function_name(table))


def _fields(record: str, names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.SQL(record), sql.Identifier(name)) for name in names)


def _equal(left: str, names: Iterable[str], right: str, others: Iterable[str] | None = None) -> sql.Composed:
    names = list(names)
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(sql.SQL(left), sql.Identifier(a), sql.SQL(right), sql.Identifier(b))
        for a, b in zip(names, list(others or names), strict=True)
    )


def _json_key(record: str, names: Iterable[str]) -> sql.Composed:
    pairs = [sql.SQL("{}, {}.{}").format(sql.Literal(name), sql.SQL(record), sql.Identifier(name)) for name in names]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def _cascades(table: Table, tables: Mapping[str, Table]) -> sql.Composed:
    """What the local children lose with their parent: the keys' own triggers do not fire for replicated changes, and the
    other side's cascade knows nothing of children that were written here in the meantime."""
    parts: list[sql.Composable] = []
    for child in tables.values():
        for key in child.constraints:
            if key.kind != "f" or key.references != table.name:
                continue
            where = _equal("x", key.columns, "OLD", key.references_columns)
            if key.on_delete == "c":
                parts.append(sql.SQL("DELETE FROM {} x WHERE {};").format(child.identifier, where))
            elif key.on_delete == "n":
                nulls = sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(name)) for name in key.columns)
                parts.append(sql.SQL("UPDATE {} x SET {} WHERE {};").format(child.identifier, nulls, where))
    return sql.SQL("\n        ").join(parts)


def _parents(table: Table, tables: Mapping[str, Table]) -> sql.Composed:
    """A child whose parent was deleted here: skipped where the key cascades, its reference emptied where that sets null."""
    parts: list[sql.Composable] = []
    for key in table.constraints:
        if key.kind != "f" or key.references not in tables or key.on_delete not in ("c", "n"):
            continue
        given = sql.SQL(" AND ").join(
            sql.SQL("NEW.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns
        )
        changed = sql.SQL("({}) IS DISTINCT FROM ({})").format(_fields("NEW", key.columns), _fields("OLD", key.columns))
        if key.on_delete == "c":
            decision = "skipped"
            # An update whose new parent is gone deletes the child, as the cascade would have done.
            outcome: sql.Composable = sql.SQL("RETURN NULL;")
        else:
            decision = "applied"
            outcome = sql.SQL(" ").join(sql.SQL("NEW.{} := NULL;").format(sql.Identifier(name)) for name in key.columns)
        parts.append(
            sql.SQL(
                "IF {given} AND (TG_OP = 'INSERT' OR {changed}) THEN\n"
                "        PERFORM 1 FROM {parent} p WHERE {match} FOR KEY SHARE;\n"
                "        IF NOT FOUND THEN\n"
                "            PERFORM task_migration.log_conflict({name}, {key}, 'parent_gone', {decision}, NULL, NULL, NULL, "
                "NULL, NEW::text);\n"
                "            {outcome}\n"
                "        END IF;\n    END IF;"
            ).format(
                given=given,
                changed=changed,
                parent=tables[str(key.references)].identifier,
                match=_equal("p", key.references_columns, "NEW", key.columns),
                name=sql.Literal(table.name),
                key=_json_key("NEW", table.key),
                decision=sql.Literal(decision),
                outcome=outcome,
            )
        )
    return sql.SQL("\n    ").join(parts)


def _unique_keys(table: Table) -> list[tuple[str, ...]]:
    found = [c.columns for c in table.constraints if c.kind == "u"]
    found += [i.columns for i in table.indexes if i.unique and i.columns and " WHERE " not in i.definition]
    return sorted({columns for columns in found if columns != table.key})


def _uniques(table: Table, side: Side, update: bool) -> sql.Composed:
    """Two rows of different keys that claim the same unique value: the tie winner's stays, on both sides."""
    parts: list[sql.Composable] = []
    for columns in _unique_keys(table):
        clash = sql.SQL("{} AND NOT ({})").format(
            _equal("t", columns, "NEW"), _equal("t", table.key, "OLD" if update else "NEW")
        )
        body = sql.SQL(
            "FOR here IN SELECT t.* FROM {table} t WHERE {clash} FOR UPDATE LOOP\n"
            "            takes := NOT task_migration.wins_ties({mine});\n"
            "            PERFORM task_migration.log_conflict({name}, {incoming}, 'unique_clash',\n"
            "                CASE WHEN takes THEN 'applied' ELSE 'skipped' END, NULL, NULL, NULL, here::text, NEW::text);\n"
            "            PERFORM task_migration.log_conflict({name}, {local}, 'unique_clash',\n"
            "                CASE WHEN takes THEN 'replaced' ELSE 'kept' END, NULL, NULL, NULL, here::text, NEW::text);\n"
            "            IF NOT takes THEN RETURN NULL; END IF;\n"
            "            DELETE FROM {table} t WHERE {here};\n"
            "        END LOOP;"
        ).format(
            table=table.identifier,
            clash=clash,
            mine=sql.Literal(side),
            name=sql.Literal(table.name),
            incoming=_json_key("NEW", table.key),
            local=_json_key("here", table.key),
            here=_equal("t", table.key, "here"),
        )
        if update:
            body = sql.SQL("IF ({}) IS DISTINCT FROM ({}) THEN\n        {}\n    END IF;").format(
                _fields("NEW", columns), _fields("OLD", columns), body
            )
        parts.append(body)
    return sql.SQL("\n        ").join(parts)


def _writer(table: Table, record: str, local_write: bool) -> sql.Composed:
    """Who wrote the row that is there, and when: `origin` is 0 for a local writer (PostgreSQL, 'Replication Progress
    Tracking'). Without origins the helper function `local_write` tells (scripts/replication/conflicts/dms.sql)."""
    asked = "task_migration.local_write(t.xmin)" if local_write else "pg_xact_commit_timestamp_origin(t.xmin)"
    columns = "c.timestamp, c.roident"
    return sql.SQL(f"SELECT {columns} INTO written, origin FROM {{table}} t, LATERAL {asked} c WHERE {{key}};").format(
        table=table.identifier, key=_equal("t", table.key, record)
    )


def function(table: Table, tables: Mapping[str, Table], side: Side, *, origins: bool = True) -> sql.Composed:
    """CREATE FUNCTION with the rules for ``table`` as ``side`` applies them.

    Args:
        origins: whether applied changes carry a replication origin; if not, the rules write down which transactions
            apply, and ask that (scripts/replication/conflicts/dms.sql, which must be installed first).
    """
    mine, peer = sql.Literal(side), sql.Literal("target" if side == "source" else "source")
    tie = sql.SQL("NOT task_migration.wins_ties({})").format(mine)
    dated = "updated_at" in table.stored
    unknown = sql.SQL(
        "origin IS DISTINCT FROM 0 OR written IS NULL OR written <= task_migration.known_until({})"
    ).format(peer)
    # NULL, and equal to the second, are ties.
    newer = "CASE WHEN NEW.updated_at > {0}.updated_at THEN true WHEN NEW.updated_at < {0}.updated_at THEN false ELSE {1} END"
    others = [name for name in table.stored if name not in table.key and table.column(name).identity != "a"]
    overwrite: sql.Composable = sql.SQL("NULL;")
    if others:
        overwrite = sql.SQL("UPDATE {} t SET {} WHERE {};").format(
            table.identifier,
            sql.SQL(", ").join(sql.SQL("{0} = NEW.{0}").format(sql.Identifier(name)) for name in others),
            _equal("t", table.key, "NEW"),
        )

    def decide(record: str) -> sql.Composable:
        return sql.SQL(newer.replace("{0}", record).replace("{1}", "{}")).format(tie) if dated else tie

    def updated(record: str) -> sql.SQL:
        return sql.SQL(f"{record}.updated_at::text" if dated else "NULL")

    kind = "CASE WHEN NEW.updated_at <> OLD.updated_at THEN 'update_update' ELSE 'tie' END" if dated else "'tie'"
    return sql.SQL(_FUNCTION).format(
        function=function_name(table),
        table=table.identifier,
        name=sql.Literal(table.name),
        peer=peer,
        applying=sql.SQL("" if origins else "PERFORM task_migration.applying();"),
        mending=sql.SQL(
            "" if origins else "IF pg_trigger_depth() = 1 THEN PERFORM task_migration.mark_mend(); END IF;"
        ),
        writer_old=_writer(table, "OLD", not origins),
        writer_new=_writer(table, "NEW", not origins),
        columns=sql.SQL(", ").join(map(sql.Identifier, table.stored)),
        new_values=_fields("NEW", table.stored),
        old_key=_equal("t", table.key, "OLD"),
        new_key=_equal("t", table.key, "NEW"),
        old_json=_json_key("OLD", table.key),
        new_json=_json_key("NEW", table.key),
        old_updated=updated("OLD"),
        new_updated=updated("NEW"),
        here_updated=updated("here"),
        cascades=_cascades(table, tables),
        parents=_parents(table, tables),
        insert_takes=sql.SQL("CASE WHEN {} THEN true ELSE {} END").format(unknown, decide("here")),
        update_takes=decide("OLD"),
        update_kind=sql.SQL(kind),
        overwrite=overwrite,
        uniques_insert=_uniques(table, side, update=False),
        uniques_update=_uniques(table, side, update=True),
    )
