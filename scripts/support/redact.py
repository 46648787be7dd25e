"""Passwords leave no trace in an output: every text goes through :func:`redact` on its way out."""

from __future__ import annotations

import re
from urllib.parse import unquote

_URL = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*:)(?P<secret>[^\s/]*)@", re.IGNORECASE)
_KEYWORD = re.compile(r"(?P<head>password\s*=\s*)(?P<secret>'(?:\\.|[^'\\])*'|\S+)", re.IGNORECASE)
_known: set[str] = set()


def remember_secret(secret: str | None) -> None:
    """Have ``secret`` (plain or percent-encoded) replaced by ``***`` in everything that is printed from now on."""
    if secret and len(secret) >= 4:
        _known.update({secret, unquote(secret)})


def redact(text: str) -> str:
    """``text`` without passwords: those remembered, those in URLs and those in ``password=`` settings."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _KEYWORD.sub(r"\g<head>***", _URL.sub(r"\g<head>***@", text))
