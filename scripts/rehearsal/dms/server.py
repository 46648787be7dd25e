"""The stand-in of AWS DMS as a process: its JSON protocol in front of the emulated account."""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from scripts.rehearsal.dms.standin import Standin
from scripts.support.errors import MigrationError
from scripts.support.redact import redact

TARGET_PREFIX = "AmazonDMSv20160101."
#: Seconds between two reports of the latencies to CloudWatch, which has them once a minute on AWS.
REPORT_SECONDS = 5.0


class Handler(BaseHTTPRequestHandler):
    """The JSON protocol of the service, version 1.1."""

    standin: Standin

    def do_POST(self) -> None:
        """One call."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.headers.get("X-Amz-Target", "")
        operation = name.removeprefix(TARGET_PREFIX)
        if name.startswith(TARGET_PREFIX) and operation in self.standin.operations:
            try:
                self._send(
                    200, json.dumps(self.standin.answer(operation, json.loads(body or b"{}")), default=_plain).encode()
                )
            except ClientError as error:
                fault = error.response["Error"]
                self._send(400, json.dumps({"__type": fault["Code"], "message": fault["Message"]}).encode())
            except MigrationError as error:
                self._send(500, json.dumps({"__type": "InternalFailure", "message": redact(str(error))}).encode())
            return
        request = urllib.request.Request(self.standin.upstream + self.path, data=body, method="POST")
        for key, value in self.headers.items():
            if key.lower() not in ("host", "content-length", "connection"):
                request.add_header(key, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self._send(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._send(error.code, error.read())

    def do_GET(self) -> None:
        """Whether this process is there."""
        self._send(200, b"{}")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the log is for failures."""


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
    standin = Standin(given.upstream, given.state, given.lag)
    Handler.standin = standin
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    server.daemon_threads = True
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    standin.recover()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reported = 0.0
    while not ended.wait(0.2):
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            standin.report()
    standin.end()
    server.shutdown()


if __name__ == "__main__":
    main()
