"""Where the numbers of a picture's marks stand, so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scripts.report.documents import Mark

#: Marks that a reader looks for first.
GRAVE = frozenset({"breach", "rollback", "fault"})


@dataclass(frozen=True)
class Label:
    """Numbers of marks above a plot, centred at ``at`` (pixels), in one of the lanes."""

    at: float
    first: int
    last: int
    grave: bool
    lane: int

    @property
    def text(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"

    def touches(self, other: Label, font: float) -> bool:
        wide = 0.7 * font * (len(self.text) + len(other.text)) / 2 + 6
        return self.lane == other.lane and abs(self.at - other.at) < wide


def labels(marks: Sequence[Mark], at: Sequence[float], lanes: int, font: float) -> list[Label]:
    """The marks' numbers in order: each in the lowest lane with room for it, else together with the one before it.

    ``at``: where each mark is, pixels; ``font``: the height of a letter.
    """
    placed: list[Label] = []
    for number, (mark, place) in enumerate(zip(marks, at, strict=True), 1):
        label = Label(place, number, number, mark.kind in GRAVE, 0)
        while True:
            free = [
                lane for lane in range(lanes) if not any(replace(label, lane=lane).touches(one, font) for one in placed)
            ]
            if free or not placed:
                placed.append(replace(label, lane=min(free, default=0)))
                break
            one = placed.pop()
            label = Label((one.at + label.at) / 2, one.first, label.last, one.grave or label.grave, 0)
    return placed
