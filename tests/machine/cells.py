"""What applications were told is there, cell by cell, while both sides write and changes travel: an own oracle, by values alone.

Each value is written once, so a side that shows it has received it. A write that its side made over what it had seen replaces that; of two
that had not seen each other one must be there, and the other told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scripts.support.sides import BOTH, Side, other

Row = Mapping[str, str]
#: What the conflict logs say of a row: the values that lost.
Told = Mapping[str, list[Mapping[str, str | None]]]


class Cells:
    """Acknowledged writes since both sides were last seen equal, by key: cells, or None for a row that was deleted."""

    def __init__(self) -> None:
        self.written: dict[Side, dict[str, dict[str, str] | None]] = {side: {} for side in BOTH}

    def note(self, side: Side, key: str, seen: Row | None, changed: Row | None) -> None:
        """``side`` acknowledged ``changed`` cells (None: a delete) of a row of which it had ``seen`` these."""
        theirs, mine = self.written[other(side)], self.written[side]
        known = {name for name, value in (theirs.get(key) or {}).items() if seen is not None and seen[name] == value}
        replaced = known if changed is None else known & changed.keys()
        if (left := theirs.get(key)) is not None:
            theirs[key] = {name: value for name, value in left.items() if name not in replaced}
            if replaced and not theirs[key]:
                del theirs[key]
        mine[key] = None if changed is None else {**(mine.get(key) or {}), **changed}

    def lost(self, side: Side, rows: Mapping[str, Row], told: Told) -> Iterator[str]:
        """What ``side`` acknowledged and neither stands in ``rows`` nor was told."""
        for key, cells in self.written[side].items():
            row, logged = rows.get(key), told.get(key, [])
            if cells is None:
                if row is not None and not logged:
                    yield f"{side}: the delete of {key} was acknowledged, the row is there: {row}"
            elif row is None:
                if cells and not logged:
                    yield f"{side}: {key} {cells} was acknowledged, the row is gone"
            else:
                for name, value in cells.items():
                    if row[name] != value and not any(name in values for values in logged):
                        yield f"{side}: {key} {name} = {value} was acknowledged, there is {row[name]}"

    def settled(self) -> None:
        """Both sides have been compared."""
        self.written = {side: {} for side in BOTH}
