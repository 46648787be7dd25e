"""What a person reads of `replicate`: verdict first, figures that matter, findings with remedies, what to type next."""

from __future__ import annotations

from typing import Any

from scripts.cli import replicate_text
from scripts.copy.documents import SlotState
from scripts.replication.documents import (
    REMEDY_IN_DETAIL,
    DirectionState,
    DmsDirectionState,
    DmsLatency,
    Finding,
    HeldWrites,
    RecordOfWrites,
    Runway,
    SequenceBand,
    Started,
    Status,
    Stopped,
    ToldConflicts,
    Waited,
)
from tests.unit.cli.shown import shown

BAND = SequenceBand(
    table="tasks",
    column="id",
    sequence="tasks_id_seq",
    source_last=1204,
    target_last=1_000_000_017,
    band_start=1_000_000_000,
    used_percent=0.0,
    status="ok",
)
TAGS = BAND.model_copy(
    update={"sequence": "scheduled_task_tags_id_seq", "source_last": 830_000_000, "used_percent": 83}
)


def direction(**changes: Any) -> DirectionState:
    slot = SlotState(
        active=True,
        active_pid=71,
        wal_status="reserved",
        confirmed_lsn="0/1",
        retained_bytes=3 * 2**20,
        lag_bytes=120,
    )
    runway = Runway(
        hours=812.5,
        rate_bytes_per_second=17000.0,
        measured_over_seconds=600.0,
        retained_bytes=3 * 2**20,
        limit_bytes=50 * 2**30,
        limit="walAllowanceGb",
    )
    state = DirectionState(
        running=True, lag_bytes=120, lag_seconds=0.0123, reason=None, apply_errors=0, slot=slot, runway=runway
    )
    return state.model_copy(update=changes)


HELD = HeldWrites(records=1024, bytes=2**19, pruned=2_000_000)


def document(**changes: Any) -> Status:
    made = Status(
        status="ok",
        findings=[],
        forward=direction(),
        reverse=direction(lag_seconds=0.2),
        sequences=[BAND, TAGS],
        schema_match=True,
        drift=[],
        conflicts=ToldConflicts(source=0, target=0),
        writes=RecordOfWrites(source=HELD, target=HELD),
    )
    return made.model_copy(update=changes)


def test_started() -> None:
    lag = {"forward_seconds": 0.0312, "reverse_seconds": 1.5}
    assert shown(replicate_text.started(Started(status="started", found=["slot a"], **lag))) == (
        "Replication runs both ways.\n"
        "\n"
        "direction           came through in s\n"
        "forward, to target               0.03\n"
        "reverse, to source               1.50\n"
        "Next: task-migration verify"
    )
    again = shown(replicate_text.started(Started(status="already-running", found=[], **lag)))
    assert again.splitlines()[0] == "Replication ran both ways already; nothing was changed."


def test_waited() -> None:
    found = Waited(forward_seconds=0.03, reverse_seconds=12.0, sequences=[BAND, TAGS])
    assert shown(replicate_text.waited(found)) == (
        "Everything written so far is on the other side, both ways.\n"
        "\n"
        "direction           came through in s\n"
        "forward, to target               0.03\n"
        "reverse, to source              12.00\n"
        "Ids: nearest to the target's band is scheduled_task_tags_id_seq, at 830,000,000\n"
        "of 1,000,000,000.\n"
        "Next: task-migration status"
    )


def test_stopped() -> None:
    names = ["task_service_sub", "monolith_sub"]
    assert shown(replicate_text.stopped(Stopped(status="stopped", drained=True, stopped=names))) == (
        "Replication is stopped; what was written before is on the other side.\n"
        "\n"
        "stopped\n"
        "task_service_sub\n"
        "monolith_sub\n"
        "Next: task-migration replicate start"
    )
    assert shown(replicate_text.stopped(Stopped(status="stopped", drained=False, stopped=names))).startswith(
        "Replication is stopped; what was not over yet waits in the slots.\n"
    )
    assert shown(replicate_text.stopped(Stopped(status="not-running", drained=False, stopped=[]))) == (
        "Replication did not run; nothing was stopped.\nNext: task-migration replicate start"
    )


def test_status_of_what_runs() -> None:
    assert shown(replicate_text.status(document())) == (
        "Replication runs both ways.\n"
        "\n"
        "direction           runs  lag s  behind MiB  log kept MiB  lasts h  errors\n"
        "forward, to target  yes    0.01        0.00          3.00      812       0\n"
        "reverse, to source  yes    0.20        0.00          3.00      812       0\n"
        "Ids: nearest to the target's band is scheduled_task_tags_id_seq, at 830,000,000\n"
        "of 1,000,000,000.\n"
        "Schema: the same on both sides.\n"
        "\n"
        "record of writes  records kept   MiB  own pruned  lost writes told\n"
        "source                   1,024  0.50   2,000,000                 0\n"
        "target                   1,024  0.50   2,000,000                 0\n"
        "Next: task-migration status"
    )


def test_status_of_what_fails() -> None:
    """Prevents a cause without its remedy, or a table where a direction that is down looks like one that runs."""
    down = Finding(
        status="fail", what="forward: not running", detail="the subscription x is disabled", remedy=REMEDY_IN_DETAIL
    )
    soon = Finding(status="warn", what="forward: log runway", detail="3 h until the log is full", remedy="more room")
    found = document(
        status="fail",
        findings=[soon, down],
        forward=direction(running=False, lag_seconds=None, lag_bytes=None, runway=None, apply_errors=12),
        conflicts=ToldConflicts(source=2, target=0),
    )
    assert shown(replicate_text.status(found)) == (
        "Replication runs reverse, to the source, only: 1 failing, 1 to watch.\n"
        "\n"
        "direction           runs  lag s  behind MiB  log kept MiB  lasts h  errors\n"
        "forward, to target  no        -           -             -        -      12\n"
        "reverse, to source  yes    0.20        0.00          3.00      812       0\n"
        "\n"
        "FAIL  forward: not running: the subscription x is disabled\n"
        "\n"
        "warn  forward: log runway: 3 h until the log is full\n"
        "      remedy: more room\n"
        "\n"
        "record of writes  records kept   MiB  own pruned  lost writes told\n"
        "source                   1,024  0.50   2,000,000                 2\n"
        "target                   1,024  0.50   2,000,000                 0\n"
        "Next: as each FAIL says, then: task-migration replicate status"
    )


def test_status_with_aws_dms() -> None:
    state = DmsDirectionState(
        **{name: getattr(direction(), name) for name in DirectionState.model_fields},
        task="running",
        latency=DmsLatency(source_seconds=1.0, target_seconds=None),
        tables=[],
    )
    lines = shown(replicate_text.status(document(forward=state, reverse=state))).splitlines()
    assert lines[6:9] == [
        "AWS DMS             task     capture s  apply s",
        "forward, to target  running       1.00        -",
        "reverse, to source  running       1.00        -",
    ]
