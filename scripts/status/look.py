"""One look at journal and databases, within seconds, whatever of it answers. Of AWS and Pulumi only a URL that is not set is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import psycopg

from scripts.canary import decisions, readiness
from scripts.copy import slot as copy_slot
from scripts.database import end_mark, error_text, helper_schema, locks
from scripts.database.connections import Connection, NotConnected, scalar, session_name
from scripts.database.sides import session
from scripts.replication import status as replication
from scripts.replication import subscriptions
from scripts.replication.directions import DIRECTIONS, publisher, slot_name, subscriber
from scripts.replication.documents import REMEDY_IN_DETAIL
from scripts.status import place
from scripts.status.documents import MigrationStatus, Unseen
from scripts.status.judge import judge
from scripts.status.seen import Running, Seen, SideSeen, Watched
from scripts.support.errors import MigrationError
from scripts.support.events import CanaryEvent, Step
from scripts.support.journal import moment
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.support.wait import begin

#: Longest that a server is waited for until it lets us in, that it may take for one statement, and that a side may take in all; seconds.
CONNECT_SECONDS, STATEMENT_SECONDS, SIDE_SECONDS = 3, 5, 10.0
#: More where the stack has to be asked for the side's URL; seconds.
URL_SECONDS = 30.0
#: Longest that the journal may take, which S3 keeps as one object an event; seconds.
JOURNAL_SECONDS = 15.0
#: Of looking at both directions, beside the fences; seconds.
RUNNING_SECONDS = 20.0
#: Newest decisions in which a watch is looked for.
DECISIONS = 5
#: Commands that are told by their sessions' names.
AT_WORK = ("verify", "repair", "compare", "finalize", "abandon", "remove", "backup")
T = TypeVar("T")


def look(settings: Settings) -> MigrationStatus:
    """Look once, and judge. Nothing that is away is an error: it is named."""
    return judge(observe(settings), settings.config, settings.stack, str(settings.state_dir))


def observe(settings: Settings) -> Seen:
    """What can be seen within some seconds, both sides and the journal at once."""
    unseen: list[Unseen] = []

    def tried(what: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except NotConnected as error:
            why, remedy = error.cause, error.remedy
        except psycopg.Error as error:
            why, remedy = error_text.told(error), error_text.remedy(error.sqlstate or "")
        except (MigrationError, OSError) as error:
            why, remedy = str(error), REMEDY_IN_DETAIL
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            # What another version of this program has kept has another shape.
            why, remedy = f"it is not as this program keeps it ({error!r})", "use the version that kept it"
        unseen.append(Unseen(what=what, why=" ".join(why.split()), remedy=remedy))
        return None

    began = {
        side: begin(partial(_side, settings, side), what=f"looking at the {side}", remedy="look whether it answers")
        for side in BOTH
    }
    journal = begin(
        lambda: tuple(settings.journal.events()), what="reading the journal", remedy="look at TASK_MIGRATION_STATE_DIR"
    )
    sides: dict[Side, SideSeen] = {}
    for side, wait in began.items():
        given = settings.source_url if side == "source" else settings.target_url
        if (seen := tried(side, partial(wait, SIDE_SECONDS + (0.0 if given else URL_SECONDS)))) is not None:
            sides[side] = seen
    events = tried("journal", lambda: journal(JOURNAL_SECONDS))
    watched = tried("last watch", lambda: _watched(settings, events or ()))
    running = None
    if len(sides) == len(BOTH) and place.started(sides["target"]) and all(one.installed for one in sides.values()):
        running = tried("replication", lambda: _running(settings, sides["source"]))
    return Seen(now=time.time(), events=events, sides=sides, running=running, watched=watched, unseen=tuple(unseen))


def _side(settings: Settings, side: Side) -> SideSeen:
    """One side by itself. Raises MigrationError when it cannot be reached, or its helper schema is somebody else's."""
    timeout = 1000 * STATEMENT_SECONDS
    with session(
        settings, side, "status", f"looking at the {side}", timeout, timeout, connect_timeout=CONNECT_SECONDS
    ) as connection:
        return _seen(settings, side, connection)


def _seen(settings: Settings, side: Side, connection: Connection) -> SideSeen:
    config = settings.config
    out = next(way for way in DIRECTIONS if publisher(way) == side)
    here = next(way for way in DIRECTIONS if subscriber(way) == side)
    ahead = float(scalar(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")) - time.time()
    slot = copy_slot.describe(connection, slot_name(settings, out))
    _, runway = replication.slot_watched(connection, out, slot, config)
    # Of a former version's schema some tables are not there.
    whole = helper_schema.whole(connection)
    names = [session_name(one) for one in AT_WORK]
    sessions = connection.execute(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name = ANY(%s) ORDER BY 1",
        (names,),
    ).fetchall()
    return SideSeen(
        installed=whole is not None,
        kept=helper_schema.several(connection, place.KEPT),
        ahead=ahead,
        slot=slot,
        runway=runway,
        subscribed=subscriptions.enabled(connection, slot_name(settings, here)),
        holder=locks.holder(connection, locks.CANARY if side == "source" else locks.COPY) if whole else None,
        at_work=tuple(name.removeprefix(session_name("")) for (name,) in sessions),
        finalized=end_mark.found(connection, config) if side == "source" else None,
    )


def _running(settings: Settings, source: SideSeen) -> Running:
    limit = settings.config.gates.replication_lag_seconds
    weight = (source.kept.get(helper_schema.ROUTED) or {"weight": 0})["weight"]

    def work() -> Running:
        status = replication.read(settings, limit, by_databases=True)
        return Running(status, readiness.by_databases(settings, status, nobody_there=not weight))

    return begin(work, what="looking at replication", remedy="task-migration replicate status")(
        3 * limit + RUNNING_SECONDS
    )


def _watched(settings: Settings, events: tuple[Mapping[str, Any], ...]) -> Watched | None:
    """The newest watch whose evidence stands in the state directory."""
    decided = [one for one in events if (one["step"], one["event"]) == (Step.CANARY, CanaryEvent.DECIDED)]
    for one in decided[: -DECISIONS - 1 : -1]:
        if one.get("decision") == "refused" or not isinstance(one.get("document"), str):
            continue
        observed = decisions.evidence(settings, one["document"])
        if observed is None or not observed.periods:
            continue
        ours = observed.total(lambda period: period.task_service).requests
        theirs = observed.total(lambda period: period.monolith).requests
        total = ours + theirs
        return Watched(moment(one), int(one["to"]), 100.0 * ours / total if total else None, total)
    return None
