"""What a person reads of `status`: one screen of 80 columns."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType

from scripts.cli.view import WIDTH, View, facts, finding
from scripts.replication.documents import REMEDY_IN_DETAIL
from scripts.status.documents import Looked, MigrationStatus
from scripts.support.figure import counted

#: Characters of all the findings that are shown, and of one text of theirs, so that it stays one screen; writers that are named.
ROOM, LONGEST, NAMED = 1000, 230, 3
#: Steps at which both directions run, and what has to be seen to know how.
LIVE = ("replicate", "verify", "shadow", "canary", "rollback", "at 100 %")
BLIND = ("source", "target", "replication")


def status(document: MigrationStatus) -> View:
    """Where, safe, next."""
    failing = [one for one in document.findings if one.status == "fail"]
    others = [one for one in document.findings if one.status != "fail"]
    told: list[RenderableType] = []
    room = ROOM
    for one in [*failing, *others]:
        text = _cut(f"{one.what}: {one.detail}")
        remedy = None if one.remedy == REMEDY_IN_DETAIL else _cut(one.remedy)
        # Each begins a line of its own.
        room -= len(text) + len(remedy or "") + WIDTH
        if told and room < 0:
            break
        told.append(finding("bad" if one.status == "fail" else "warning", text, remedy))
    if len(document.findings) > len(told):
        told.append(finding("plain", f"{len(document.findings) - len(told)} more: task-migration status --json"))
    parts: list[RenderableType] = [facts(*_facts(document)), *([Group(*told)] if told else [])]
    where = f"{document.place.text[0].upper()}{document.place.text[1:]}."
    if document.safe:
        watch = ", with something to watch" if others else ""
        return View(f"SAFE{watch}. {where}", "warning" if others else "good", parts, document.next)
    unseen = [one.what for one in document.unseen]
    if len(failing) <= len(unseen):
        return View(
            f"NOT KNOWN whether it is safe: no look at {', '.join(unseen)}. {where}", "bad", parts, document.next
        )
    return View(f"NOT SAFE, {len(failing)} failing. {where}", "bad", parts, document.next)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..., whole with --json"


def _facts(document: MigrationStatus) -> list[tuple[str, str]]:
    ended = "" if document.place.ended else ", begun and not ended"
    found = [
        ("step", f"{document.place.step}{ended}; looked at {document.at[11:19]} UTC"),
        ("weight", _weight(document)),
    ]
    # With a side away these are what somebody looks for, and nobody knows.
    blind = document.place.step in LIVE and any(one.what in BLIND for one in document.unseen)
    if document.way_back is not None or blind:
        found.append(
            ("lag", f"forward {_seconds(document.forward_seconds)}, reverse {_seconds(document.reverse_seconds)}")
        )
    for name, looked in (("verify", document.verification), ("shadow", document.shadow)):
        if looked is not None:
            found.append((name, _looked(looked)))
    if (told := document.conflicts) is not None:
        found.append(
            ("lost writes", f"{told.source + told.target:,} told (source {told.source:,}, target {told.target:,})")
        )
    if blind:
        found.append(("rollback", "not known whether it would keep every write: both sides have to be seen"))
    if (back := document.way_back) is not None:
        took = "an unknown time" if back.seconds is None else f"about {back.seconds:.0f} s"
        found.append(
            ("rollback", f"{'ready' if back.ready else 'NOT ready'}: {took}, the limit is {back.limit_seconds:g} s")
        )
    if document.log:
        found.append(("log", "\n".join(_log(document))))
    if document.way_back is not None:
        found.append(("who writes", _writers(document)))
    found += [
        ("at work", f"{one.what}: {one.who}{f' since {one.since}' if one.since else ''} ({one.side})")
        for one in document.at_work
    ]
    if not document.at_work and not any(one.what == "source" for one in document.unseen):
        found.append(("at work", "nobody: no command holds a lock"))
    found.append(("journal", _journal(document)))
    return found


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} s"


def _weight(document: MigrationStatus) -> str:
    weight = document.weight
    declared = "not known" if weight.declared is None else f"{weight.declared} % declared"
    if weight.watched is None or weight.minutes_ago is None:
        return f"{declared}; no watch is kept here"
    share = (
        "nothing"
        if weight.measured is None
        else f"{weight.measured:.1f} % of {counted(weight.requests or 0, 'request')}"
    )
    return f"{declared}; the watch of {weight.watched} % ended {_ago(weight.minutes_ago / 60)} ago and saw {share}"


def _looked(looked: Looked) -> str:
    age = "" if looked.hours_ago is None else f", {_ago(looked.hours_ago)} ago"
    result = {True: "matched", False: "DIFFERS", None: "never"}[looked.match]
    if looked.match is None:
        return "never"
    counts = {True: "counts for the next step", False: "does NOT count", None: "whether it counts is not known"}[
        looked.counts
    ]
    why = f": {looked.text}" if looked.counts is False and looked.match else ""
    return f"{result}{age}; {counts}{why}"


def _log(document: MigrationStatus) -> list[str]:
    lines = []
    for one in document.log:
        runway = one.runway
        if runway is None:
            lines.append(f"{one.side}: {one.wal_status or 'unknown'}")
            continue
        left = "nothing is written" if runway.hours is None else f"{_ago(runway.hours)} left"
        held = f"{runway.retained_bytes / 2**20:,.0f} of {runway.limit_bytes / 2**20:,.0f} MiB kept"
        # A fence that returned was read by somebody, whether he holds the slot just now or not.
        returned = document.forward_seconds if one.side == "source" else document.reverse_seconds
        lines.append(f"{one.side}: {left}, {held}{', NOBODY reads it' if returned is None and not one.active else ''}")
    return lines


def _writers(document: MigrationStatus) -> str:
    who = [
        f"{one.side}: {one.name} ({sum(one.tables.values()):,}, {_ago(one.seconds_ago / 3600)} ago)"
        for one in document.writers
    ]
    more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
    return f"{'; '.join(who[:NAMED])}{more}" if who else "nobody in the last day"


def _journal(document: MigrationStatus) -> str:
    where = f"{document.state_dir}{f', stack {document.stack}' if document.stack else ''}"
    if any(one.what == "journal" for one in document.unseen):
        return f"{where}: not read"
    if not document.events:
        return f"{where}: empty"
    last = document.events[-1]
    hours = (datetime.fromisoformat(document.at) - datetime.fromisoformat(last.at)).total_seconds() / 3600
    when = f"{_ago(hours)} ago" if hours >= 0 else "just now"
    return f"{where}: {counted(len(document.events), 'event')}, the last {last.step} {last.event}, {when}"


def _ago(hours: float) -> str:
    """A time in the unit that fits: ``12 s``, ``5 min``, ``3.2 h``, ``12 days``."""
    for unit, length, below in (("s", 1 / 3600, 1 / 60), ("min", 1 / 60, 1.0), ("h", 1.0, 72.0)):
        if hours < below:
            return f"{hours / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{hours / 24:,.0f} days"
