"""What a person sees of `status`: one screen of 80 columns for every state, with where, safe, next on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.cli.status_text import status
from scripts.replication.documents import Finding
from scripts.status.seen import Watched
from tests.unit.cli.shown import shown
from tests.unit.status.looks import NOW, SLOT, event, holder, judged, look, running, source, target
from tests.unit.status.test_judge import AT_5, STATES


def test_a_quiet_night_at_5_percent() -> None:
    seen = look(
        source(AT_5, 5, holder=holder("canary run")),
        target(),
        running=running(shadowed=None),
        watched=Watched(NOW - 840.0, 5, 4.75, 33_300),
        events=(event("canary", "decided", 14, **{"from": 0, "to": 5}),),
    )
    assert shown(status(judged(seen))) == (
        "SAFE. 5 % of the requests are on the Task Service.\n"
        "\n"
        "step         canary; looked at 01:00:00 UTC\n"
        "weight       5 % declared; the watch of 5 % ended 14 min ago and saw 4.8 % of\n"
        "             33,300 requests\n"
        "lag          forward 0.10 s, reverse 0.10 s\n"
        "verify       matched, 2.0 h ago; counts for the next step\n"
        "lost writes  3 told (source 2, target 1)\n"
        "rollback     ready: about 101 s, the limit is 300 s\n"
        "log          source: 8 days left, 1 of 10,240 MiB kept\n"
        "             target: 8 days left, 1 of 10,240 MiB kept\n"
        "who writes   source: myteacher_app_user as 'laravel' (1,200, 1 min ago)\n"
        "at work      moves the weight: task-migration canary run kei@runner:99 from\n"
        "             10.0.0.7 since 2026-11-26 00:55:00 UTC (source)\n"
        "journal      .task-migration, stack prod: 1 event, the last canary decided, 14\n"
        "             min ago\n"
        "Next: task-migration canary step"
    )


def test_the_target_away_at_5_percent() -> None:
    seen = look(source(AT_5, 5, slot=SLOT.model_copy(update={"active": False})), None)
    assert shown(status(judged(seen))) == (
        "NOT KNOWN whether it is safe: no look at target. 5 % of the requests are on the\n"
        "Task Service.\n"
        "\n"
        "step      canary; looked at 01:00:00 UTC\n"
        "weight    5 % declared; no watch is kept here\n"
        "lag       forward not measured, reverse not measured\n"
        "rollback  not known whether it would keep every write: both sides have to be\n"
        "          seen\n"
        "log       source: 8 days left, 1 of 10,240 MiB kept, NOBODY reads it\n"
        "at work   nobody: no command holds a lock\n"
        "journal   .task-migration, stack prod: empty\n"
        "\n"
        "FAIL  target: not seen: nobody answers\n"
        "      remedy: wake it\n"
        "Next: task-migration rollback --reason TEXT, where users get errors; else as\n"
        "each FAIL says, then: task-migration status"
    )


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_one_screen(name: str) -> None:
    """Prevents a verdict that has scrolled away by the time its reader looks."""
    found = judged(STATES[name][0])
    lines = shown(status(found)).splitlines()
    assert len(lines) <= 24, "\n".join(lines)
    assert lines[0].startswith("SAFE" if found.safe else "NOT ")
    assert " ".join(" ".join(lines).split()).endswith(f"Next: {found.next}")


def test_however_much_is_wrong_it_stays_about_a_screen() -> None:
    long = [
        Finding(status="fail", what=f"thing {number}", detail="word " * 300, remedy="more " * 300)
        for number in range(20)
    ]
    seen = replace(look(source(AT_5, 5), target()), running=running(*long, shadowed=None))
    text = shown(status(judged(seen)))
    assert len(text.splitlines()) <= 30
    assert "19 more: task-migration status --json" in text
    assert "thing 0" in text
