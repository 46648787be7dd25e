"""The task API's rules over PostgreSQL. Every write is one transaction that is committed before the method returns.

Users, tags and proposals are looked up through :class:`References`: the monolith asks its own database, the Task
Service the monolith's, read-only, as its own has no foreign keys to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from psycopg import AsyncConnection, errors, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from scripts.database import queries
from scripts.rehearsal.app.models import ApiError, NewTask, TaskChange, invalid, not_found
from scripts.rehearsal.app.transaction import NOW, Transaction
from scripts.rehearsal.ledger import Row

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]
T = TypeVar("T")

QUERIES = queries.load("scripts.rehearsal.app")
TASK = sql.SQL(QUERIES["task"])
#: A deadlock's victim changed nothing, so its transaction may run again.
ATTEMPTS = 3


class References:
    """Looks up what stays in the monolith's database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def _one(self, query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(query.encode(), parameters)).fetchone()
        return row or {}

    async def check_owner(self, caller: int, owner: int) -> None:
        """Raises ApiError: 401 when the caller is no user, 422 when the owner is none or not of the caller's group."""
        row = await self._one(
            QUERIES["owner"],
            {"caller": caller, "owner": owner},
        )
        if not row["caller"]:
            raise ApiError(401, "Unauthenticated.")
        if not row["owner"]:
            raise invalid("user_id", "The selected user does not exist.")
        if caller != owner and not row["same_group"]:
            raise invalid("user_id", "The selected user is not a member of your group.")

    async def check_tags(self, owner: int, tags: Sequence[int]) -> None:
        """Raises ApiError 422 when one of the tags does not exist or is another user's."""
        if tags:
            row = await self._one(
                "SELECT count(*) AS found FROM tags WHERE id = ANY(%s) AND user_id = %s", (list(set(tags)), owner)
            )
            if row["found"] != len(set(tags)):
                raise invalid("tags", "One of the selected tags does not exist.")

    async def check_proposal(self, owner: int, proposal: int | None) -> None:
        """Raises ApiError 422 when the proposal does not exist or is another user's."""
        if proposal is not None:
            row = await self._one(
                "SELECT count(*) AS found FROM task_proposals WHERE id = %s AND user_id = %s", (proposal, owner)
            )
            if not row["found"]:
                raise invalid("source_proposal_id", "The selected proposal does not exist.")


Written = tuple[T, tuple[Row, ...]]
"""What a transaction gave, and the rows that it wrote."""
ONE = sql.SQL("t.id = %(task)s")


