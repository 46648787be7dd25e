"""The gateway's own small HTTP/1.1 client: kept connections, one request each at a time, never a second attempt.

A general client costs several milliseconds of one processor per request when a hundred users share it; this costs a
fraction, and it holds by construction that a request is sent once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

READ_BYTES = 65_536
#: Idle connections go before the applications close theirs (75 s), so that no write meets a closing one.
IDLE_SECONDS = 20.0
#: Elastic Load Balancing, 'Troubleshoot your Application Load Balancers' (HTTP 504).
CONNECT_TIMEOUT = 10.0

Headers = Sequence[tuple[bytes, bytes]]


class Unreachable(Exception):
    """No connection could be made, so nothing was sent: nobody answered in time, or the other side refused."""

    def __init__(self, reason: str, *, timed_out: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class Broken(Exception):
    """The connection ended, or spoke no HTTP, before the whole answer was there; the request may have been carried out."""


class TooSlow(Exception):
    """The answer did not come in time; the request may have been carried out."""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    used_at: float = 0.0

    def close(self) -> None:
        self.writer.close()

    def usable(self, now: float) -> bool:
        """Whether the other side has neither closed it nor said anything unasked."""
        fresh = now - self.used_at < IDLE_SECONDS
        return fresh and not self.reader.at_eof() and not self.writer.transport.is_closing()


class Upstream:
    """Sends requests to ``http://host:port`` base URLs over kept connections."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Connection]] = {}

    async def send(
        self, base: str, method: str, target: bytes, headers: Headers, body: bytes, timeout: float
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Send once; status, headers (lower-case names) and body of the answer.

        Args:
            target: path and query as they came in.
            headers: without host and length, which are written here.
            timeout: for the whole of it, in seconds.

        Raises:
            Unreachable, Broken, TooSlow.
        """
        parts = urlsplit(base)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        host = f"{address[0]}:{address[1]}".encode()
        try:
            async with asyncio.timeout(timeout):
                connection = await self._connect(address)
                try:
                    answer = await self._exchange(connection, method, target, [(b"host", host), *headers], body)
                except BaseException as error:
                    connection.close()
                    if isinstance(error, OSError | h11.ProtocolError | EOFError):
                        raise Broken(str(error)) from None
                    raise
        except TimeoutError:
            raise TooSlow from None
        if connection.state.our_state is h11.DONE and connection.state.their_state is h11.DONE:
            connection.state.start_next_cycle()
            connection.used_at = time.monotonic()
            self._idle.setdefault(address, []).append(connection)
        else:
            connection.close()
        return answer

    async def _connect(self, address: tuple[str, int]) -> _Connection:
        idle = self._idle.get(address, [])
        now = time.monotonic()
        while idle:
            # The newest first, so that connections that are too many grow old.
            connection = idle.pop()
            if connection.usable(now):
                return connection
            connection.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return _Connection(*await asyncio.open_connection(*address))
        except OSError as error:
            raise Unreachable(str(error), timed_out=isinstance(error, TimeoutError)) from None

    async def _exchange(
        self, connection: _Connection, method: str, target: bytes, headers: Headers, body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        state = connection.state
        length = [(b"content-length", str(len(body)).encode())] if body or method in ("POST", "PUT", "PATCH") else []
        out = state.send(h11.Request(method=method, target=target, headers=[*headers, *length])) or b""
        if body:
            out += state.send(h11.Data(data=body)) or b""
        connection.writer.write(out + (state.send(h11.EndOfMessage()) or b""))
        await connection.writer.drain()
        status, received, chunks = 0, [], []
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(await connection.reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                status, received = event.status_code, [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return status, received, b"".join(chunks)
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the connection was closed before the answer")

    async def aclose(self) -> None:
        """Close all idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
                with contextlib.suppress(OSError):
                    await connection.writer.wait_closed()
        self._idle.clear()
