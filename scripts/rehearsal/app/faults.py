"""What is wrong with a release of the stand-in application, while a file says so: some of its answers come late, or are errors."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Fault(NamedTuple):
    """Of each ``every`` requests one waits ``seconds``, and is answered with ``status`` instead of being carried out, if there is one."""

    every: int
    seconds: float = 0.0
    status: int | None = None


class Faulty:
    """In front of ``app``; ``file`` holds a :class:`Fault` as JSON while there is one."""

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app, self._file, self._asked = app, file, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/") and self._file.exists():
            fault = Fault(*json.loads(self._file.read_text(encoding="utf-8")))
            self._asked += 1
            if self._asked % fault.every == 0:
                await asyncio.sleep(fault.seconds)
                if fault.status is not None:
                    await JSONResponse({"message": "Server Error"}, fault.status)(scope, receive, send)
                    return
        await self._app(scope, receive, send)
