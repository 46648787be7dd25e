"""How far the canary is, by its events alone: what was left, what is owed, what deployments took, when a weight may be above 0 again."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.canary.history import History, history, of, routed
from scripts.canary.step import Step
from scripts.support.safety import State
from scripts.support.settings import Settings

AT = "2026-11-26T01:00:00+00:00"


def begun(begin: int, to: int, at: str = "t1") -> dict[str, Any]:
    return {"step": "canary", "event": "begun", "from": begin, "to": to, "at": at}


def decided(decision: str, **facts: Any) -> dict[str, Any]:
    return {"step": "canary", "event": "decided", "decision": decision, "reasons": ["because", "too"], **facts}


def moved(to: int = 5, seconds: Any = 3.0) -> dict[str, Any]:
    return {"step": "canary", "event": "moved", "to": to, "seconds": seconds}


BACK = {"step": "rollback", "event": "begun", "reasons": []}
ROUTED = {"step": "rollback", "event": "routed", "seconds_of_up": 2.0}
DONE = {"step": "rollback", "event": "done", "at": AT}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], History()),
        ([begun(0, 5)], History((0, 5), None, "t1")),
        ([begun(0, 5), moved()], History((0, 5), None, "t1", (3.0,), 5)),
        ([begun(0, 5), moved(), decided("hold")], History((0, 5), None, "t1", (3.0,), 5)),
        ([begun(0, 5), decided("refused")], History((0, 5), None, "t1")),
        ([begun(0, 5), moved(), decided("promote")], History(None, None, "t1", (3.0,), 5)),
        ([begun(0, 5), decided("promote"), begun(5, 25, "t2")], History((5, 25), None, "t1")),
        # The highest weight that was ever confirmed is what a rollback brings back.
        ([moved(25), moved(5, 4.0)], History(None, None, None, (3.0, 4.0), 25)),
        # Killed between the decision and the rollback: it is owed, and nothing goes up before it.
        ([begun(0, 5), moved(), decided("rollback")], History(None, ("because", "too"), "t1", (3.0,), 5)),
        ([begun(0, 5), decided("rollback", reasons=[])], History(None, ("decided",), "t1")),
        ([begun(0, 5), decided("rollback"), BACK, ROUTED], History(None, ("begun",), "t1", (2.0,))),
        ([begun(0, 5), {**BACK, "reasons": ["by hand"]}], History(None, ("by hand",), "t1")),
        ([begun(0, 5), moved(), decided("rollback"), BACK, ROUTED, DONE], History(ups=(3.0, 2.0), back=AT)),
        ([begun(0, 5), BACK, DONE, begun(0, 5, "t9")], History((0, 5), None, "t9", back=AT)),
        # Of another version, which kept less of an event; or of another step.
        ([{"step": "canary", "event": "moved", "seconds": 3.0}], History(ups=(3.0,))),
        ([{"step": "canary", "event": "decided", "decision": "rollback"}], History(owed=("decided",))),
        ([{"step": "rollback", "event": "begun"}], History(owed=("begun",))),
        ([begun(0, 5), {**DONE, "step": "verify"}, {**DONE, "event": "undone"}, {}], History((0, 5), None, "t1")),
        # The ten newest deployments tell how long the next one takes.
        ([moved(5, float(number)) for number in range(12)], History(ups=tuple(map(float, range(2, 12))), reached=5)),
    ],
)
def test_events_tell_what_was_left(events: list[dict[str, Any]], expected: History) -> None:
    """Prevents a step up while a rollback is owed, and one that forgets where it came from."""
    found = history(events)
    assert found == expected
    assert of(json.loads(json.dumps(asdict(found)))) == found, "what the source has kept is read as it was"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, True, "NaN", None])
def test_a_deployment_of_no_length_is_none(value: Any) -> None:
    """Prevents an estimate of a rollback that NaN seconds make short."""
    assert history([moved(seconds=value), {**ROUTED, "seconds_of_up": value}]).ups == ()


NO_WEIGHTS: list[Any] = [float("inf"), float("nan"), "x", None, [], {}]
#: Of another version, or a stranger's: each lacks what this one reads in it, or has it as something else.
DAMAGED: list[dict[str, Any]] = [
    {"step": "canary", "event": "begun", "at": "t0"},
    {"step": "canary", "event": "moved", "to": 25},
    *(begun(value, 5) for value in NO_WEIGHTS),
    *(moved(value) for value in NO_WEIGHTS),
]
WELL = [
    begun(0, 5),
    moved(),
    decided("hold"),
    decided("promote"),
    begun(5, 25, "t2"),
    BACK,
    ROUTED,
    DONE,
    decided("rollback"),
]


@given(st.lists(st.sampled_from([*WELL, *DAMAGED]), max_size=8))
def test_an_event_that_cannot_be_read_hides_no_other_one(events: list[dict[str, Any]]) -> None:
    """Prevents a step that goes back, or goes on, by half of a journal, as one line of it is another version's."""
    assert history(events) == history([one for one in events if not any(one is other for other in DAMAGED)])


