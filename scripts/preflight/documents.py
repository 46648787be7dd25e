"""What `preflight` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document

Status = Literal["pass", "warn", "fail"]


class Check(Document):
    """One finding."""

    #: The side (source, target, both), and what was looked at.
    name: str
    status: Status
    #: What was found, and the limit.
    detail: str
    #: The SQL or the step that mends it; empty where it passed.
    remedy: str

    def __init__(self, name: str, status: Status, detail: str, remedy: str = "") -> None:
        fields = {"name": name, "status": status, "detail": detail, "remedy": remedy}
        super().__init__(**fields)


class LargestRow(Document):
    """The largest row of a table."""

    table: str
    #: Of its values as JSON text, in which a write of it travels.
    bytes: int


class Preflight(Document):
    """Every check, in the order in which it was made."""

    checks: list[Check]
    #: Whether none failed.
    passed: bool
    largest_rows: list[LargestRow]
