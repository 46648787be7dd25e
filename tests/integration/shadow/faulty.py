"""The stand-in Task Service with a fault of a port to another language, which the file APP_FAULT names at each request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import sql
from starlette.requests import Request
from starlette.responses import Response

from scripts.rehearsal.app import server, store
from scripts.rehearsal.app.models import task_json

FILE = Path(os.environ["APP_FAULT"])
RIGHT = store.TASK
#: Japan's clock, taken for the column's.
WRONG = timedelta(hours=9)


class Task(sql.SQL):
    """The query of a task; under a fault it forgets that deleted ones are hidden."""

    def as_bytes(self, context: Any = None) -> bytes:
        text = RIGHT.as_bytes(context)
        return text.replace(b"t.deleted_at IS NULL", b"true") if fault() == "deleted" else text


class Api(server.Api):
    """The endpoints, with another page size under a fault."""

    async def index(self, request: Request) -> Response:
        if fault() == "page" and "limit" not in request.query_params:
            request.scope["query_string"] += b"&limit=10"
            request = Request(request.scope, request.receive)
        return await super().index(request)


def fault() -> str:
    return FILE.read_text()


def faulty(row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a task as this service makes it."""
    now, made = fault(), dict(row)
    if now == "zone":
        made = {name: value - WRONG if isinstance(value, datetime) else value for name, value in made.items()}
    if now == "number" and made["reward"] is not None:
        made["reward"] = str(made["reward"])
    if now == "tag":
        made["tags"] = made["tags"][1:]
    return task_json(made)


if __name__ == "__main__":
    store.TASK = Task(RIGHT.as_string())
    server.task_json = faulty  # type: ignore[attr-defined]
    server.Api = Api  # type: ignore[misc]
    server.main()
