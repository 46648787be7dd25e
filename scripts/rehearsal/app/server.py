"""The stand-in application in two guises: ``python -m scripts.rehearsal.app.server --guise monolith|task-service --port N``.

Environment: DATABASE_URL; JWKS_URL, ISSUER, AUDIENCE (app client ids, separated by commas); for the Task Service
MONOLITH_DATABASE_URL, where it looks up users and tags; optional APP_TASKS_OFF_FILE: while that file exists, the task
endpoints answer 410 (at 100 % the monolith's are off); optional APP_JOBS_LEDGER: writes lead to background jobs, which note
theirs in that file; with it APP_SCHEDULER_FILE: while that file names this guise, its scheduler runs; APP_FAULT_FILE: what is wrong
with this release, while there is one (`faults.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import psycopg
import uvicorn
from psycopg_pool import PoolTimeout
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from scripts.rehearsal.app.faults import Faulty
from scripts.rehearsal.app.jobs import Jobs, Scheduler
from scripts.rehearsal.app.models import (
    INT8_MAX,
    ApiError,
    NewTask,
    TaskChange,
    invalid,
    parse_body,
    task_id,
    task_json,
)
from scripts.rehearsal.app.store import Pool, References, TaskStore, Written, make_pool
from scripts.rehearsal.ledger import Ledger, Row, header_of
from scripts.rehearsal.tokens import InvalidToken, KeysUnavailable, Verifier, bearer, user_of
from scripts.support.redact import redact

Guise = Literal["monolith", "task-service"]
SERVED_BY, ROWS = "x-served-by", "x-rows"
PAGE_LIMIT = 100
#: What the database says when it cannot be reached, is too slow, or takes no writes from this role (any more).
UNAVAILABLE: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)


class AppSettings(BaseSettings):
    """What one application runs with, of the environment. The URLs are secret."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    guise: Guise
    database_url: str
    #: The Task Service's alone.
    monolith_database_url: str = ""
    jwks_url: str
    issuer: str
    audience: str
    off_file: Path | None = Field(None, validation_alias="APP_TASKS_OFF_FILE")
    jobs_ledger: Path | None = Field(None, validation_alias="APP_JOBS_LEDGER")
    scheduler_file: Path | None = Field(None, validation_alias="APP_SCHEDULER_FILE")
    fault_file: Path | None = Field(None, validation_alias="APP_FAULT_FILE")


