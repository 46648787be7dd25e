"""Apply: the functions that bring a record of the other side into its table, and hold keys and unique claims whatever arrives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Constraint, Index
from scripts.support.sides import Side, other
from scripts.writes import record
from scripts.writes.relations import Relations, clashing, filled, lets_go, literals, names, refers, used, written

TEMPLATES = queries.load("scripts.writes", "apply.sql")
_NOTHING = sql.SQL("NULL;")
_LINE = sql.SQL("\n    ")


class Rules:
    """The rules of one table on one side.

    Args:
        all_relations: those of every configured table, by name: keys lead from one to the other.
        untold: columns that are decided like all others and not told by themselves (`bookkeepingColumns`).
        former: names that columns had before, to what they are called now; None when they are dropped.
    """

    def __init__(
        self,
        relations: Relations,
        all_relations: Mapping[str, Relations],
        side: Side,
        untold: Sequence[str],
        former: Mapping[str, str | None],
    ) -> None:
        self._it, self._all, self._untold, self._former = relations, all_relations, untold, former
        self._table = relations.table
        self._common: dict[str, sql.Composable] = {
            "table": self._table.identifier,
            "name": sql.Literal(self._table.name),
            "own": record.table(side),
            "peer": record.table(other(side)),
            "here": self._it.at("_tm_key"),
            "remove": self._named("remove"),
            "telling": sql.Literal(side == "source"),
        }

    def functions(self) -> list[sql.Composed]:
        """CREATE FUNCTION for each, in an order in which they can be made."""
        made = [self._make("gone", children=_LINE.join(self._children()))] if self._table.children else []
        made.append(self._make("remove", gone=self._gone(self._referenced("_tm_gone"))))
        if self._it.claims:
            made.append(self._contest())
        made.append(self._apply())
        if self.watches:
            made.append(self._keys())
        return made

    @property
    def watches(self) -> bool:
        """Whether anything is left to look at when the applying transaction ends."""
        return bool(self._table.foreign_keys or self._table.children or self._late)

    @property
    def watched(self) -> set[str]:
        """The columns whose update is looked at when the applying transaction ends."""
        columns = [written(self._table, key.columns) for key in self._table.foreign_keys]
        columns += [used(self._table, claim) for claim in self._late]
        return {name for one in columns for name in one}

    @property
    def _late(self) -> list[Index]:
        return [claim for claim in self._table.claims if claim.late]

    def _named(self, what: str) -> sql.Identifier:
        return record.function(self._table, what)

    def _make(self, what: str, **holes: sql.Composable) -> sql.Composed:
        return sql.SQL(TEMPLATES[what]).format(**{**self._common, "function": self._named(what), **holes})

    def _value(self, source: str, name: str) -> sql.Composable:
        column, text = self._table.column(name), sql.SQL("{} ->> {}").format(sql.SQL(source), sql.Literal(name))
        if column.category == "domain":
            # NULL gets past a domain that is NOT NULL by a subquery without a row (PostgreSQL, 'CREATE DOMAIN'), here as there.
            some = sql.SQL("(SELECT {} FROM (SELECT {}) r(v) WHERE r.v IS NOT NULL)")
            return some.format(record.value_of(column, sql.SQL("r.v")), text)
        return record.value_of(column, text)

    def _apply(self) -> sql.Composed:
        table, it = self._table, self._it
        update = self._update()
        # What is checked late can be no arbiter of ON CONFLICT (PostgreSQL, 'INSERT'); where rows claim more than a key, `guarded` does.
        arbiter = sql.SQL("" if it.claims or it.key_late else "ON CONFLICT ({}) DO NOTHING").format(names(table.key))
        write = sql.SQL(TEMPLATES["write"]).format(
            table=table.identifier,
            columns=names(table.stored),
            values=sql.SQL(", ").join(self._value("_tm_take", name) for name in table.stored),
            conflict=arbiter,
            key_names=literals(table.key),
            update=update,
        )
        if it.claims:
            write = sql.SQL(TEMPLATES["guarded"]).format(write=write, contest=self._named("contest"))
        return self._make(
            "apply",
            write=write,
            all_names=literals(table.stored),
            untold=literals(self._untold),
            renamed=_LINE.join(self._renamed()),
        )

    def _update(self) -> sql.Composable:
        """The row as it is, with what is taken over it."""
        table, it = self._table, self._it

        def laid(names_: Sequence[str], form: str) -> sql.Composed:
            take = "CASE WHEN _tm_take ? {1} THEN {2} ELSE t.{0} END"
            return sql.SQL(", ").join(
                sql.SQL(form + take).format(sql.Identifier(name), sql.Literal(name), self._value("_tm_take", name))
                for name in names_
            )

        update: sql.Composable = _NOTHING
        if it.settable:
            update = sql.SQL("UPDATE {} t SET {} WHERE {};").format(
                table.identifier, laid(it.settable, "{0} = "), self._it.at("_tm_key")
            )
        if always := [name for name in table.stored if name not in table.key and table.column(name).identity == "a"]:
            update = sql.SQL(TEMPLATES["made_anew"]).format(
                always=literals(always),
                values=laid(table.stored, ""),
                columns=names(table.stored),
                update=update,
                **self._common,
            )
        return update

    def _renamed(self) -> list[sql.Composed]:
        """A record under way may hold a column by the name that it had, or one that is dropped."""
        parts = []
        for old, new in self._former.items():
            rest = sql.SQL("_tm_vals - {}").format(sql.Literal(old))
            if new is not None:
                rest += sql.SQL(" || jsonb_build_object({}::text, _tm_vals -> {})").format(
                    sql.Literal(new), sql.Literal(old)
                )
            parts.append(sql.SQL("IF _tm_vals ? {} THEN _tm_vals := {}; END IF;").format(sql.Literal(old), rest))
        return parts

    def _contest(self) -> sql.Composed:
        table = self._table
        overlay = [
            sql.SQL("IF _tm_take ? {1} THEN _tm_row.{0} := {2}; END IF;").format(
                sql.Identifier(name), sql.Literal(name), self._value("_tm_take", name)
            )
            for name in table.stored
        ]
        overlay += [
            sql.SQL("_tm_row.{} := (SELECT {} FROM (SELECT (_tm_row).*) g);").format(
                sql.Identifier(column.name), sql.SQL(str(column.default))
            )
            for column in table.columns
            if column.generated
        ]
        rivals = [
            sql.SQL(TEMPLATES["rival"]).format(
                **self._common,
                alias=sql.Identifier(table.name),
                rival_key=record.key_of(table, "t"),
                rival_here=self._it.at("_tm_rival_key"),
                **clashing(claim),
            )
            for claim in self._it.claims
        ]
        return self._make("contest", overlay=_LINE.join(overlay), rivals=_LINE.join(rivals))

    def _gone(self, values: sql.Composable) -> sql.Composable:
        if not self._table.children:
            return _NOTHING
        return sql.SQL("PERFORM {}(_tm_key, {});").format(self._named("gone"), values)

    def _referenced(self, row: str) -> sql.Composable:
        """The values of a row outside its key that other tables refer to, as JSON of texts."""
        return self._texts(self._it.referenced, row)

    def _texts(self, columns: Sequence[str], row: str) -> sql.Composed:
        """Values of a row variable as JSON of texts."""
        return sql.SQL("jsonb_object({}, ARRAY[{}]::text[])").format(
            literals(columns), record.texts(self._table, columns, row)
        )

    def _children(self) -> list[sql.Composed]:
        parts = []
        for key in self._table.children:
            values = [self._parent_value(name) for name in key.references_columns]
            parent = refers(key, "t", values)
            mine = sql.SQL(" AND ").join(
                sql.SQL("{} {} c.{}").format(value, sql.SQL(operator), sql.Identifier(name))
                for value, operator, name in zip(values, key.operators, key.columns, strict=True)
            )
            child = self._all.get(key.table[1])
            if child is None or child.table.full_name != key.table:
                action = _outside(key, mine)
            else:
                action = self._child(key, child, mine)
            parts.append(sql.SQL(TEMPLATES["child"]).format(table=self._table.identifier, parent=parent, action=action))
        return parts

    def _child(self, key: Constraint, child: Relations, mine: sql.Composable) -> sql.Composed:
        """What becomes of the children that ``mine`` finds, of a table that moves."""
        holes = {"child": child.table.identifier, "mine": mine, "child_key": record.key_of(child.table, "c")}
        if lets_go(key, child.table):
            return sql.SQL(TEMPLATES["child_set"]).format(sets=_sets(key), **holes)
        remove = sql.SQL(TEMPLATES["remove_child"]).format(
            remove=record.function(child.table, "remove"),
            child_name=sql.Literal(child.table.name),
            child_here=child.at("_tm_child"),
            **holes,
        )
        if key.sets:
            let_go = _let_go(key, child, "_tm_child", sql.SQL(""), remove)
            return sql.SQL(TEMPLATES["child_set_or_removed"]).format(let_go=let_go, **holes)
        return sql.SQL(TEMPLATES["child_removed"]).format(remove=remove, **holes)

    def _parent_value(self, name: str) -> sql.Composable:
        if name in self._table.key:
            text = sql.SQL("_tm_key::jsonb ->> {}").format(sql.Literal(self._table.key.index(name)))
            return record.value_of(self._table.column(name), text)
        return self._value("_tm_vals", name)

    def _keys(self) -> sql.Composed:
        late: sql.Composable = sql.SQL("")
        if self._late:
            late = sql.SQL(TEMPLATES["late"]).format(contest=self._named("contest"))
        return self._make(
            "keys",
            watched=literals(sorted(self.watched)),
            gone=self._gone(sql.SQL("_tm_vals")),
            parents=_LINE.join(self._parent(key) for key in self._table.foreign_keys),
            late=late,
        )

    def _parent(self, key: Constraint) -> sql.Composed:
        values = [sql.SQL("_tm_row.{}").format(sql.Identifier(name)) for name in key.columns]
        # Whole: an update that led it to this parent brought a part of it only.
        action = sql.SQL("{} PERFORM {}(_tm_key, 'parent gone'); RETURN;").format(
            self._tell_gone(self._table.stored), self._named("remove")
        )
        if key.sets:
            remove = sql.SQL("PERFORM set_config('task_migration.cause', '', true); {}").format(action)
            let_go = _let_go(key, self._it, "_tm_key", self._tell_gone(key.sets), remove)
            action = sql.SQL(TEMPLATES["let_go_of_parent"]).format(let_go=let_go)
        return sql.SQL(TEMPLATES["parent"]).format(
            given=filled(key, values),
            parent=sql.Identifier(*(key.references or ())),
            match=refers(key, "t", values),
            deleted=sql.SQL("") if key.valid else self._deleted(key),
            action=action,
        )

    def _deleted(self, key: Constraint) -> sql.Composable:
        """Of a key that is NOT VALID, whose rows may refer to what never was there: that a row like the one referred to went here."""
        parent = self._all.get((key.references or ("", ""))[1])
        if parent is None or parent.table.full_name != key.references:
            return sql.SQL("AND false")
        at = dict(zip(key.references_columns, key.columns, strict=True))
        if set(at) == set(parent.table.key):
            texts = record.texts(self._table, [at[name] for name in parent.table.key], "_tm_row")
            same = sql.SQL("w.key = jsonb_build_array({})::text").format(texts)
        else:
            same = sql.SQL(" AND ").join(
                sql.SQL("w.vals::jsonb ->> {} = {}").format(
                    sql.Literal(to), record.texts(self._table, [name], "_tm_row")
                )
                for to, name in at.items()
            )
        return sql.SQL(TEMPLATES["deleted"]).format(
            own=self._common["own"], parent_name=sql.Literal(parent.table.name), same=same
        )

    def _tell_gone(self, columns: Sequence[str]) -> sql.Composed:
        return sql.SQL(TEMPLATES["tell_parent_gone"]).format(lost=self._texts(columns, "_tm_row"), **self._common)


def _sets(key: Constraint) -> sql.Composed:
    return names(key.sets, after=" = NULL" if key.on_delete == "n" else " = DEFAULT")


def _let_go(key: Constraint, child: Relations, row: str, tell: sql.Composable, remove: sql.Composable) -> sql.Composed:
    """A row whose key is the text of the SQL ``row`` sets what its key says, and ``tell``; where it cannot, ``remove``."""
    values = [sql.SQL("t.{}").format(sql.Identifier(name)) for name in key.columns]
    return sql.SQL(TEMPLATES["let_go"]).format(
        child=child.table.identifier,
        child_here=child.at(row),
        sets=_sets(key),
        given=filled(key, values),
        parent=sql.Identifier(*(key.references or ())),
        match=refers(key, "p", values),
        tell=tell,
        remove=remove,
    )


def _outside(key: Constraint, mine: sql.Composable) -> sql.Composable:
    """A table that stays behind and refers to one that moves. Where its key forbids the deletion nothing can be done here."""
    child = sql.Identifier(*key.table)
    if key.on_delete == "c":
        statement = sql.SQL("DELETE FROM {} c WHERE {};").format(child, mine)
    elif key.sets:
        statement = sql.SQL("UPDATE {} c SET {} WHERE {};").format(child, _sets(key), mine)
    else:
        return _NOTHING
    return sql.SQL(TEMPLATES["child_outside"]).format(statement=statement)


def shared(
    rules: Mapping[str, Rules], tables: Mapping[str, Relations], side: Side, deadlock: bool, no_views: str
) -> list[sql.Composed]:
    """CREATE FUNCTION for what receives a record on ``side`` and hands it to its table's rules, and their triggers.

    Args:
        no_views: what keeps another's view from being read in a table's place, where the server knows it.
        deadlock: whether a role of ours may set `deadlock_timeout`: in a deadlock what applies is then the one to give way.
    """
    peer = record.table(other(side))
    holes = {
        "peer": peer,
        "own": record.table(side),
        "deadlock": sql.SQL("SET deadlock_timeout = '50ms'" if deadlock else ""),
        "no_views": sql.SQL(no_views),
    }
    apply = _dispatch(tables, "apply", tables, "NEW.vals::jsonb, NEW.cause")
    keys = _dispatch(tables, "keys", [name for name, one in rules.items() if one.watches], "NEW.vals::jsonb")
    return [
        sql.SQL(TEMPLATES["newest"]).format(**holes),
        sql.SQL(TEMPLATES["arrive"]).format(dispatch=apply, **holes),
        sql.SQL(TEMPLATES["arrived"]).format(dispatch=keys, **holes),
        sql.SQL(TEMPLATES["triggers"]).format(
            peer=peer, watched=literals(sorted({name for one in rules.values() for name in one.watched}))
        ),
    ]


def _dispatch(tables: Mapping[str, Relations], what: str, named: Collection[str], last: str) -> sql.Composed:
    calls = [
        sql.SQL("WHEN {} THEN {}").format(
            sql.Literal(name),
            sql.SQL("PERFORM {}(NEW.v, NEW.key, NEW.kind, {});").format(
                record.function(tables[name].table, what), sql.SQL(last)
            )
            if name in named
            else _NOTHING,
        )
        for name in tables
    ]
    unknown = sql.SQL(
        "ELSE RAISE EXCEPTION 'a write of the table % arrived, which is not configured here', NEW.table_name USING HINT = "
        "'let `tables` agree on both sides, then run `task-migration replicate start`';"
    )
    return sql.SQL("CASE NEW.table_name {} {} END CASE;").format(sql.SQL(" ").join(calls), unknown)
