"""What the machine gives a rehearsal: whose the cores were, and how long what was due had to wait.

Cores: `/proc/stat` of the CPUs that this process may use, less what its processes used (their CPU times, those of ended children
included). Waits: a timer of a thread, and the load's users against their timetable. Beside them, where there are any, the pressure
(Linux kernel, 'PSI - Pressure Stall Information': `some` of /proc/pressure/cpu) and the time in which a container's quota held it
back ('Control Group v2': `throttled_usec` of cpu.stat).
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from scripts.rehearsal.documents import MachineShare
from scripts.rehearsal.emulated.metric_math import percentile

#: Seconds between two looks, and between two wakes of the timer.
LOOK, WAKE = 2.0, 0.1
#: Looks that the load's newest requests are of: ten seconds.
RECENT_LOOKS = 6
#: Others are to blame from so many percent of the cores on, and only where somebody had to wait: so few percent of them were idle,
#: or a timer or the load's users came so many ms late, or for so many percent of the time some process waited for a CPU.
OTHERS, IDLE, LATE_MS, PRESSURE = 15.0, 10.0, 30.0, 50.0
#: A quota that held us back for so many percent of the time is to blame by itself.
THROTTLED = 10.0
PRESSURE_FILE, OWN_CGROUP, CGROUPS = Path("/proc/pressure/cpu"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
#: Who waits for the commands that ended.
COMMANDS = "commands"


@dataclass(frozen=True)
class Look:
    """What was counted until ``at`` (seconds since the epoch): CPU seconds since the machine or the rehearsal began, and the waits
    since the look before, in ms. None: not to be had here."""

    at: float
    cores: int
    ours: float
    used: float
    idle: float
    throttled: float = 0.0
    waiting: float | None = None
    late: tuple[float, ...] = ()
    users_late: float | None = None
    #: The P95 of the users' newest requests.
    p95_ms: float | None = None


def share(looks: Sequence[Look]) -> MachineShare | None:
    """What the machine gave between the first look and the last; None of fewer than two. Pure."""
    if len(looks) < 2:
        return None
    whole = _between(looks[0], looks[-1], looks[1:])
    parts = [_between(one, other, [other]) for one, other in pairwise(looks)]
    seconds = sum(part.seconds for part in parts) or 1.0
    held = [_held_up(part) for part in parts]
    # The newest requests are those of some looks.
    quiet = [one.p95_ms for end, one in enumerate(looks[1:], 1) if not any(held[max(0, end - RECENT_LOOKS) : end])]
    return whole.model_copy(
        update={
            "busy_percent": round(
                100.0 * sum(part.seconds for part, was in zip(parts, held, strict=True) if was) / seconds, 1
            ),
            "quiet_p95_ms": percentile(sorted(value for value in quiet if value is not None), 50),
        }
    )


def _between(first: Look, last: Look, waits: Sequence[Look]) -> MachineShare:
    seconds = max(last.at - first.at, 1e-9)
    idle, used = max(0.0, last.idle - first.idle), max(0.0, last.used - first.used)
    # Both are counted in ticks and not at one instant.
    ours = min(used, max(0.0, last.ours - first.ours))
    whole = (idle + used) or 1.0
    late = sorted(one for look in waits for one in look.late)
    users = [look.users_late for look in waits if look.users_late is not None]
    waiting = None if first.waiting is None or last.waiting is None else last.waiting - first.waiting

    def percent(part: float, of: float = whole) -> float:
        return round(min(100.0, 100.0 * part / of), 1)

    return MachineShare(
        seconds=round(seconds, 1),
        cores=last.cores,
        ours_percent=percent(ours),
        others_percent=percent(used - ours),
        idle_percent=percent(idle),
        throttled_percent=percent(max(0.0, last.throttled - first.throttled), seconds),
        pressure_percent=None if waiting is None else percent(max(0.0, waiting), seconds),
        timer_late_ms=round(percentile(late, 95) or 0.0, 1),
        users_late_ms=round(max(users), 1) if users else None,
        busy_percent=0.0,
        quiet_p95_ms=None,
    )


def _held_up(part: MachineShare) -> bool:
    """Whether others held the rehearsal up: they had a real part of the cores, and somebody waited. What it used itself is no excuse:
    the product is among that."""
    waits = (
        part.idle_percent <= IDLE,
        max(part.timer_late_ms, part.users_late_ms or 0.0) >= LATE_MS,
        (part.pressure_percent or 0.0) >= PRESSURE,
    )
    return part.throttled_percent >= THROTTLED or (part.others_percent >= OTHERS and any(waits))


class Machine:
    """Looks at the machine from a thread, from its start until it is stopped.

    Args:
        named: names and ids of the processes that are told apart; what is below them counts as theirs.
        load: the load's newest figures: how late its users are, and the P95 of their newest requests, in ms.
        root: the process whose tree is the rehearsal; this one by default.
    """

    def __init__(
        self,
        named: Callable[[], Mapping[str, int | None]] = dict,
        load: Callable[[], tuple[float | None, float | None]] = lambda: (None, None),
        root: int | None = None,
    ) -> None:
        self._named, self._load, self._root = named, load, psutil.Process(root)
        self._cpus = _cpus()
        self._late: list[float] = []
        #: CPU seconds by name: of the process that has it now, and of those that had it before.
        self._now: dict[str, tuple[int, float]] = {}
        self._before: defaultdict[str, float] = defaultdict(float)
        self._looks: list[Look] = []
        #: Of each name, percent of a core between the newest two looks, and the CPU seconds that it had then.
        self._percent: dict[str, float] = {}
        self._had: dict[str, float] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._looks.append(self._look())
        self._rate(LOOK)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; safe to call twice, and without a start."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def share(self, since: float = 0.0) -> MachineShare | None:
        """What the machine gave from ``since`` (seconds since the epoch) until now; None where that is shorter than a look."""
        looks = [*self._looks, self._look()]
        began = max((number for number, one in enumerate(looks) if one.at <= since), default=0)
        return share(looks[began:])

    def spent(self) -> dict[str, float]:
        """CPU seconds until now, by name; `rehearsal` is the rest of this process, `commands` all else that it started."""
        with self._lock:
            self._processes()
        names = {*self._now, *self._before}
        return {name: round(self._before[name] + self._now.get(name, (0, 0.0))[1], 1) for name in sorted(names)}

    def percent(self, name: str) -> float:
        """What a named process and those below it used of a core, percent, between the newest two looks; 0 where it was not there."""
        return self._percent.get(name, 0.0)

    def _run(self) -> None:
        due = time.monotonic()
        looked = due
        while not self._stopped.is_set():
            due = max(due + WAKE, time.monotonic())
            self._stopped.wait(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self._late.append(1000.0 * (now - due))
            if now - looked >= LOOK:
                with suppress(psutil.Error, OSError):
                    self._looks.append(self._look())
                    self._late = []
                    self._rate(now - looked)
                looked = now

    def _rate(self, seconds: float) -> None:
        had = {name: self._before[name] + spent for name, (_, spent) in self._now.items()}
        self._percent = {
            name: 100.0 * max(0.0, spent - self._had.get(name, spent)) / seconds for name, spent in had.items()
        }
        self._had = had

    def _look(self) -> Look:
        with self._lock:
            ours = self._processes()
        used = idle = 0.0
        for number, one in enumerate(psutil.cpu_times(percpu=True)):
            if number in self._cpus or not self._cpus:
                resting = one.idle + getattr(one, "iowait", 0.0)
                idle += resting
                # A guest's time is in `user` already; what the hypervisor took (`steal`) is others'.
                used += sum(one) - resting - getattr(one, "guest", 0.0) - getattr(one, "guest_nice", 0.0)
        users_late, p95 = self._load()
        return Look(
            time.time(), len(self._cpus) or psutil.cpu_count() or 1, ours, used, idle, _throttled(), _waiting(),
            tuple(self._late), users_late, p95,
        )  # fmt: skip

    def _processes(self) -> float:
        """CPU seconds of the whole tree until now; by name they are kept."""
        spent, parents = {}, {}
        for process in (self._root, *self._root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess), process.oneshot():
                spent[process.pid] = sum(process.cpu_times()[:4])  # own and of ended children, user and system
                parents[process.pid] = process.ppid()
        named = {pid: name for name, pid in self._named().items() if pid is not None}
        by_name: defaultdict[str, float] = defaultdict(float)
        for pid, seconds in spent.items():
            above = pid
            while above not in named and above in parents and above != self._root.pid:
                above = parents[above]
            by_name[named.get(above, COMMANDS)] += seconds
        for pid, name in named.items():
            if name in self._now and self._now[name][0] != pid:
                self._before[name] += self._now[name][1]
            if pid in spent:
                self._now[name] = pid, by_name[name]
        own = sum(self._root.cpu_times()[:2])
        # Those that ended are in the tree's sum too, as children that were waited for.
        ended = sum(self._before.values()) + sum(was for pid, was in self._now.values() if pid not in spent)
        self._now["rehearsal"] = self._root.pid, own
        self._now[COMMANDS] = self._root.pid, max(0.0, by_name[COMMANDS] - own - ended)
        return sum(spent.values())


def _cpus() -> frozenset[int]:
    """The CPUs that this process may use; empty where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _waiting() -> float | None:
    """Seconds in which some process waited for a CPU, since the machine began; None without PSI."""
    with suppress(OSError, ValueError, IndexError):
        some = PRESSURE_FILE.read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return None


def _throttled() -> float:
    """Seconds in which the container's quota held it back; 0 without one."""
    with suppress(OSError, ValueError):
        # `0::/path`, and `/` inside of a container.
        own = OWN_CGROUP.read_text().strip().rpartition("::")[2].lstrip("/")
        for line in (CGROUPS / own / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "throttled_usec":
                return int(value) / 1e6
    return 0.0
