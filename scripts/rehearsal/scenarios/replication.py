"""Faults of what carries the writes: a direction switched off, a slot gone, a row that nobody recorded."""

from __future__ import annotations

import psycopg

from scripts.canary.documents import CanaryRun, CanaryStep, Rollback
from scripts.copy.documents import Copy
from scripts.database import queries
from scripts.finish.documents import StartOver
from scripts.rehearsal.scenarios.night import WEIGHT, Night, superuser
from scripts.replication.documents import Started, Status
from scripts.support.errors import Refused, TimedOut
from scripts.support.events import RollbackEvent, Step
from scripts.support.wait import wait_until

SQL = queries.load("scripts.rehearsal")
#: What the hand writes, where the monolith has something else.
BY_HAND = "changed by hand"


def stalled(night: Night) -> None:
    """The subscription that brings the Task Service's writes to the monolith is switched off while users write there."""
    name = night.steps.config.reverse_subscription

    def switch_off() -> None:
        with superuser(night, "source") as source:
            source.execute(f"ALTER SUBSCRIPTION {name} DISABLE".encode())

    ran = night.stepped("the reverse direction is switched off", switch_off)
    unproven = night.event(Step.ROLLBACK, RollbackEvent.UNPROVEN)
    night.show(
        "the rollback says what it cannot prove, and why, without waiting for its limit",
        ran.status == TimedOut.exit_status and unproven is not None and "is disabled" in unproven["reason"],
        ran.last,
    )
    night.steps.command(Started, "replicate", "start")
    back = night.steps.evidence.rollback = night.steps.command(Rollback, "rollback", "--reason", "once more")
    if back.rows.proven:
        night.over(f"the direction runs again, the monolith has every write: {back.rows.checked} looked up")


def lost(night: Night) -> None:
    """The slot that keeps the monolith's writes for the Task Service is dropped: what it held cannot be had any more."""
    name = night.steps.config.subscription

    def drop() -> None:
        with superuser(night, "source") as source:

            def gone() -> bool:
                source.execute(SQL["end_reader"].encode(), (name,))
                try:
                    source.execute("SELECT pg_drop_replication_slot(%s)", (name,))
                except psycopg.errors.ObjectInUse:  # its reader came back first
                    return False
                return True

            wait_until(gone, bool, what=f"the slot {name} is dropped", timeout=30.0, interval=0.01)

    night.stepped("the forward slot is dropped", drop)
    status = night.steps.command(Status, "replicate", "status", accept=(Refused.exit_status,))
    reasons = [one.detail for one in status.findings if name in one.detail]
    night.show("replicate status names it, with what to do", bool(reasons), "; ".join(reasons))
    night.steps.told()  # the new copy forgets what was told
    night.steps.command(StartOver, "rollback", "--scenario", "data", "--reason", "the slot is gone")
    night.steps.command(Copy, "copy")
    night.replicate()
    night.over("copied anew from the monolith, which has every write; both directions run, every row is equal")


def inconsistent(night: Night) -> None:
    """A superuser changes a row of the target so that no record tells of it; then the ladder goes on unattended."""
    night.configure(watchSeconds=0.6 * night.bed.plan.watch, watchRounds=1)
    forced = ("--to", str(WEIGHT), "--force", "--reason", "before a row is changed by hand")
    night.steps.command(CanaryStep, "canary", "step", *forced, accept=(0, Refused.exit_status))
    key: list[int] = []

    def change() -> None:
        with superuser(night, "target") as target, target.transaction():
            target.execute("SET LOCAL session_replication_role = replica")
            target.execute("SET LOCAL task_migration.applying = 'on'")
            row = target.execute(SQL["change_by_hand"].encode(), (BY_HAND,)).fetchone()
            assert row is not None
            key.append(row[0])

    night.fault("a row of the target is changed behind replication", change)
    ran = night.steps.run("canary", "run")
    night.read(ran, CanaryRun)
    compared = night.steps.run("verify")
    night.show(
        "verify names the row",
        compared.status == 11 and str(key[0]) in compared.answer.decode(),
        f"exit status {compared.status}, row {key[0]}",
    )
    repaired = night.steps.run("verify", "--repair", "source")
    with superuser(night, "target") as target:
        now = target.execute("SELECT title FROM tasks WHERE id = %s", (key[0],)).fetchone()
    night.show(
        "verify --repair brings the monolith's row over",
        repaired.status == 0 and now is not None and now[0] != BY_HAND,
        f"exit status {repaired.status}",
    )
    if night.equal("every row is equal again"):
        night.over("the row is the monolith's again, every row of both sides is equal")
