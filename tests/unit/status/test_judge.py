"""Where, safe, next: for every state that a migration can be left in, and for whatever a journal may hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.config import MigrationConfig
from scripts.replication.documents import Finding
from scripts.status import told
from scripts.status.documents import Looked, Unseen, Weight
from scripts.status.seen import Seen, Watched
from scripts.support import commands
from tests.unit.status.looks import (
    BARE,
    NOW,
    RUNWAY,
    SHADOWED,
    SLOT,
    VERIFIED,
    WAY,
    WRITER,
    event,
    holder,
    judged,
    look,
    running,
    source,
    target,
)

STALLED = Finding(status="fail", what="forward: slot stalled", detail="stands still", remedy="mend it")
NEAR = Finding(status="warn", what="forward: log runway", detail="3 h", remedy="give more room")
AT_5 = {"since": "2026-11-26T00:10:00+00:00", "reached": 5, "ups": [30.0]}
STEPPING = {**AT_5, "unfinished": [5, 25]}
OWED = {**STEPPING, "unfinished": None, "owed": ["errors"]}
WAITS = f"wait for it, then: {commands.STATUS}"
CHECKED, BACKED_UP = event("preflight", "checked", passed=True), event("backup", "verified")
PREPARED = (CHECKED, BACKED_UP, event("schema", "applied"))
HOLD: dict[str, Any] = {"from": 5, "to": 25, "decision": "hold", "reasons": ["20 requests"], "seconds": 1.0}
HELD = event("canary", "decided", **HOLD)
LOST = SLOT.model_copy(update={"wal_status": "lost", "active": False})
DOWN = WAY.model_copy(update={"running": False, "lag_seconds": None, "reason": "disabled"})

#: Each state with step, whether it has ended, whether it is safe, and what follows.
STATES: dict[str, tuple[Seen, str, bool, bool, str]] = {
    "nothing at all": (look(BARE, BARE), "nothing", True, True, commands.PREFLIGHT),
    "preflight passed": (look(BARE, BARE, events=(CHECKED,)), "preflight", True, True, commands.BACKUP),
    "preflight failed": (look(BARE, BARE, events=(event("preflight", "checked", passed=False),)), "preflight", False, True, f"mend it, then: {commands.PREFLIGHT}"),
    "backup made": (look(BARE, BARE, events=(CHECKED, BACKED_UP)), "backup", True, True, commands.SCHEMA),
    "backup failed": (look(BARE, BARE, events=(CHECKED, event("backup", "failed", reason="full"))), "backup", False, True, f"mend it, then: {commands.BACKUP}"),
    "preflight looked once more": (look(BARE, BARE, events=(*PREPARED, CHECKED)), "schema", True, True, commands.COPY),
    "schema there, which keeps something on the target": (look(BARE, target(None, started=False), events=PREPARED), "schema", True, True, commands.COPY),
    "copy under way": (look(source(), target({"status": "running"}, started=False, holder=holder("copy")), events=PREPARED), "copy", False, True, WAITS),
    "copy begins": (look(BARE, target(None, started=False, holder=holder("copy"))), "copy", False, True, WAITS),
    "copy killed": (look(source(), target({"status": "running"}, started=False), events=(*PREPARED, event("copy", "slot"))), "copy", False, False, commands.COPY),
    "copied": (look(source(), target(started=False)), "copy", True, True, commands.START),
    "slot lost before the start": (look(source(slot=LOST), target(started=False)), "copy", False, False, commands.COPY),
    "slot gone before the start": (look(source(slot=None), target(started=False)), "copy", False, False, commands.COPY),
    "replicating": (look(source(), target(), running=running(verified=None, shadowed=replace(SHADOWED, match=None))), "replicate", True, True, commands.VERIFY),
    "verified": (look(source(), target(), running=running(shadowed=replace(SHADOWED, match=None))), "verify", True, True, commands.SHADOW),
    "verified by a part": (look(source(), target(), running=running(verified=replace(VERIFIED, whole_seconds=90_000.0))), "replicate", True, True, commands.VERIFY),
    "differences": (look(source(), target(), running=running(verified=replace(VERIFIED, match=False))), "replicate", True, True, commands.VERIFY),
    "a verification of yesterday": (look(source(), target(), running=running(verified=replace(VERIFIED, age_seconds=90_000.0))), "replicate", True, True, commands.VERIFY),
    "shadowed": (look(source(), target(), running=running()), "shadow", True, True, commands.STEP),
    "not running": (look(source(), target(), running=running(STALLED, forward=DOWN)), "shadow", True, False, commands.MEND),
    "little log left": (look(source(), target(), running=running(NEAR)), "shadow", True, True, commands.STEP),
    "a slow way back": (look(source(), target(), running=running(rollback_seconds=301.0)), "shadow", True, False, commands.MEND),
    "no fence": (look(source(), target(), running=running(reverse=WAY.model_copy(update={"lag_seconds": None}), rollback_seconds=None)), "shadow", True, False, commands.MEND),
    "at 5 %": (look(source(AT_5, 5), target(), running=running(shadowed=None)), "canary", True, True, commands.STEP),
    "at 5 %, verified by a part": (look(source(AT_5, 5), target(), running=running(verified=replace(VERIFIED, whole_seconds=90_000.0), shadowed=None)), "canary", True, True, commands.STEP),
    "at 50 %, verified by a part": (look(source(AT_5, 50), target(), running=running(verified=replace(VERIFIED, whole_seconds=90_000.0), shadowed=None)), "canary", True, True, commands.VERIFY),
    "at 50 % with a scheduler on the monolith": (look(source(AT_5, 50), target(), running=running(shadowed=None, not_switched=("switch it over",))), "canary", True, True, f"switch it over; then {commands.STEP}"),
    "at 5 % with a scheduler on the monolith": (look(source(AT_5, 5), target(), running=running(shadowed=None, not_switched=("switch it over",))), "canary", True, True, commands.STEP),
    "a step under way": (look(source(STEPPING, 25, holder=holder("canary step")), target(), running=running(shadowed=None)), "canary", False, True, WAITS),
    "a step killed": (look(source(STEPPING, 25), target(), running=running(shadowed=None)), "canary", False, False, commands.STEP),
    "a step on hold": (look(source(STEPPING, 25), target(), running=running(shadowed=None), events=(HELD,)), "canary", False, False, commands.STEP),
    "a step killed, replication down": (look(source(STEPPING, 25), target(), running=running(STALLED, shadowed=None)), "canary", False, False, commands.MEND),
    "owed": (look(source(OWED, 25), target(), running=running(shadowed=None)), "rollback", False, False, commands.ROLLBACK),
    "owed, the target away": (look(source(OWED, 25), None), "rollback", False, False, commands.ROLLBACK),
    "a rollback under way": (look(source(OWED, 0, holder=holder("rollback")), target(), running=running()), "rollback", False, True, WAITS),
    "the weight is 0 and nothing was proven": (look(source({**AT_5, "reached": 25}, 0), target(), running=running()), "rollback", False, False, commands.ROLLBACK),
    "a rollback that only the journal has": (look(source({**AT_5, "since": event("canary", "begun", 30)["at"]}, 5), target(), running=running(shadowed=None), events=(event("canary", "begun", 30, **{"from": 0, "to": 5}), event("rollback", "begun", 5, reasons=["gone"]))), "rollback", False, False, commands.ROLLBACK),
    "one that ended on another machine": (look(source({"back": event("rollback", "done", 2)["at"]}, 0), target(), running=running(), events=(event("rollback", "begun", 5, reasons=["gone"]),)), "shadow", True, True, commands.STEP),
    "at 100 %": (look(source({**AT_5, "reached": 100}, 100), target(), running=running(shadowed=None)), "at 100 %", True, True, commands.LAST),
    "finalize begun": (look(source(AT_5, 100, kept={"revoked": [["public"]]}), target(), running=running(shadowed=None)), "finalize", False, False, commands.FINALIZE),
    "finalize under way": (look(source(AT_5, 100, kept={"revoked": [["public"]]}, at_work=("verify",)), target(), running=running(shadowed=None)), "finalize", False, True, WAITS),
    "finalize verified": (look(source(AT_5, 100), target(kept={"finalize": {"status": "verified"}})), "finalize", False, False, commands.FINALIZE),
    "finalize killed in its removal": (look(replace(BARE, finalized="2026-11-26 00:50 UTC"), target()), "finalize", False, False, commands.FINALIZE),
    "finalized": (look(replace(BARE, finalized="2026-11-26 00:50 UTC"), BARE), "finalize", True, True, commands.END),
    "finalized, the target away": (look(replace(BARE, finalized="2026-11-26 00:50 UTC"), None), "finalize", True, False, commands.MEND),
    "finalized, the source away": (look(None, BARE, events=(*PREPARED, event("finalize", "finalized"))), "finalize", True, False, commands.MEND),
    "abandon killed before the removal": (look(source(), target(kept={"drained": {"v": 1}}), running=running()), "abandon", False, False, commands.ABANDON),
    "abandon killed in the removal": (look(BARE, target()), "abandon", False, False, commands.ABANDON),
    "abandon killed, and its journal torn": (look(BARE, target(), unseen=(Unseen(what="journal", why="torn", remedy="look"),)), "abandon", False, False, commands.ABANDON),
    "emptying killed": (look(BARE, target(), events=(event("rollback", "emptying", scenario="copy"),)), "abandon", False, False, "task-migration rollback --scenario copy"),
    "emptying of before this copy": (look(source(), target(), running=running(), events=(event("rollback", "emptying", 60 * 48, scenario="copy"),)), "shadow", True, True, commands.STEP),
    "abandoned": (look(BARE, BARE, events=(*PREPARED, event("copy", "complete"), event("abandon", "abandoned"))), "abandon", True, True, commands.ANEW),
    "emptied": (look(BARE, BARE, events=(*PREPARED, event("rollback", "emptied"))), "rollback", True, True, commands.AGAIN),
    "emptied, and no journal's end of it": (look(BARE, BARE, events=(*PREPARED, event("rollback", "emptied")), unseen=(Unseen(what="journal", why="torn", remedy="look"),)), "rollback", True, False, commands.MEND),
    "begun anew": (look(BARE, BARE, events=(*PREPARED, event("abandon", "abandoned"), CHECKED)), "preflight", True, True, commands.BACKUP),
    "the source away": (look(None, target()), "replicate", True, False, commands.MEND),
    "the target away at 5 %": (look(source(AT_5, 5), None), "canary", True, False, f"{commands.ROLLBACK} --reason TEXT, where users get errors; else {commands.MEND}"),
    "the target away after the copy": (look(source(), None, events=(*PREPARED, event("copy", "complete"))), "copy", True, False, commands.MEND),
    "both away": (look(None, None, events=(event("canary", "begun", **{"from": 0, "to": 5}), event("canary", "moved", **{"from": 0, "to": 5, "seconds": 30.0}))), "canary", False, False, f"{commands.ROLLBACK} --reason TEXT, where users get errors; else {commands.MEND}"),
    "no journal": (look(source(), target(), running=running(), events=None, unseen=(Unseen(what="journal", why="torn", remedy="look"),)), "shadow", True, False, commands.MEND),
    "replication that cannot be looked at": (look(source(), target(), unseen=(Unseen(what="replication", why="slow", remedy="wait"),)), "replicate", True, False, commands.MEND),
    "replication that nobody looked at": (look(source(AT_5, 5), target()), "canary", True, True, commands.VERIFY),
    "no evidence of a watch here": (look(source(AT_5, 5), target(), running=running(shadowed=None), unseen=(Unseen(what="last watch", why="gone", remedy="look there"),)), "canary", True, True, commands.STEP),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_told(name: str) -> None:
    seen, step, ended, safe, following = STATES[name]
    found = judged(seen)
    assert (found.place.step, found.place.ended, found.safe, found.next) == (step, ended, safe, following), (
        found.findings
    )


def test_a_whole_look_is_told_as_it_was_seen() -> None:
    """Prevents a share, an age or a name of one thing that stands beside another, where nobody can check it."""
    here = source(AT_5, 5, holder=holder("canary run"), at_work=("verify",))
    there = target(holder=holder("copy"), slot=SLOT.model_copy(update={"active": False}), runway=None)
    events = (*PREPARED, event("canary", "begun", 30, **{"from": 0, "to": 5}))
    verified = replace(VERIFIED, age_seconds=86_000.0)
    seen = look(
        here, there, running=running(NEAR, verified=verified), events=events, watched=Watched(NOW - 90, 5, 5.1, 4000)
    )
    away = Unseen(what="last watch", why="gone", remedy="look there")
    found = judged(replace(seen, now=NOW + 0.25, unseen=(away,)))
    stamps = ["2026-11-26T00:50:00+00:00"] * 3 + ["2026-11-26T00:30:00+00:00"]
    steps = ["preflight", "backup", "schema", "canary"]
    who = {"who": "task-migration {} kei@runner:99 from 10.0.0.7", "since": "2026-11-26 00:55:00 UTC"}
    assert found.plain() == {
        "stack": "prod",
        "state_dir": ".task-migration",
        "at": "2026-11-26T01:00:00+00:00",
        "place": {"step": "canary", "ended": True, "text": "5 % of the requests are on the Task Service"},
        "safe": True,
        "findings": [
            {"status": "warn", "what": "last watch: not seen", "detail": "gone", "remedy": "look there"},
            {"status": "warn", "what": "forward: log runway", "detail": "3 h", "remedy": "give more room"},
        ],
        "next": commands.STEP,
        "weight": {"declared": 5, "measured": 5.1, "requests": 4000, "watched": 5, "minutes_ago": 1.5},
        "forward_seconds": 0.1,
        "reverse_seconds": 0.1,
        "verification": {
            "match": True,
            "hours_ago": 23.89,
            "counts": True,
            "text": "both sides were found equal 23.9 h ago, below 24 h",
        },
        "shadow": {
            "match": True,
            "hours_ago": 5.0,
            "counts": True,
            "text": "both sides' answers were the same 5.0 h ago",
        },
        "conflicts": {"source": 2, "target": 1},
        "way_back": {"ready": True, "seconds": 101.0, "limit_seconds": 300.0, "reasons": []},
        "log": [
            {"side": "source", "wal_status": "reserved", "active": True, "runway": RUNWAY.plain()},
            {"side": "target", "wal_status": "reserved", "active": False, "runway": None},
        ],
        "writers": [WRITER.plain()],
        "at_work": [
            {"side": "source", "what": "moves the weight", **who, "who": who["who"].format("canary run")},
            {"side": "source", "what": "verify", "who": "task-migration verify", "since": None},
            {"side": "target", "what": "copies", **who, "who": who["who"].format("copy")},
        ],
        "unseen": [{"what": "last watch", "why": "gone", "remedy": "look there"}],
        "events": [
            {"at": at, "step": step, "event": name}
            for at, step, name in zip(stamps, steps, ("checked", "verified", "applied", "begun"), strict=True)
        ],
    }


def test_who_is_at_work_is_told_of_the_side_that_is_seen() -> None:
    found = judged(look(None, target(at_work=("verify",))))
    assert [(one.side, one.what, one.who) for one in found.at_work] == [("target", "verify", "task-migration verify")]


def test_where_nothing_was_seen_nothing_is_said_of_it() -> None:
    """Prevents a figure of nought for what nobody measured."""
    found = judged(look(None, None, events=None))
    nothing = ("forward_seconds", "reverse_seconds", "verification", "shadow", "conflicts", "way_back")
    assert [getattr(found, name) for name in nothing] == [None] * 6
    assert (found.log, found.writers, found.at_work, found.events) == ([], [], [], [])
    assert found.weight == Weight(declared=None)


def test_the_last_step_before_the_canary_is_told_in_words() -> None:
    told = [judged(STATES[name][0]).place.text for name in ("replicating", "verified", "shadowed")]
    assert told == [
        "replication was started",
        "both sides were found equal",
        "both sides are equal and answer alike",
    ]


FULL = RUNWAY.model_copy(update={"retained_bytes": RUNWAY.limit_bytes})


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        # Of a slot by its own server alone, while nothing is known of what reads it: each side's is the other direction's.
        (look(source(slot=LOST), None), [("target: not seen", "fail"), ("forward: slot lost", "fail")]),
        (look(None, target(slot=LOST)), [("source: not seen", "fail"), ("reverse: slot lost", "fail")]),
        (look(source(slot=None, runway=FULL), None), [("target: not seen", "fail"), ("forward: log runway", "fail")]),
        (look(None, target(runway=FULL)), [("source: not seen", "fail"), ("reverse: log runway", "fail")]),
        (look(source(AT_5, 5, slot=LOST, runway=FULL), target(runway=FULL)), [("forward: log runway", "fail"), ("reverse: log runway", "fail")]),
        # Where a direction stands each rule that rests on it would say so once more.
        (look(source(AT_5, 5), target(), running=running(STALLED, forward=DOWN, rollback_seconds=None, shadowed=None)), [("forward: slot stalled", "fail")]),
        (look(source(AT_5, 5), target(), running=running(STALLED, forward=DOWN, reverse=DOWN, shadowed=None)), [("forward: slot stalled", "fail")]),
        (look(source(AT_5, 5), target(), running=running(rollback_seconds=300.0, shadowed=None)), [("rollback time", "fail")]),
        # A clock, both ways and at its limit.
        (look(source(AT_5, 5, ahead=60.0), target(ahead=-60.0), running=running()), []),
        (look(source(AT_5, 5, ahead=61.0), target(ahead=-61.0), running=running()), [("source: clock", "warn"), ("target: clock", "warn")]),
        (look(source(AT_5, 5, ahead=float("nan")), target(), running=running()), [("source: clock", "warn")]),
        # The journal has what no database has: only where both were seen.
        (look(BARE, BARE, events=(*PREPARED, event("copy", "complete"))), [("journal", "warn")]),
        (look(BARE, BARE, events=(*PREPARED, event("replicate", "started"))), [("journal", "warn")]),
        (look(BARE, BARE, events=PREPARED), []),
        (look(BARE, target(None, started=False), events=(*PREPARED, event("copy", "complete"))), []),
        (look(BARE, None, events=(*PREPARED, event("copy", "complete"))), [("target: not seen", "fail")]),
    ],
)  # fmt: skip
def test_what_is_found_is_found_once(seen: Seen, told: list[tuple[str, str]]) -> None:
    """Prevents five FAILs of one cause, and none of a slot that is lost while the other side is away."""
    assert [(one.what, one.status) for one in judged(seen).findings] == told


def test_what_keeps_a_rollback_is_named() -> None:
    found = judged(STATES["no fence"][0])
    assert found.way_back is not None
    assert not found.way_back.ready
    assert "the reverse fence did not return" in found.way_back.reasons[0]


def test_an_old_verification_keeps_nobody_from_rolling_back() -> None:
    found = judged(STATES["a verification of yesterday"][0])
    assert found.way_back is not None
    assert found.way_back.ready
    assert found.verification is not None
    assert (
        found.verification.text == "the last verification began 25.0 h ago, the limit is below 24 h (verifyMaxAgeHours)"
    )


def test_a_shadow_that_nobody_asks_for_is_none() -> None:
    config = MigrationConfig(replication_engine="native", require_shadow=False)
    kept = {"shadowed": {"match": True, "began": "2026-11-26T00:30:00+00:00"}}
    found = judged(look(source(kept=kept), target(), running=running(shadowed=None)), config)
    assert (found.shadow, found.place.step, found.next) == (None, "verify", commands.STEP)


def test_clocks_that_differ_are_told_and_make_no_age_negative() -> None:
    ahead = look(source(ahead=-7200.0, kept={"verified": {"match": True, "began": "2026-11-26T00:30:00+00:00"}}), None)
    found = judged(ahead)
    assert found.verification is not None
    assert found.verification.hours_ago == 0.0
    late = judged(look(source(), target(ahead=3600.0), running=running()))
    assert [one.detail for one in (*found.findings, *late.findings) if one.what.endswith("clock")] == [
        "it is 7,200 s behind this machine's, the limit is 60 s: ages that are told here may be wrong",
        "it is 3,600 s ahead of this machine's, the limit is 60 s: ages that are told here may be wrong",
    ]


@pytest.mark.parametrize(
    ("kept", "match", "hours"),
    [
        ({"match": True, "began": "2026-11-26T00:30:00+00:00"}, True, 1.5),
        ({"match": False, "began": "2026-11-25T01:00:00+00:00"}, False, 25.0),
        ({"began": "2026-11-26T01:00:00+00:00"}, False, 1.0),
    ],
)
def test_the_source_alone_tells_of_the_last_verification_by_its_own_clock(
    kept: dict[str, Any], match: bool, hours: float
) -> None:
    """Prevents an age of another clock, and a verification that counts though nobody knows of which copy it is."""
    found = judged(look(source(ahead=3600.0, kept={"verified": kept, "shadowed": kept}), None))
    words = "matched" if match else "found differences"
    assert found.verification == Looked(
        match=match, hours_ago=hours, counts=None, text=f"the last verification {words}"
    )
    assert found.shadow == Looked(match=match, hours_ago=hours, counts=None, text=f"the last shadow {words}")
    for nothing in (None, "x", {}, {"match": True, "began": 5}, {"match": True, "began": "yesterday"}):
        seen = judged(look(source(kept={"verified": nothing, "shadowed": nothing}), None))
        assert (seen.verification, seen.shadow) == (None, None)


def test_what_was_never_done_has_no_age() -> None:
    found = judged(look(source(), target(), running=running(verified=None, shadowed=replace(SHADOWED, match=None))))
    assert found.verification == Looked(match=None, hours_ago=None, counts=False, text="nothing was verified yet")
    assert found.shadow == Looked(
        match=None, hours_ago=None, counts=False, text="nobody has compared the two sides' answers yet"
    )
    endless = judged(look(source(), target(), running=running(verified=replace(VERIFIED, age_seconds=float("inf")))))
    assert endless.verification is not None
    assert (endless.verification.hours_ago, endless.verification.counts) == (None, False)
    differ = judged(look(source(), target(), running=running(verified=replace(VERIFIED, match=False)))).verification
    assert differ is not None
    assert differ.text == "the last verification found differences"


def test_a_journal_of_another_machine_is_told() -> None:
    elsewhere = (event("canary", "moved", **{"from": 0, "to": 5, "seconds": 1.0}),)
    found = judged(
        look(source({**AT_5, "reached": 25}, 25), target(), running=running(shadowed=None), events=elsewhere)
    )
    assert found.weight.declared == 25
    assert [(one.what, one.detail) for one in found.findings] == [
        ("weight", "the source has kept 25 %, the journal's last move was to 5 %")
    ]
    assert found.safe
    less = judged(look(source(AT_5, 2), target(), running=running(shadowed=None), events=elsewhere))
    assert [one.detail for one in less.findings] == ["the source has kept 2 %, the journal's last move was to 5 %"]
    same = judged(look(source(AT_5, 5), target(), running=running(shadowed=None), events=elsewhere))
    assert same.findings == []


def test_a_database_that_another_version_wrote_is_named() -> None:
    found = judged(look(source({"of": "a later version"}, 25), target(), running=running(shadowed=None)))
    assert not found.safe
    assert "source: another version" in [one.what for one in found.findings]


def test_the_weight_stays_after_the_end() -> None:
    moved = event("canary", "moved", 20, **{"from": 50, "to": 100, "seconds": 1.0})
    ended = replace(BARE, finalized="2026-11-26 00:50 UTC")
    assert judged(look(ended, BARE, events=(moved, event("finalize", "finalized", 5)))).weight.declared == 100
    assert judged(look(ended, BARE)).weight.declared is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["weight", "status", "at", "owed", "unfinished", "since", "run"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
NAMES = (
    "begun",
    "moved",
    "decided",
    "routed",
    "done",
    "complete",
    "applied",
    "checked",
    "verified",
    "finalized",
    "abandoned",
    "emptied",
    "emptying",
    "of another version",
)
EVENTS = st.lists(
    st.builds(
        lambda step, name, minutes, facts: {**facts, **event(step, name, minutes)},
        st.sampled_from(["preflight", "backup", "schema", "copy", "replicate", "verify", "shadow", "canary", "rollback", "finalize", "abandon"]),
        st.sampled_from(NAMES),
        st.floats(-50, 3000),
        st.dictionaries(st.sampled_from(["from", "to", "seconds", "decision", "reasons", "scenario", "passed"]), JSON, max_size=4),
    ),
    max_size=12,
)  # fmt: skip
KEPT = st.dictionaries(
    st.sampled_from(
        ["canary", "copy", "finalize", "revoked", "routed", "shadowed", "slot_back", "drained", "verified"]
    ),
    JSON,
    max_size=5,
)


#: Made once: pydantic builds their models at the first, which a draw has no time for on a busy machine.
RUNS = [running(), running(STALLED), running(verified=None), running(forward=DOWN)]


@st.composite
def looks(draw: Any) -> Seen:
    """Anything that databases and journal may hold, of this version, of another one, or by somebody's hand."""
    sides = [
        draw(
            st.none()
            | st.builds(
                make,
                installed=st.booleans(),
                kept=KEPT,
                ahead=st.floats(-1e5, 1e5),
                holder=st.none() | st.just(holder("copy")),
            )
        )
        for make in (source, target)
    ]
    runs = draw(st.none() | st.sampled_from(RUNS))
    return look(*sides, events=draw(st.none() | EVENTS.map(tuple)), running=runs if all(sides) else None)


