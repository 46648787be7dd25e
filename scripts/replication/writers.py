"""Who writes where: at weight 0 nobody but replication writes on the target, at 100 % nobody but replication on the source, and a scheduler
runs on one side at every weight. A job that both applications run does its work twice, and the copy of it travels.

Somebody's writes are those of the record of writes that no rule and no repair made. Each holds the role that logged in and its session's
`application_name` (PostgreSQL, 'Error Reporting and Logging').
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby, pairwise

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.replication import writes
from scripts.replication.documents import Finding, Writer
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side

#: Kinds of writes that somebody makes; and those that also follow by a foreign key from a user, a group or a tag that goes, as they may at
#: any time: these tables stay in the monolith.
MADE, TAKEN = ("insert", "update"), ("delete", "cleared")
#: Minutes of which a scheduler's runs on the two sides are compared.
HOUR = 60
#: Seconds after which a write where nobody should write is no longer going on.
ONGOING = 600.0
#: Seconds between the last run of a scheduler on one side and the first on the other that make a switch; the clocks of two servers differ.
SWITCH_SECONDS = 5.0
#: Switches in an hour that are somebody's doing: over, and back with a rollback.
SWITCHES = 2
BOTH_SIDES = "a scheduler on both sides"
RUNBOOK = "docs/runbook.md, 'The scheduler'"


@dataclass(frozen=True)
class Run:
    """That ``name`` wrote on a side in one minute: first and last, in seconds since the epoch."""

    side: Side
    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Seen:
    """Who wrote on either side in the last day; what schedulers did in the last hour; ``others``: on the ``silent`` side since the live rule has stood at
    ``weight`` percent and what was under way has ended. ``since`` is None before anything moved."""

    weight: int = 0
    since: str | None = None
    day: tuple[Writer, ...] = ()
    runs: tuple[Run, ...] = ()
    others: tuple[Writer, ...] = ()

    @property
    def silent(self) -> Side | None:
        """The side on which nobody but replication writes; None while both take requests."""
        sides: dict[int, Side] = {0: "target", 100: "source"}
        return sides.get(self.weight)


def read(config: MigrationConfig, sides: Mapping[Side, Connection]) -> Seen:
    """Look at both sides; nothing is seen where the helper schema is not there, or a former version's."""
    if not all(helper_schema.whole(connection) for connection in sides.values()):
        return Seen()
    routed = helper_schema.get(sides["source"], helper_schema.ROUTED) or {"weight": 0, "since": None}
    seen = Seen(
        weight=int(routed["weight"]),
        since=routed["since"],
        day=tuple(one for side in BOTH for one in _writers(sides[side], side, writes.REMEMBERED, (*MADE, *TAKEN))),
        runs=tuple(one for side in BOTH for one in _runs(sides[side], side, config)),
    )
    if seen.silent is None:
        return seen
    minutes = int(60 * config.silent_hours)
    return replace(seen, others=tuple(_writers(sides[seen.silent], seen.silent, minutes, MADE, seen.since)))


def _runs(connection: Connection, side: Side, config: MigrationConfig) -> Iterator[Run]:
    for role, application, begin, end in connection.execute(
        writes.somebody("runs", side), {"minutes": HOUR, "since": None}
    ):
        if _is_scheduler(config, application):
            yield Run(side, f"{role} as {application!r}", begin, end)


def _writers(
    connection: Connection, side: Side, minutes: int, kinds: Sequence[str], since: str | None = None
) -> Iterator[Writer]:
    given = {"minutes": minutes, "kinds": list(kinds), "since": since}
    rows = connection.execute(writes.somebody("writers", side), given).fetchall()
    for (role, application), of_tables in groupby(rows, key=lambda row: (row[0], row[1])):
        tables = list(of_tables)
        yield Writer(
            side=side,
            role=role,
            application=application,
            tables={row[2]: row[3] for row in tables},
            first=min(row[4] for row in tables),
            last=max(row[5] for row in tables),
            seconds_ago=round(min(row[6] for row in tables), 1),
        )


