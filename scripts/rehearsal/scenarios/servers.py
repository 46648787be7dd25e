"""Faults of servers and of whole commands: the monolith's database restarts, a copy dies in the middle."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from scripts.copy.documents import Copy
from scripts.database import queries
from scripts.database.connections import session_name
from scripts.rehearsal.scenarios.night import Night, superuser
from scripts.rehearsal.steps import Ran
from scripts.schema.documents import SchemaApplied
from scripts.support.events import CopyEvent, Step
from scripts.support.wait import wait_until

SQL = queries.load("scripts.rehearsal")
#: What a client has of a session that was ended, whichever it sees first.
ENDED = "administrator command|closed the connection"


def restarted(night: Night) -> None:
    """The monolith's server is stopped without a checkpoint and started again, under load, in the middle of a watch."""
    server = night.bed.databases.server("source")

    def restart() -> None:
        server.stop(immediate=True)
        server.start()

    ran = night.stepped("the monolith's server restarts", restart)
    decided = night.found.document is not None
    night.show("the command goes on and decides", decided, f"exit status {ran.status}; {ran.last}")
    if night.equal("both directions go on by themselves, and every row is equal"):
        night.over(f"{night.found.outcome or 'nothing moved'}; both directions run again, every row is equal")


def killed(night: Night) -> None:
    """The sessions of a copy are ended by the server; then one is killed itself. Each has rows on the target, and its last acts to come."""
    night.steps.command(SchemaApplied, "schema", "apply")

    def end_sessions(_: subprocess.Popen[bytes]) -> None:
        with superuser(night, "target") as target:
            target.execute(SQL["end_copy"].encode(), (session_name("copy"),))

    ran = _halfway(night, end_sessions)
    night.show(
        "a copy whose sessions are ended says what to do",
        "run it again, it starts anew" in ran.last and bool(re.search(ENDED, ran.last)),
        f"exit status {ran.status}; {ran.last}",
    )
    ran = _halfway(night, lambda child: night.fault("the copy is killed", child.kill))
    night.show("it was killed, not done", ran.status < 0, f"exit status {ran.status}")
    copied = night.steps.command(Copy, "copy")
    if begun := night.event(Step.COPY, CopyEvent.STARTED):
        night.seen_at(begun, copied.found)
        night.decided("starts anew" if copied.status == "complete" and "starts anew" in copied.found else copied.status)
    night.replicate()
    night.over("the copy is complete, both directions run, every row of both sides is equal")


def _halfway(night: Night, interrupt: Callable[[subprocess.Popen[bytes]], object]) -> Ran:
    """A copy that ``interrupt`` meets when the target has tasks. What it would do last waits until then, however quick it is."""
    children: list[subprocess.Popen[bytes]] = []
    with superuser(night, "target") as holder, superuser(night, "target") as looker:

        def rows() -> bool:
            found = looker.execute("SELECT EXISTS (SELECT FROM tasks)").fetchone()
            return bool(found and found[0])

        since = time.time()
        with holder.transaction(force_rollback=True), ThreadPoolExecutor(1) as pool:
            going = pool.submit(night.steps.run, "copy", begun=children.append)

            def begun() -> bool:
                return going.done() or night.event(Step.COPY, CopyEvent.SLOT, since) is not None

            wait_until(begun, bool, what="the copy's slot", timeout=60.0, interval=0.005)
            holder.execute("ALTER SEQUENCE tasks_id_seq CACHE 1")
            wait_until(lambda: going.done() or rows(), bool, what="tasks on the target", timeout=60.0, interval=0.02)
            interrupt(children[0])
            return going.result()
