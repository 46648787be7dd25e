"""Where output is made: one JSON document on standard output, everything for people on standard error, all redacted."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from scripts.support.redact import redact

err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str, style: str = "") -> None:
    """Print one message for people (standard error); markup in it is not interpreted."""
    err.print(Text(redact(message), style=style))


def emit(document: dict[str, Any], *, as_json: bool, text: str | None = None) -> None:
    """The command's result: with ``as_json`` one JSON document, else ``text`` (or the document, indented) for people."""
    if as_json:
        sys.stdout.write(redact(json.dumps(document, ensure_ascii=False, default=str)) + "\n")
    else:
        body = text if text is not None else json.dumps(document, ensure_ascii=False, indent=2, default=str)
        sys.stdout.write(redact(body) + "\n")
    sys.stdout.flush()