@given(looks())
@example(look(source(), target(), events=(event("rollback", "begun", 0.0) | {"reasons": [None]},)))
def test_whatever_is_seen_is_judged(seen: Seen) -> None:
    """Prevents a status that ends with a traceback in the night, and one that calls safe what it has not seen."""
    found = judged(seen)
    assert found.next
    assert found.place.text
    assert found.safe == (not any(one.status == "fail" for one in found.findings))
    if len(seen.sides) < 2:
        assert not found.safe


@given(looks(), st.sampled_from(["source", "target"]))
def test_less_seen_is_never_safer(seen: Seen, away: str) -> None:
    less = replace(seen, sides={side: one for side, one in seen.sides.items() if side != away}, running=None)
    less = replace(less, unseen=(*seen.unseen, Unseen(what=away, why="away", remedy="wake it")))
    assert not judged(less).safe


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("lacking", ["begun", "moved", "decided", "of a later version"])
def test_events_of_another_version_change_nothing(name: str, lacking: str) -> None:
    """They may be newer than what this version knows, or lack what it expects of them."""
    seen = STATES[name][0]
    if seen.events is not None:
        more = (event("canary", lacking, 4000.0), *seen.events)
        assert judged(replace(seen, events=more)).place == judged(seen).place


@pytest.mark.parametrize("name", STATES)
def test_one_more_failure_is_never_safe(name: str) -> None:
    seen = STATES[name][0]
    if seen.running is not None:
        assert not judged(replace(seen, running=running(STALLED))).safe


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "x", None])
def test_an_event_whose_figure_is_none_is_passed_by(value: Any) -> None:
    """Prevents a traceback of `status` over what somebody else wrote into the journal."""
    moved = {"at": "2026-11-27T00:00:00+00:00", "step": "canary", "event": "moved", "to": value, "seconds": 3.0}
    assert told.of([moved]).weight is None
