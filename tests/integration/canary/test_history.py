"""What the source keeps of the canary, and when requests under way have ended after a move, by its own clock."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from scripts.canary import history
from scripts.canary.history import History
from scripts.database import helper_schema
from scripts.support.errors import DatabaseError
from scripts.support.events import Step
from tests.conftest import Pair
from tests.integration.test_chain import MakePair
from tests.journal import last


def routed(pair: Pair) -> tuple[int, float]:
    """The weight of the live rule, and in how many seconds its drain has ended."""
    kept = helper_schema.get(pair.source, helper_schema.ROUTED)
    now: Any = pair.source.execute("SELECT clock_timestamp()").fetchone()
    assert kept is not None
    return kept["weight"], (datetime.fromisoformat(kept["since"]) - now[0]).total_seconds()


def test_what_the_source_keeps_is_whole_and_moves_with_the_live_rule_alone(make_pair: MakePair) -> None:
    """Prevents late writes of the monolith that count as somebody else's, as a watch that began again moved the drain's end."""
    pair = make_pair(rows=None, drain_seconds=1000.0)
    settings = pair.settings
    # Before a copy there is nothing to keep, and nobody is stopped.
    history.record(settings, Step.CANARY, "begun", **{"from": 0, "to": 5})
    assert not helper_schema.installed(pair.source)
    assert last(settings.journal, "canary", "begun") is not None

    helper_schema.install(pair.source)
    assert history.read(settings) == History()
    history.keep(settings, Step.ROLLBACK, "routed", {"seconds_of_up": None})
    assert helper_schema.get(pair.source, helper_schema.ROUTED) is None, "it was at 0 % before"
    history.record(settings, Step.CANARY, "begun", **{"from": 0, "to": 5})
    since = history.read(settings).since
    assert history.read(settings) == History((0, 5), since=since)
    assert str(since).endswith("+00:00"), "every age is told from it"
    assert helper_schema.get(pair.source, helper_schema.ROUTED) is None
    history.record(settings, Step.CANARY, "moved", to=5, seconds=30.0)
    weight, left = routed(pair)
    assert weight == 5
    assert 900 < left <= 1000
    assert history.read(settings) == History((0, 5), None, since, (30.0,), 5)
    moved = last(settings.journal, "canary", "moved")
    assert moved is not None
    assert (moved["to"], moved["seconds"]) == (5, 30.0)

    first = helper_schema.get(pair.source, helper_schema.ROUTED)
    for step, event, facts, same in (
        (Step.CANARY, "moved", {"to": 5, "seconds": 1.0}, True),
        (Step.CANARY, "decided", {"decision": "promote"}, True),
        (Step.CANARY, "moved", {"to": 25, "seconds": 1.0}, False),
        (Step.ROLLBACK, "begun", {"reasons": ["by hand"]}, True),
        (Step.ROLLBACK, "routed", {"seconds_of_up": None}, False),
        (Step.ROLLBACK, "done", {}, True),
    ):
        history.keep(settings, step, event, facts)
        kept = helper_schema.get(pair.source, helper_schema.ROUTED)
        assert (kept == first) is same, event
        first = kept
    assert routed(pair)[0] == 0
    ended = history.read(settings)
    assert ended == History(ups=(30.0, 1.0, 1.0), back=ended.back)

    # Somebody holds the row: a rollback goes on without it after three seconds.
    begun = time.monotonic()
    with pair.source.transaction():
        pair.source.execute("SELECT FROM task_migration.settings WHERE name = 'canary' FOR UPDATE")
        with pytest.raises(DatabaseError, match="how far the canary is"):
            history.keep(settings, Step.ROLLBACK, "begun", {"reasons": []})
    assert 2.5 < time.monotonic() - begun < 30
    assert history.read(settings) == ended


SLOW = """
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN new; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON task_migration.settings FOR EACH ROW EXECUTE FUNCTION public.slow()
"""


def test_a_source_that_is_slow_is_waited_for_no_longer_than_a_rollback_can(make_pair: MakePair) -> None:
    """Prevents a rollback that stands on a source which answers late."""
    pair = make_pair(rows=None)
    helper_schema.install(pair.source)
    pair.source.execute(SLOW.format("PERFORM pg_sleep(60);").encode())
    begun = time.monotonic()
    with pytest.raises(DatabaseError, match="statement timeout"):
        history.keep(pair.settings, Step.ROLLBACK, "begun", {"reasons": []})
    assert time.monotonic() - begun < 30
    assert helper_schema.get(pair.source, history.KEPT) is None


def test_its_session_says_whose_it_is(make_pair: MakePair) -> None:
    """Prevents a session that holds the canary's row and that nobody can tell from the monolith's."""
    pair = make_pair(rows=None)
    helper_schema.install(pair.source)
    pair.source.execute(SLOW.format("new.value = to_jsonb(current_setting('application_name'));").encode())
    history.keep(pair.settings, Step.ROLLBACK, "begun", {"reasons": []})
    assert helper_schema.get(pair.source, history.KEPT) == "task-migration history"


def test_a_source_that_says_nothing_is_given_up_after_three_seconds(make_pair: MakePair) -> None:
    """Prevents a rollback that waits for a server whose address takes connections and nothing more."""
    pair = make_pair(rows=None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = SecretStr(f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x")
        with pytest.raises(DatabaseError, match="within 3 s"):
            history.read(replace(pair.settings, source_url=url))