@pytest.mark.parametrize("reasons", [None, 7, "gone", {}, []])
def test_a_rollback_is_owed_whatever_its_reasons_are(reasons: Any) -> None:
    assert history([decided("rollback", reasons=reasons)]).owed == ("decided",)
    assert history([{**BACK, "reasons": reasons}]).owed == ("begun",)


def test_a_journal_that_cannot_be_read_leads_back(tmp_path: Path) -> None:
    """Prevents a step that ends in the middle while source and journal are away: nothing then says that no rollback was begun."""
    (tmp_path / "journal.jsonl").mkdir()
    settings = Settings(MigrationConfig(), None, SecretStr("host=127.0.0.1 port=1"), None, tmp_path)
    assert Step._so_far(cast(Step, SimpleNamespace(_settings=settings))) == History()


def test_what_another_version_kept_is_refused() -> None:
    """Prevents a step that goes on from half of what was kept."""
    assert of(None) == of({}) == History()
    with pytest.raises(TypeError, match="later"):
        of({"later": 1})


@pytest.mark.parametrize(
    ("event", "weight"),
    [
        (moved(25), 25),
        (ROUTED, 0),
        (DONE, 0),
        (BACK, None),
        (begun(0, 5), None),
        (decided("promote"), None),
        ({**ROUTED, "step": "canary"}, None),
    ],
)
def test_the_live_rule_has_what_was_moved(event: dict[str, Any], weight: int | None) -> None:
    """Prevents a monolith whose late writes count as somebody else's, or never do."""
    assert routed(event) == weight


def test_a_rollback_is_owed_where_the_source_never_heard_of_it() -> None:
    """Prevents a ladder that begins anew over writes which nobody has proven to be on the monolith."""
    so_far = history([begun(0, 5, AT), moved(), decided("promote"), begun(5, 25), moved(25)])
    said = f"the weight is 0 %, was 25 %, and no rollback since {AT} was proven"
    assert so_far.state(0, 0).rollback_owed == (said,)
    assert [so_far.state(*weights).rollback_owed for weights in ((25, 0), (0, 25), (5, 5))] == [None] * 3
    assert history([begun(0, 5)]).state(0, 0).rollback_owed is None
    assert history([moved(), DONE]).state(0, 0).rollback_owed is None


def test_transitions_are_judged_by_all_that_was_left() -> None:
    """Prevents a transition that is allowed as nobody told its judge of the unfinished step or of the rollback that is owed."""
    left = [begun(0, 5, AT), moved()]
    assert history(left).state(0, 5) == State(declared=0, live=5, step=(0, 5), owed=None, reached=5, since=AT)
    owed = history([*left, decided("rollback")])
    assert owed.state(5, None) == State(declared=5, live=None, step=None, owed=("because", "too"), reached=5, since=AT)


def test_no_step_up_while_cookies_of_before_the_rollback_count() -> None:
    """Prevents half of the users on the Task Service at 5 %, right after a rollback from 50 %."""
    back, at = history([moved(50), BACK, DONE]), datetime.fromisoformat(AT)
    assert History().bound(60, at) is None
    assert back.bound(0, at) is None
    assert back.bound(0, at - timedelta(seconds=10)) is None, "no cookie, whatever the clocks say"
    for seconds in (60, 61):
        assert back.bound(60, at + timedelta(seconds=seconds)) is None
    text = back.bound(60, at + timedelta(seconds=18))
    assert text is not None
    assert "by a cookie that counts for 42 s more (canaryStickySeconds 60); step again after that" in text
    assert back.bound(60, at + timedelta(seconds=59)) is not None