class Api:
    """The endpoints of one guise; the pools are open between entering and leaving :meth:`lifespan`."""

    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self.jobs: Jobs | None = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open pools and the client for the keys; wait up to 10 s for the database."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            pool = make_pool(settings.database_url, settings.guise)
            await pool.open(wait=True, timeout=10.0)
            stack.push_async_callback(pool.close)
            reference_pool = pool
            if settings.guise == "task-service":
                reference_pool = make_pool(
                    settings.monolith_database_url, f"{settings.guise} references", read_only=True, maximum=5
                )
                await reference_pool.open(wait=True, timeout=10.0)
                stack.push_async_callback(reference_pool.close)
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            audiences = tuple(part.strip() for part in settings.audience.split(","))
            self.verifier = Verifier(settings.jwks_url, settings.issuer, audiences, client)
            self.store = TaskStore(pool, References(reference_pool))
            if settings.jobs_ledger is not None:
                ledger = Ledger(settings.jobs_ledger)
                stack.callback(ledger.close)
                self.jobs = await stack.enter_async_context(Jobs(self.store, ledger, settings.guise))
                if settings.scheduler_file is not None:
                    await self._schedule(stack, ledger, settings.scheduler_file, reference_pool)
            yield

    async def _schedule(self, stack: AsyncExitStack, ledger: Ledger, turn: Path, references: Pool) -> None:
        """The scheduler, with a session of its own, which says whose it is."""
        guise = self.settings.guise
        pool = make_pool(self.settings.database_url, f"{guise} scheduler", minimum=1, maximum=1)
        await pool.open(wait=True, timeout=10.0)
        stack.push_async_callback(pool.close)
        jobs = Jobs(TaskStore(pool, References(references)), ledger, guise)
        await stack.enter_async_context(Scheduler(jobs, turn, guise))

    async def caller(self, request: Request) -> int:
        """The user of the request. Raises ApiError 401, 410 (the endpoints are off) or 503 (keys cannot be read)."""
        if self.settings.off_file is not None and self.settings.off_file.exists():
            raise ApiError(410, "The task endpoints of this application are off.")
        try:
            return user_of(await self.verifier.verify(bearer(request.headers.get("authorization"))))
        except InvalidToken:
            raise ApiError(401, "Unauthenticated.") from None
        except KeysUnavailable as error:
            raise ApiError(503, str(error)) from None

    async def health(self, _: Request) -> Response:
        """200 while the database answers."""
        await self.store.healthy()
        return JSONResponse({"status": "ok", "database": "ok"})

    async def index(self, request: Request) -> Response:
        """GET /api/tasks?limit=20&before_id=&is_completed="""
        caller = await self.caller(request)
        query = request.query_params
        limit = _number(query.get("limit", "20"), "limit", PAGE_LIMIT)
        before = _number(query["before_id"], "before_id", INT8_MAX) if "before_id" in query else None
        completed = query.get("is_completed")
        if completed not in (None, "true", "false"):
            raise invalid("is_completed", "must be true or false")
        rows = await self.store.index(caller, limit, before, None if completed is None else completed == "true")
        following = rows[-1]["id"] if len(rows) == limit else None
        return JSONResponse({"tasks": [task_json(row) for row in rows], "next_before_id": following})

    async def create(self, request: Request) -> Response:
        """POST /api/tasks"""
        caller = await self.caller(request)
        row, rows = await self.store.create(caller, parse_body(NewTask, await request.body()))
        return self._written("create", row["id"], rows, JSONResponse({"task": task_json(row)}, 201))

    async def show(self, request: Request) -> Response:
        """GET /api/tasks/{id}"""
        row = await self.store.show(await self.caller(request), task_id(request.path_params["id"]))
        return JSONResponse({"task": task_json(row)})

    async def change(self, request: Request) -> Response:
        """PUT /api/tasks/{id}"""
        caller = await self.caller(request)
        key = task_id(request.path_params["id"])
        row, rows = await self.store.change(caller, key, parse_body(TaskChange, await request.body()))
        return self._written("update", key, rows, JSONResponse({"task": task_json(row)}))

    async def delete(self, request: Request) -> Response:
        """DELETE /api/tasks/{id}"""
        key = task_id(request.path_params["id"])
        _, rows = await self.store.delete(await self.caller(request), key)
        return self._written("delete", key, rows, Response(status_code=204))

    async def complete(self, request: Request) -> Response:
        """POST /api/tasks/{id}/complete"""
        return await self._verb(request, "complete", self.store.complete)

    async def approve(self, request: Request) -> Response:
        """POST /api/tasks/{id}/approve"""
        return await self._verb(request, "approve", self.store.approve)

    async def reject(self, request: Request) -> Response:
        """POST /api/tasks/{id}/reject"""
        return await self._verb(request, "reject", self.store.reject)

    async def _verb(
        self, request: Request, verb: str, act: Callable[[int, int], Awaitable[Written[dict[str, Any]]]]
    ) -> Response:
        key = task_id(request.path_params["id"])
        row, rows = await act(await self.caller(request), key)
        return self._written(verb, key, rows, JSONResponse({"task": task_json(row)}))

    def _written(self, op: str, task: int, rows: tuple[Row, ...], answer: Response) -> Response:
        """The answer of a write, with the rows that it wrote; background jobs follow from it."""
        answer.headers[ROWS] = header_of(rows)
        if self.jobs is not None:
            self.jobs.after(op, task)
        return answer


def _number(text: str, name: str, limit: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or not 1 <= int(text) <= limit:
        raise invalid(name, f"must be a number from 1 to {limit}")
    return int(text)


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


async def _unavailable(_: Request, error: Exception) -> Response:
    # Whether a write was committed is not known here; it was not acknowledged.
    return JSONResponse({"message": f"The database is unavailable: {redact(type(error).__name__)}."}, 503)


def create_app(settings: AppSettings) -> ASGIApp:
    """The ASGI application; it connects when its lifespan starts."""
    api = Api(settings)

    def route(path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, endpoint, methods=[method])

    app = Starlette(
        routes=[
            route("/health", "GET", api.health),
            route("/api/tasks", "GET", api.index),
            route("/api/tasks", "POST", api.create),
            route("/api/tasks/{id}", "GET", api.show),
            route("/api/tasks/{id}", "PUT", api.change),
            route("/api/tasks/{id}", "DELETE", api.delete),
            route("/api/tasks/{id}/complete", "POST", api.complete),
            route("/api/tasks/{id}/approve", "POST", api.approve),
            route("/api/tasks/{id}/reject", "POST", api.reject),
        ],
        lifespan=api.lifespan,
        exception_handlers={ApiError: _api_error, **dict.fromkeys(UNAVAILABLE, _unavailable)},
    )
    return Faulty(app, settings.fault_file) if settings.fault_file else app


def serve(app: ASGIApp, port: int, served_by: str | None = None) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT; requests in flight have 10 s to end. Every answer names who served it, so that
    the share of each side can be measured."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        headers=[(SERVED_BY, served_by)] if served_by else None,
        log_level="warning",
        access_log=False,
        # Longer than any client keeps an idle connection: who sends must not meet a closing one.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        lifespan="on",
        ws="none",
    )
    uvicorn.Server(config).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one guise with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m scripts.rehearsal.app.server", allow_abbrev=False)
    parser.add_argument("--guise", choices=("monolith", "task-service"), required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    settings = AppSettings(guise=options.guise)
    serve(create_app(settings), options.port, settings.guise)


if __name__ == "__main__":
    main()