def judge(config: MigrationConfig, seen: Seen) -> Iterator[Finding]:
    """What is wrong with who writes where. Pure.

    On the source at 100 % it fails while it goes on, and is to be watched until `silentHours` have passed. On the target at weight 0 it is
    to be watched: `api-check --smoke` writes there as the Task Service's own scheduler would.
    """
    if seen.others:
        who = "; ".join(map(str, seen.others))
        goes_on = seen.silent == "source" and min(one.seconds_ago for one in seen.others) < ONGOING
        since = "" if seen.since is None else f", since {seen.since[:19]} UTC, when what was under way had ended"
        yield Finding(
            status="fail" if goes_on else "warn",
            what=f"{seen.silent}: somebody else writes",
            detail=f"at weight {seen.weight} % nobody but replication writes on the {seen.silent}{since}; the limit is none: {who}",
            remedy=_REMEDIES[seen.silent or "source"].format(minutes=ONGOING / 60, hours=config.silent_hours),
        )
    if _twice(seen.runs):
        ran = (
            f"on the {side}: {', '.join(sorted({run.name for run in seen.runs if run.side == side}))}" for side in BOTH
        )
        yield Finding(
            status="fail",
            what=BOTH_SIDES,
            detail=f"in the last hour {'; '.join(ran)}; the limit is one side, and a switch to the other with {SWITCH_SECONDS:g} s "
            "between: what it does is done twice",
            remedy=f"stop it on one side ({RUNBOOK}) and look what it did twice; this ends an hour after",
        )


def _twice(runs: Sequence[Run]) -> bool:
    """Whether the runs are more than those of one scheduler that was switched over, and back."""
    ordered = sorted(runs, key=lambda run: run.begin)
    switches = [(one, other) for one, other in pairwise(ordered) if one.side != other.side]
    return len(switches) > SWITCHES or any(other.begin - one.end < SWITCH_SECONDS for one, other in switches)


_REMEDIES: Mapping[Side, str] = {
    "source": f"stop it on the monolith and run it on the Task Service alone ({RUNBOOK}). Nothing is promoted until {{minutes:g}} minutes after "
    "the last write, and `finalize` refuses for {hours:g} hours (silentHours)",
    "target": f"`api-check --smoke` writes there; anything else has to rest until the weight is above 0 ({RUNBOOK})",
}


def _is_scheduler(config: MigrationConfig, application: str) -> bool:
    return any(fnmatchcase(application.lower(), pattern.lower()) for pattern in config.scheduler_names)


def not_switched(config: MigrationConfig, day: Sequence[Writer]) -> tuple[str, ...]:
    """What keeps the weight from 100 %: a scheduler that wrote on the source, and since then nowhere else. Pure."""
    mine = [one for one in day if _is_scheduler(config, one.application)]
    last = {
        side: max((one for one in mine if one.side == side), key=lambda one: one.last, default=None) for side in BOTH
    }
    source, target = last["source"], last["target"]
    if source is None or source.seconds_ago >= 3600 * config.silent_hours or (target and target.last > source.last):
        return ()
    return (
        f"the scheduler still runs on the monolith: {source}, and nothing of it on the Task Service since; at 100 % nobody but "
        f"replication writes on the source: switch it over first ({RUNBOOK}), or, where it was and had nothing to do yet, lower "
        f"silentHours ({config.silent_hours:g})",
    )


def refuse(settings: Settings) -> None:
    """Before `finalize`: the source has to be silent, else what is not switched over is lost with its rights.

    Raises:
        Refused: somebody wrote there in the last `silentHours` at 100 %, or a scheduler runs on both sides.
    """
    with both(settings, "writers", "looking who writes") as (source, target):
        seen = read(settings.config, {"source": source, "target": target})
    found = [one for one in judge(settings.config, seen) if one.status == "fail" or seen.silent == "source"]
    if found:
        raise Refused(
            f"{'; '.join(f'{one.what}: {one.detail} ({one.remedy})' for one in found)}. Nothing was changed; run finalize again then"
        )
