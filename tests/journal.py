"""What tests look for in a journal."""

from __future__ import annotations

from typing import Any

from scripts.support.journal import Journal


def last(journal: Journal, step: str, event: str) -> dict[str, Any] | None:
    """The newest such event, or None."""
    found = [entry for entry in journal.events(step) if entry["event"] == event]
    return found[-1] if found else None
