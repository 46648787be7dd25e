"""A command's result on standard output: one JSON document, or text for a person. The same facts, none invented."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from scripts.support.redact import redact

if TYPE_CHECKING:  # `--help` starts neither pydantic nor rich
    from scripts.cli.view import View
    from scripts.support.document import Document

D = TypeVar("D", bound="Document")


def emit(document: D, *, as_json: bool, text: Callable[[D], View]) -> None:
    """Print ``document`` as one line of JSON, else what ``text`` makes of it; without passwords either way."""
    if as_json:
        sys.stdout.write(document.json_text() + "\n")
    else:
        from scripts.cli.view import show

        show(text(document.redacted()))
    sys.stdout.flush()


def emit_plain(document: dict[str, Any], *, as_json: bool, text: str | None = None) -> None:
    """For steps that do not return a model yet; goes away with the last of them."""
    if as_json:
        sys.stdout.write(redact(json.dumps(document, ensure_ascii=False, default=str)) + "\n")
    else:
        body = text if text is not None else json.dumps(document, ensure_ascii=False, indent=2, default=str)
        sys.stdout.write(redact(body) + "\n")
    sys.stdout.flush()
