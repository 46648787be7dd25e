"""The newest verification's verdict, kept on the source: what it found, of which copy, and when it began by that server's clock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scripts.database import helper_schema
from scripts.database.connections import Connection

#: What it is called among the source's settings.
VERIFIED = "verified"


@dataclass(frozen=True)
class Begun:
    """A verification's begin: when, by the source's clock (ISO 8601), and the complete copy that it saw by the name of its run."""

    began: str
    copy: str | None


@dataclass(frozen=True)
class Verdict:
    """The newest verdict, seen from now."""

    match: bool
    #: Whether the copy that is there now was complete when the verification began.
    of_this_copy: bool
    #: Since it began. Below 0: the source's clock went back.
    age_seconds: float


def begin(source: Connection, target: Connection) -> Begun:
    """What the verdict of a verification that begins now will be of."""
    row = source.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # a SELECT without FROM gives one row
    return Begun(row[0].isoformat(), _copy(target))


def keep(source: Connection, begun: Begun, match: bool) -> None:
    """Keep a verdict on the source, in the place of the one before."""
    helper_schema.put(source, VERIFIED, {"match": match, **asdict(begun)})


def newest(source: Connection, target: Connection) -> Verdict | None:
    """The newest verdict; None when there is none."""
    kept: dict[str, Any] | None = helper_schema.get(source, VERIFIED)
    if kept is None:
        return None
    # A former version's has no begin.
    row = source.execute(
        "SELECT extract(epoch FROM clock_timestamp() - coalesce(%s::timestamptz, 'epoch'))::float8",
        (kept.get("began"),),
    ).fetchone()
    assert row is not None
    copy = _copy(target)
    return Verdict(bool(kept["match"]), copy is not None and kept.get("copy") == copy, float(row[0]))


def _copy(target: Connection) -> str | None:
    """The run of the complete copy that the target holds; None while there is none."""
    state: dict[str, Any] = helper_schema.get(target, helper_schema.COPY) or {}
    return str(state["run"]) if state.get("status") == "complete" and "run" in state else None
