"""The stand-in of AWS DMS as a process: its JSON protocol in front of the emulated account."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.exceptions import ClientError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.rehearsal.app.server import serve
from scripts.rehearsal.dms.standin import JSON, Standin
from scripts.rehearsal.emulated.publish import Publisher, minute_of
from scripts.support.errors import MigrationError
from scripts.support.redact import redact

TARGET_PREFIX = "AmazonDMSv20160101."
_OF_ONE_CONNECTION = ("host", "content-length", "connection")


def create_server(standin: Standin) -> Starlette:
    """The service's JSON protocol, version 1.1, as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=standin.upstream, trust_env=False, timeout=30.0) as app.state.account:
            await run_in_threadpool(standin.recover)
            cloudwatch: Any = boto3.client("cloudwatch", endpoint_url=standin.upstream)
            publisher = Publisher(cloudwatch, minute_of(os.environ), standin.measure)
            yield
            publisher.stop()
        await run_in_threadpool(standin.end)

    async def call(request: Request) -> Response:
        body = await request.body()
        operation = request.headers.get("x-amz-target", "").removeprefix(TARGET_PREFIX)
        if operation in standin.operations:
            return await run_in_threadpool(_answer, standin, operation, json.loads(body or b"{}"))
        headers = {name: value for name, value in request.headers.items() if name not in _OF_ONE_CONNECTION}
        answer = await request.app.state.account.post(request.url.path, content=body, headers=headers)
        return _json(answer.status_code, answer.content)

    async def there(_: Request) -> Response:
        return _json(200, b"{}")

    return Starlette(
        routes=[Route("/{path:path}", call, methods=["POST"]), Route("/", there, methods=["GET"])], lifespan=lifespan
    )


def _answer(standin: Standin, operation: str, request: JSON) -> Response:
    try:
        return _json(200, json.dumps(standin.answer(operation, request), default=_plain).encode())
    except ClientError as error:
        fault = error.response["Error"]
        return _json(400, json.dumps({"__type": fault["Code"], "message": fault["Message"]}).encode())
    except MigrationError as error:
        return _json(500, json.dumps({"__type": "InternalFailure", "message": redact(str(error))}).encode())


def _json(status: int, content: bytes) -> Response:
    return Response(content, status, media_type="application/x-amz-json-1.1")


def _plain(value: Any) -> Any:
    return value.timestamp() if hasattr(value, "timestamp") else str(value)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--upstream", required=True, help="The emulated account's endpoint.")
    options.add_argument("--state", type=Path, required=True, help="File that keeps which tasks run.")
    options.add_argument("--lag", type=float, default=0.0, help="Seconds before a change is applied, at least.")
    given = options.parse_args()
    serve(create_server(Standin(given.upstream, given.state, given.lag)), given.port)


if __name__ == "__main__":
    main()
