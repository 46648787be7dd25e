"""A command's result on standard output: one JSON document, or text for a person. The same facts, none invented."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scripts.support.errors import MigrationError

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
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if as_json:
            sys.stdout.write(document.json_text() + "\n")
        else:
            from scripts.cli.view import show

            show(text(document.redacted()))
        sys.stdout.flush()
    except OSError as error:
        # What Python would try to write again when it ends goes nowhere (Python documentation, 'signal', 'Note on SIGPIPE').
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        raise MigrationError(
            f"the command did its work, and its result could not be written to standard output ({error.strerror}); see what was done: "
            "task-migration status, or send the output to a file"
        ) from None
