"""What a fence that takes its time says of how much is still to come."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.replication import fence
from scripts.support.progress import Work


class Sender:
    """A publisher whose slot is behind by the next of ``left`` at each look."""

    def __init__(self, *left: int) -> None:
        self.left = list(left)

    def execute(self, query: object, _: Any = None) -> Sender:
        self.query = str(query)
        return self

    def fetchone(self) -> tuple[Any, ...]:
        if "pg_replication_slots" not in self.query:
            return ("0/9",)
        return (True, "reserved", 7, self.left.pop(0))


def test_the_log_still_to_come_is_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bar of a quick fence, and one that runs back or ahead while more is written."""
    monkeypatch.setattr(fence, "LOOK_SECONDS", 0.0)
    begun: list[Work] = []

    def begin() -> Work:
        begun.append(Work("forward", None, "MiB"))
        return begun[-1]

    sender: Any = Sender(8 * 2**20, 2 * 2**20, 0)
    backlog = fence._Backlog(sender, "slot", begin)
    assert not begun
    seen = []
    for _ in range(3):
        backlog.tell()
        seen.append((begun[0].done, begun[0].total))
    assert seen == [(0, 8), (6, 8), (8, 8)]
    assert len(begun) == 1