class TaskStore:
    """The eight operations. ``caller`` is the user id of the validated token. What writes gives the rows that it wrote too."""

    def __init__(self, pool: Pool, references: References) -> None:
        self._pool = pool
        self._references = references

    async def healthy(self) -> None:
        """Raises psycopg.OperationalError or PoolTimeout when the database does not answer."""
        async with self._pool.connection() as connection:
            await connection.execute("SELECT 1")

    async def index(self, caller: int, limit: int, before: int | None, completed: bool | None) -> list[dict[str, Any]]:
        """The caller's tasks, newest id first, without images."""
        query = sql.SQL(" ").join([TASK, sql.SQL(QUERIES["of_caller"])])
        values = {"caller": caller, "before": before, "completed": completed, "limit": limit}
        async with self._pool.connection() as connection:
            return await (await connection.execute(query, values)).fetchall()

    async def show(self, caller: int, task: int) -> dict[str, Any]:
        """One task that the caller owns or gave. Raises ApiError 404."""
        async with self._pool.connection() as connection:
            return await self._read(connection, caller, task)

    async def create(self, caller: int, body: NewTask) -> Written[dict[str, Any]]:
        """Make a task with its tags and images. Raises ApiError 401 or 422."""
        owner = caller if body.user_id is None else body.user_id
        await self._references.check_owner(caller, owner)
        await self._references.check_tags(owner, body.tags)
        await self._references.check_proposal(owner, body.source_proposal_id)
        values = body.model_dump(exclude={"tags", "images", "user_id"})
        values |= {"user_id": owner, "assigned_by_user_id": caller if owner != caller else None}

        async def work(made: Transaction) -> dict[str, Any]:
            row = await made.insert("tasks", values)
            assert row is not None  # an INSERT without ON CONFLICT gives its row
            task = int(row["id"])
            await self._set_tags(made, task, body.tags)
            for path in body.images:
                await made.insert("task_images", {"task_id": task, "file_path": path})
            return await self._read(made.connection, caller, task)

        return await self.write(work)

    async def change(self, caller: int, task: int, body: TaskChange) -> Written[dict[str, Any]]:
        """Change the fields that stand in ``body``. Raises ApiError 404, 409 (approved already) or 422."""

        # Looked up before the transaction: one that waits for a second connection of the same pool can wait for ever.
        owner = (await self.show(caller, task))["user_id"]
        await self._references.check_tags(owner, body.tags)
        await self._references.check_proposal(owner, body.source_proposal_id)

        async def work(made: Transaction) -> dict[str, Any]:
            row = await self._read(made.connection, caller, task, lock=True)
            if row["approved_at"] is not None:
                raise ApiError(409, "The task is approved already and cannot be changed.")
            if "tags" in body.model_fields_set:
                await self._set_tags(made, task, body.tags)
            await self._update(made, task, body.columns())
            return await self._read(made.connection, caller, task)

        return await self.write(work)

    async def delete(self, caller: int, task: int) -> Written[None]:
        """Soft-delete. Raises ApiError 404."""

        async def work(made: Transaction) -> None:
            await self._read(made.connection, caller, task, lock=True)
            await self._update(made, task, {"deleted_at": NOW})

        return await self.write(work)

    async def complete(self, caller: int, task: int) -> Written[dict[str, Any]]:
        """The owner has done it. Raises ApiError 404, 409 (done already), 422 (an image is required)."""

        async def work(made: Transaction) -> dict[str, Any]:
            row = await self._read(made.connection, caller, task, lock=True)
            if row["user_id"] != caller:
                raise not_found()
            if row["is_completed"]:
                raise ApiError(409, "The task is completed already.")
            if row["requires_image"] and not row["images"]:
                raise invalid("images", "The task requires an image.")
            await self._update(made, task, {"is_completed": True, "completed_at": NOW})
            return await self._read(made.connection, caller, task)

        return await self.write(work)

    async def approve(self, caller: int, task: int) -> Written[dict[str, Any]]:
        """Who gave the task (the owner when nobody did) approves what is completed. Raises ApiError 404 or 409."""
        changes = {"approved_at": NOW, "approved_by_user_id": caller}
        return await self._judge(caller, task, changes)

    async def reject(self, caller: int, task: int) -> Written[dict[str, Any]]:
        """As :meth:`approve`, but the task is open again. Raises ApiError 404 or 409."""
        return await self._judge(caller, task, {"is_completed": False, "completed_at": None})

    async def _judge(self, caller: int, task: int, changes: dict[str, Any]) -> Written[dict[str, Any]]:
        async def work(made: Transaction) -> dict[str, Any]:
            row = await self._read(made.connection, caller, task, lock=True)
            if caller != (row["assigned_by_user_id"] or row["user_id"]):
                raise not_found()
            if not row["is_completed"]:
                raise ApiError(409, "The task is not completed yet.")
            if row["approved_at"] is not None:
                raise ApiError(409, "The task is approved already.")
            await self._update(made, task, changes)
            return await self._read(made.connection, caller, task)

        return await self.write(work)

    async def write(self, work: Callable[[Transaction], Awaitable[T]], *, repeatable: bool = False) -> Written[T]:
        """Run ``work`` in one transaction, again when it could not be serialized. Raises ApiError 422 for a reference."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    made = Transaction(connection)
                    if repeatable:
                        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    return await work(made), tuple(made.rows)
            except (errors.DeadlockDetected, errors.SerializationFailure):
                if attempt == ATTEMPTS:
                    raise
            except errors.ForeignKeyViolation as error:
                # Deleted between the check and the write; only the monolith's database can notice.
                raise invalid(str(error.diag.constraint_name), "What is referred to does not exist.") from None
        raise AssertionError("unreachable")

    async def _read(
        self, connection: AsyncConnection[DictRow], caller: int, task: int, *, lock: bool = False
    ) -> dict[str, Any]:
        query = TASK + sql.SQL(
            " AND t.id = %(task)s AND (t.user_id = %(caller)s OR t.assigned_by_user_id = %(caller)s)"
        )
        if lock:
            query += sql.SQL(" FOR UPDATE OF t")
        row = await (await connection.execute(query, {"task": task, "caller": caller})).fetchone()
        if row is None:
            raise not_found()
        images = await connection.execute(
            "SELECT file_path FROM task_images WHERE task_id = %s AND delete_at IS NULL ORDER BY id", (task,)
        )
        return {**row, "images": [image["file_path"] for image in await images.fetchall()]}

    async def _set_tags(self, made: Transaction, task: int, tags: Sequence[int]) -> None:
        wanted = sorted(set(tags))
        others = sql.SQL("t.task_id = %(task)s AND t.tag_id <> ALL(%(wanted)s)")
        await made.delete("task_tag", others, {"task": task, "wanted": wanted})
        for tag in wanted:
            await made.insert("task_tag", {"task_id": task, "tag_id": tag}, stamped=False, ignore=True)

    async def _update(self, made: Transaction, task: int, changes: dict[str, Any]) -> None:
        await made.update("tasks", ONE, {"task": task}, changes, stamped=True)


def make_pool(url: str, name: str, *, read_only: bool = False, minimum: int = 2, maximum: int = 10) -> Pool:
    """A closed pool with timeouts: 5 s to connect, 5 s to wait for a connection, 10 s for a statement; UTC.

    A connection is checked before it is given out, so that a restarted server costs no failed request afterwards.
    """
    options = "-c timezone=UTC -c statement_timeout=10000 -c lock_timeout=5000"
    if read_only:
        options += " -c default_transaction_read_only=on"
    settings: dict[str, Any] = {
        "row_factory": dict_row,
        "autocommit": True,
        "connect_timeout": 5,
        "application_name": name,
        "options": options,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
    }
    return AsyncConnectionPool(
        url,
        kwargs=settings,
        min_size=minimum,
        max_size=maximum,
        timeout=5.0,
        open=False,
        check=AsyncConnectionPool.check_connection,
        name=name,
    )
