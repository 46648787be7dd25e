"""What people read of a rehearsal and of the journal, at 80 columns."""

from __future__ import annotations

from scripts.cli import rehearse_text
from scripts.rehearsal.documents import (
    AcknowledgedWrites,
    Criterion,
    Drill,
    LoadFigures,
    Reads,
    Report,
    Requests,
    Rollback,
    Step,
    UserReads,
)
from scripts.report.documents import Story
from tests.unit.cli.shown import shown


def report(*, passed: bool) -> Report:
    criteria = [
        Criterion(name="zero downtime", passed=True, evidence="0 of 11,505 requests failed, over every step"),
        Criterion(
            name="row counts equal", passed=passed, evidence="tasks 2115=2115; task_images 863=863; task_tag 839=838"
        ),
    ]
    return Report(
        passed=passed,
        criteria=criteria,
        requests=Requests(total=11_505, failed=0, p50_ms=21, p95_ms=65),
        acknowledged_writes=AcknowledgedWrites(total=5801, lost=0, told=7),
        rollback=Rollback(seconds=5.975, acknowledged_writes_lost=0, acknowledged_writes_told=2),
        steps=[
            Step(
                weight=5,
                share=1.54,
                new_share=6.54,
                cookies=Reads(reads=1190, stale=0),
                no_cookies=Reads(reads=131, stale=3),
                seconds=16.04,
                decision="promote",
            ),
            Step(weight=0, seconds=5.975, decision="rollback"),
        ],
        drills=[],
        seconds=269.0,
        engine="embedded",
        rows={"tasks": 214},
        load=LoadFigures(
            requests=11_505,
            failed=0,
            acknowledged_writes=5801,
            lag_misses=3,
            cut_off=12,
            stale_reads=[
                UserReads(side="monolith", weight=25, reads=1204, stale=3, cookies=True),
                UserReads(side="task-service", weight=None, reads=7, stale=0, cookies=False),
            ],
            p50_ms=21,
            p95_ms=65,
            users=100,
            rate=50.02,
            seconds=230.0,
        ),
        story=Story(
            began=0.0,
            ended=1.0,
            series=[],
            limits=[],
            marks=[],
            tables=[],
            conflicts=[],
            decisions=[],
            rollbacks=[],
            shadow=[],
            parts=[],
        ),
    )


def test_a_passed_report_says_so_first_and_names_the_next_command_last() -> None:
    assert shown(rehearse_text.report(report(passed=True))) == (
        "Passed: all 2 criteria; 11,505 requests, 0 failed; 269 s\n"
        "\n"
        "ok    zero downtime: 0 of 11,505 requests failed, over every step\n"
        "ok    row counts equal: tasks 2115=2115; task_images 863=863; task_tag 839=838\n"
        "\n"
        "What the Task Service got of new users' requests, and of all; users with cookies\n"
        "and without, who read stale:\n"
        "\n"
        "weight %  new %  all %       stale  no cookies  seconds  decision\n"
        "       5   6.54   1.54  0 of 1,190    3 of 131    16.04  promote\n"
        "       0      -      -           -           -     5.97  rollback\n"
        "\n"
        "Load: 100 users, 50.0 requests/s, P50 21 ms, P95 65 ms; 5,801 writes\n"
        "acknowledged, 12 cut off before their answer, 3 answers 404 or 409 as somebody\n"
        "else was first.\n"
        "Next: task-migration preflight"
    )


def test_a_report_that_did_not_pass_says_what_failed_and_where_to_look() -> None:
    lines = shown(rehearse_text.report(report(passed=False))).splitlines()
    assert lines[0] == "NOT PASSED: 1 of 2 criteria failed; 11,505 requests, 0 failed; 269 s"
    assert lines[3] == "FAIL  row counts equal: tasks 2115=2115; task_images 863=863; task_tag 839=838"
    assert lines[-1] == "Next: look into logs/ beside the report, mend the cause, then: make rehearsal"


def test_a_drill_shows_each_way_back_in_a_row() -> None:
    one = Drill(
        weight=25,
        from_=25,
        seconds=9.1,
        phases={"routed": 5.6},
        last_request_seconds=5.7,
        proof_seconds=11.2,
        rows_compared=1200,
        total=834,
        lost=0,
        told=3,
    )
    document = report(passed=True).model_copy(update={"steps": [], "drills": [one], "load": None})
    assert shown(rehearse_text.report(document)).splitlines()[5:7] == [
        "from %  last request s  proof s  rows compared  writes  lost  told",
        "    25            5.70    11.20          1,200     834     0     3",
    ]
