"""What `preflight` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document

Status = Literal["pass", "warn", "fail"]


class Check(Document):
    """One finding; ``remedy`` is the SQL or the step that mends it."""

    name: str
    status: Status
    detail: str
    remedy: str

    def __init__(self, name: str, status: Status, detail: str, remedy: str = "") -> None:
        fields = {"name": name, "status": status, "detail": detail, "remedy": remedy}
        super().__init__(**fields)


class LargestValue(Document):
    """The largest value of a table, in bytes of its text; ``column`` is empty where no column can grow."""

    table: str
    column: str
    bytes: int


class Preflight(Document):
    """Every check in the order in which it was made; ``passed`` is whether none failed."""

    checks: list[Check]
    passed: bool
    largest_values: list[LargestValue]
