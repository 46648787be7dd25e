"""One client's requests to the API: sent, judged by the contract, and noted."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from scripts.api.documents import Check
from scripts.api.shapes import Shape
from scripts.support.errors import UsageError
from scripts.support.redact import redact, remember_secret

#: Seconds between two looks at the side that may not have a write yet.
AGAIN_SECONDS = 0.1
#: The header in which an application may say which side it is.
SERVED_BY = "x-served-by"


def tokens_in(path: Path) -> list[str]:
    """The JWTs of a file, one a line. Raises UsageError when it cannot be read or holds none."""
    try:
        tokens = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}; write a JWT into it") from None
    except UnicodeDecodeError:
        tokens = [""]
    if not tokens:
        raise UsageError(f"the token file {path} is empty; write a JWT into it")
    for token in tokens:
        # RFC 6750, 'Authorization Request Header Field': nothing else can be sent.
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token) or token.lower() == "bearer":
            raise UsageError(
                f"the token file {path} holds what is no JWT; limit: letters, digits and -._~+/=, without `Bearer`. Write one JWT a line"
            )
        remember_secret(token)
    return tokens


def open_client(
    url: str, headers: Mapping[str, str], timeout: float, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """A client of the API at ``url`` that sends ``headers`` (secret: the smoke rule's) with every request, for at most ``timeout``
    seconds each. Raises UsageError for what is no URL of an API."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"the URL {url!r} cannot be read: {error}; write https://HOST") from None
    wrong = parts.userinfo or parts.query or parts.fragment or not 0 < (parts.port or 443) < 65536
    if parts.scheme not in ("http", "https") or not parts.host or wrong:
        raise UsageError(
            f"the URL {redact(url)!r} is of no API; limit: http or https, a host, a port up to 65535, no login and no query. Write https://HOST"
        )
    for value in headers.values():
        remember_secret(value)
    return httpx.Client(
        base_url=url.rstrip("/"), headers=dict(headers), timeout=timeout, trust_env=False, transport=transport
    )


@dataclass
class Session:
    """Requests of one client, and what each showed. ``way`` stands before the detail of each check."""

    client: httpx.Client
    #: Whose reads are looked at, and for how many seconds a side may not show that user's last write.
    token: str
    patience: float
    checks: list[Check] = field(default_factory=list)
    way: str = ""
    #: The side that acknowledged the user's last write, where it said so.
    wrote_on: str | None = None
    #: By side: answers to the user after a write, and those of them that showed the state before it.
    reads: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)

    def expect(
        self,
        endpoint: str,
        wanted: int,
        method: str,
        path: str,
        *,
        token: str | None,
        body: Any = None,
        shape: Shape | None = None,
    ) -> Any:
        """Send one request and note whether status and shape are as the contract says; return the JSON, or None.

        An answer of the other side than the one that took the user's last write may come before that write has: it is asked
        for again, and counted as a stale read once it is right.
        """
        deadline, stale = time.monotonic() + self.patience, Counter[str]()
        while True:
            check, document, early = self._once(endpoint, wanted, method, path, token, body, shape)
            if check.passed or not early or time.monotonic() >= deadline:
                break
            stale[check.served_by or ""] += 1
            time.sleep(AGAIN_SECONDS)
        self.checks.append(check)
        if check.passed:
            self.stale.update(stale)
            self.reads.update(stale)
        if token == self.token and check.served_by is not None and self.wrote_on is not None:
            self.reads[check.served_by] += 1
        if check.passed and token == self.token and method != "GET" and wanted < 300:
            self.wrote_on = check.served_by
        return document if check.passed else None

    def _once(
        self, endpoint: str, wanted: int, method: str, path: str, token: str | None, body: Any, shape: Shape | None
    ) -> tuple[Check, Any, bool]:
        """One request: how it went, its JSON, and whether it may have come before the user's last write did."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        document: Any = None
        wrong: str | None = None
        early = False
        try:
            answer = self.client.request(method, path, headers=headers, json=body)
            found = str(answer.status_code)
            passed = answer.status_code == wanted
            served = answer.headers.get(SERVED_BY)
            document = answer.json() if answer.content else None
            if passed and wanted == 204 and answer.content:
                wrong = "a body where none may be"
            elif passed and shape is not None:
                wrong = shape(document)
            elsewhere = None not in (served, self.wrote_on) and served != self.wrote_on
            early = elsewhere and token == self.token and answer.status_code < 500
        except (httpx.HTTPError, ValueError) as error:
            found, passed, served = f"{type(error).__name__}", False, None
        detail = f"{self.way}{method} {path} answered {found}, the contract says {wanted}" + (
            f"; {wrong}" if wrong else ""
        )
        check = Check(endpoint=endpoint, passed=passed and wrong is None, detail=detail, served_by=served)
        return check, document, early
