"""What is measured of a machine that others keep busy, with burners of CPU beside a part of a rehearsal, and among it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from scripts.rehearsal.machine import Machine
from scripts.support.wait import wait_until

#: It burns CPU, and ends by itself should nobody end it.
BURN = "import time\nend = time.monotonic() + 40\nwhile time.monotonic() < end: pass"
#: The root of a rehearsal's processes, which burns nothing itself: it starts so many that do, and waits for them.
ROOT = (
    "import subprocess, sys, time\nburn = sys.argv[2]\n"
    "started = [subprocess.Popen([sys.executable, '-c', burn]) for _ in range(int(sys.argv[1]))]\n"
    "print('ready', flush=True)\nsys.stdin.read()\nfor one in started: one.kill()\nfor one in started: one.wait()"
)


@contextmanager
def rooted(burning: int) -> Iterator[int]:
    command = [sys.executable, "-c", ROOT, str(burning), BURN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        try:
            assert root.stdout is not None
            assert root.stdout.readline() == b"ready\n"
            yield root.pid
        finally:
            root.communicate(timeout=30)


@pytest.mark.parametrize("inside", [False, True])
def test_burners_beside_a_rehearsal_are_others_and_within_it_its_own(inside: bool) -> None:
    """Prevents a busy machine that nobody sees, and a product that is excused for the CPU that it takes itself."""
    count = 2 * len(os.sched_getaffinity(0))
    with ExitStack() as left:
        root = left.enter_context(rooted(count if inside else 0))
        if not inside:
            left.enter_context(rooted(count))
        machine = Machine(lambda: {"part": root}, lambda: (None, None), root)
        machine.start()
        left.callback(machine.stop)
        if inside:
            wait_until(lambda: machine.spent()["part"], lambda spent: spent >= 1.0, what="they burn", timeout=60.0)
        found = wait_until(
            machine.share, lambda found: found is not None and found.seconds > 6, what="some looks", timeout=60.0
        )
        spent = machine.spent()["part"]
    assert found is not None
    assert found.idle_percent < 20.0
    if inside:
        # Others have what runs beside this test, however much that is.
        assert found.ours_percent / 100.0 * found.cores * found.seconds > 0.5
        assert machine.percent("part") > 0.0
    else:
        assert found.others_percent > 80.0
        assert found.busy_percent > 80.0
        assert spent < 1.0
        assert machine.percent("part") < 50.0
    assert found.ours_percent + found.others_percent + found.idle_percent == pytest.approx(100.0, abs=0.3)


def test_the_cpu_of_processes_that_ended_or_were_started_anew_stays_theirs() -> None:
    """Prevents a report in which an application that was restarted used nothing before, or its commands used it."""
    named: dict[str, int | None] = {}
    machine = Machine(lambda: named)
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ninput()"
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            named["application"] = child.pid
            before = machine.spent().get("application", 0.0)
            wait_until(
                lambda before=before: machine.spent()["application"],  # type: ignore[misc]
                lambda spent, before=before: spent >= before + 0.5,  # type: ignore[misc]
                what="its CPU is seen",
                timeout=60.0,
            )
            child.send_signal(signal.SIGKILL)
        named.clear()
    spent = machine.spent()
    assert spent["application"] >= 1.0
    assert spent["rehearsal"] > 0.0
