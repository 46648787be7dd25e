"""A command's result on standard output: one JSON document, or text for a person. The same facts, none invented."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # `--help` starts neither pydantic nor rich
    from scripts.cli.view import View
    from scripts.support.document import Document
    from scripts.support.progress import Progress

D = TypeVar("D", bound="Document")


def display() -> Progress:
    """What shows long work on standard error."""
    from scripts.support import progress_display

    return progress_display.display()


def emit(document: D, *, as_json: bool, text: Callable[[D], View]) -> None:
    """Print ``document`` as one line of JSON, else what ``text`` makes of it; without passwords either way."""
    if as_json:
        sys.stdout.write(document.json_text() + "\n")
    else:
        from scripts.cli.view import show

        show(text(document.redacted()))
    sys.stdout.flush()
