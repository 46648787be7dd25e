"""A way to the emulated AWS that can hold one answer back: the call was carried out, and the caller does not know yet."""

from __future__ import annotations

import http.client
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from scripts.rehearsal.world import EmulatedAws


class HeldAws:
    """Passes every request on. After :meth:`hold`, the answer to the first request that has the word in its body or
    target header waits until :meth:`release`; ``held`` is set once AWS has carried it out.
    """

    def __init__(self, aws: EmulatedAws) -> None:
        self.held = threading.Event()
        self._word: bytes | None = None
        self._released = threading.Event()
        port = aws.port
        assert port is not None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.note(self.command, self.path, self.headers, body)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                outer._pause(self.headers.get("X-Amz-Target", "").encode() + body)
                try:
                    self.send_response(answer.status)
                    for key, value in answer.getheaders():
                        if key.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                            self.send_header(key, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # who asked was killed
                finally:
                    connection.close()

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at what AWS holds."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def note(self, method: str, path: str, headers: Message, body: bytes) -> None:
        """Each request as it comes; nothing is kept here."""

    def hold(self, word: str) -> None:
        """Hold the next answer to a request with this word."""
        self.held.clear()
        self._released.clear()
        self._word = word.encode()

    def release(self) -> None:
        """Let it go."""
        self._released.set()

    def _pause(self, request: bytes) -> None:
        if self._word is not None and self._word in request:
            self._word = None
            self.held.set()
            self._released.wait(120)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
