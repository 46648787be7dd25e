"""The stand-in application, whose Task Service answers one request of fifty late while the file ``slow`` lies beside its scheduler's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from scripts.rehearsal.app import server
from scripts.rehearsal.app.server import AppSettings

EVERY, SECONDS = 50, 3.0


class Slow:
    """In front of ``app``; it counts while the file ``when`` is there."""

    def __init__(self, app: ASGIApp, when: Path) -> None:
        self._app, self._when, self._asked = app, when, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/") and self._when.exists():
            self._asked += 1
            if self._asked % EVERY == 0:
                await asyncio.sleep(SECONDS)
        await self._app(scope, receive, send)


if __name__ == "__main__":
    plain = server.create_app

    def create(settings: AppSettings) -> ASGIApp:
        turn = settings.scheduler_file
        return (
            Slow(plain(settings), turn.with_name("slow"))
            if turn and settings.guise == "task-service"
            else plain(settings)
        )

    server.create_app = create
    server.main()
