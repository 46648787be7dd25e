"""What was measured: runs, medians, ratios, and whether the issue's target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Section = Literal["copy", "verify", "replication", "start"]


@dataclass(frozen=True)
class Runs:
    """The values of one thing in one session, in ``unit``."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median; a single odd run does not move it."""
        return statistics.median(self.values)

    def text(self) -> str:
        """The median with its spread, for people."""
        digits = 0 if self.median >= 100 else 1 if self.median >= 20 else 3 if self.median < 1 else 2
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} {self.unit} ({low:.{digits}f} to {high:.{digits}f})"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``peer`` is what it is compared with; without one, or when the peer was not measured, ``value`` stands alone. ``limit``
    holds for the ratio when there is a peer, else for the value's median.
    """

    section: Section
    what: str
    value: Runs | None
    peer: Runs | None = None
    limit: float | None = None
    at_least: bool = False
    judged: Literal["ratio", "value"] = "ratio"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the peer's median, or None when one of them was not measured."""
        if self.value is None or self.peer is None or not self.peer.median:
            return None
        return self.value.median / self.peer.median

    @property
    def met(self) -> bool | None:
        """Whether the issue's target is met; None without a target, or when nothing was measured."""
        if self.limit is None or self.value is None:
            return None
        seen = self.ratio if self.judged == "ratio" else self.value.median
        if seen is None:
            return None
        return seen >= self.limit if self.at_least else seen <= self.limit

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "section": self.section,
            "what": self.what,
            "unit": self.value.unit if self.value else None,
            "median": self.value.median if self.value else None,
            "runs": list(self.value.values) if self.value else [],
            "peer": self.peer.name if self.peer else None,
            "peer_median": self.peer.median if self.peer else None,
            "peer_runs": list(self.peer.values) if self.peer else [],
            "ratio": self.ratio,
            "limit": self.limit,
            "limit_is": ("at least" if self.at_least else "at most") if self.limit is not None else None,
            "limit_of": self.judged if self.limit is not None else None,
            "met": self.met,
            "note": self.note,
        }

    @classmethod
    def read(cls, document: dict[str, Any]) -> Row:
        """The row that :meth:`document` wrote down."""
        unit = document["unit"] or ""
        value = Runs(document["what"], unit, tuple(document["runs"])) if document["runs"] else None
        peer = Runs(document["peer"], unit, tuple(document["peer_runs"])) if document["peer_runs"] else None
        return cls(
            section=document["section"],
            what=document["what"],
            value=value,
            peer=peer,
            limit=document["limit"],
            at_least=document["limit_is"] == "at least",
            judged=document["limit_of"] or "ratio",
            note=document["note"],
        )


@dataclass
class Collector:
    """Gathers runs by name, in the order in which they were first seen."""

    unit: str = "s"
    _values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Keep one run's value."""
        self._values.setdefault(name, []).append(value)

    def get(self, name: str, unit: str | None = None) -> Runs | None:
        """All runs of ``name``, or None when there are none."""
        values = self._values.get(name)
        return Runs(name, unit or self.unit, tuple(values)) if values else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all values do not exceed (nearest rank). Raises ValueError when empty."""
    if not values:
        raise ValueError("no values, so no percentile; let the measurement run longer")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]
