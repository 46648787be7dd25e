"""One transaction of the stand-in applications, which notes each row that it wrote with what it had read under the row's lock.

The notes are no part of the contract: they go out in the header `x-rows`, for the load's ledger alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow
from psycopg.types.json import Json

from scripts.rehearsal.ledger import Row, Values, key_of, text_of

# Laravel cuts the second's fraction off; the column's timestamp(0) would round it, half the time into the future.
NOW = sql.SQL("date_trunc('second', now())::timestamp")
#: The six tables' keys; those of the others are `id`.
KEYS: Mapping[str, tuple[str, ...]] = {"task_tag": ("task_id", "tag_id")}


def _texts(row: Mapping[str, Any], names: Sequence[str] | None = None) -> Values:
    return {name: text_of(row[name]) for name in (row if names is None else names)}


def _key(table: str, row: Mapping[str, Any]) -> str:
    return key_of(*(row[name] for name in KEYS.get(table, ("id",))))


class Transaction:
    """Statements on ``connection``, in the transaction that is open there; ``rows`` are the notes."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self.connection = connection
        self.rows: list[Row] = []

    async def all(self, query: sql.SQL | sql.Composed, values: Mapping[str, Any] | None = None) -> list[DictRow]:
        """The rows of a query."""
        return await (await self.connection.execute(query, values)).fetchall()

    async def insert(
        self, table: str, values: Mapping[str, Any], *, stamped: bool = True, ignore: bool = False
    ) -> DictRow | None:
        """One row, as it was stored; None when it is there already, which only ``ignore`` allows.

        Args:
            stamped: with ``created_at`` and ``updated_at``.
        """
        given: dict[str, Any] = {**values, **({"created_at": NOW, "updated_at": NOW} if stamped else {})}
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) {} RETURNING *").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, given)),
            sql.SQL(", ").join(_placeholder(name, value) for name, value in given.items()),
            sql.SQL("ON CONFLICT DO NOTHING" if ignore else ""),
        )
        rows = await self.all(query, _parameters(given))
        for row in rows:
            self.rows.append(Row(table, _key(table, row), None, _texts(row)))
        return rows[0] if rows else None

    async def update(
        self, table: str, where: sql.Composable, values: Mapping[str, Any], changes: Mapping[str, Any], *, stamped: bool
    ) -> None:
        """Change the rows ``where`` (conditions on ``t``, with ``values``); ``stamped``: with ``updated_at``. By ``id``."""
        before = {row["id"]: row for row in await self._locked(table, where, values)}
        given: dict[str, Any] = {**changes, **({"updated_at": NOW} if stamped else {})}
        if not before or not given:
            return
        query = sql.SQL("UPDATE {} SET {} WHERE id = ANY(%(ids)s) RETURNING *").format(
            sql.Identifier(table),
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), _placeholder(name, value))
                for name, value in given.items()
            ),
        )
        for row in await self.all(query, {**_parameters(given), "ids": list(before)}):
            names = list(given)
            self.rows.append(Row(table, _key(table, row), _texts(before[row["id"]], names), _texts(row, names)))

    async def delete(self, table: str, where: sql.Composable, values: Mapping[str, Any]) -> None:
        """Delete the rows ``where`` (conditions on ``t``, with ``values``)."""
        query = sql.SQL("DELETE FROM {} t WHERE {} RETURNING t.*").format(sql.Identifier(table), where)
        for row in await self.all(query, values):
            self.rows.append(Row(table, _key(table, row), _texts(row), None))

    async def cascade(
        self, table: str, key: int, children: Sequence[tuple[str, str, Literal["cascade", "set null"]]]
    ) -> None:
        """Delete one row by ``id`` and let its foreign keys do the rest; ``children``: table, column, what the key does.

        The transaction must be repeatable read, so that no child comes in between what is read and what is deleted.
        """
        one = {"id": key}
        parent = await self._locked(table, sql.SQL("t.id = %(id)s"), one)
        if not parent:
            return
        for child, column, action in children:
            for row in await self._locked(child, sql.SQL("t.{} = %(id)s").format(sql.Identifier(column)), one):
                gone = action == "cascade"
                read = _texts(row, None if gone else [column])
                self.rows.append(Row(child, _key(child, row), read, None if gone else {column: None}))
        await self.delete(table, sql.SQL("t.id = %(id)s"), one)

    async def _locked(self, table: str, where: sql.Composable, values: Mapping[str, Any]) -> list[DictRow]:
        # In the order of the key, so that two bulk writes do not wait for each other.
        order = sql.SQL(", ").join(map(sql.Identifier, KEYS.get(table, ("id",))))
        query = sql.SQL("SELECT t.* FROM {} t WHERE {} ORDER BY {} FOR UPDATE").format(
            sql.Identifier(table), where, order
        )
        return await self.all(query, values)


def _placeholder(name: str, value: Any) -> sql.Composable:
    return value if isinstance(value, sql.Composable) else sql.Placeholder(name)


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    def given(value: Any) -> Any:
        return Json(value) if isinstance(value, dict | list) else value

    return {name: given(value) for name, value in values.items() if not isinstance(value, sql.Composable)}
