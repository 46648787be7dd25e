"""The live load: Locust with the same file that a team runs against staging, and what it measured."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.rehearsal.documents import LoadFigures, UserReads
from scripts.rehearsal.processes import Processes
from scripts.support.errors import MigrationError
from scripts.support.figure import figure
from scripts.support.settings import PROJECT_ROOT
from scripts.support.wait import wait_until

LOAD_TEST = PROJECT_ROOT / "tests" / "load" / "task_service_load_test.py"
SUMMED = ("requests", "failed", "acknowledged_writes", "lag_misses", "cut_off")


class Load:
    """Starts and stops the load, maybe several times; ``directory`` has the tokens, the ledger and the figures."""

    def __init__(self, processes: Processes, directory: Path, seed: int, without_cookies: int = 10) -> None:
        """``without_cookies`` is the percentage of users who keep none."""
        self._processes, self._seed, self._without_cookies = processes, seed, without_cookies
        self.running = False
        self.tokens = directory / "tokens.json"
        self.ledger = directory / "ledger.jsonl"
        self._file = directory / "load.json"
        self._began, self._requests_before, self._users = 0.0, 0, 0
        self._ended: list[dict[str, Any]] = []

    def start(self, host: str, users: int, rate: float, task_group: str) -> None:
        """Send ``rate`` requests/s of all ``users`` to the gateway ``host``; returns when all users are at work."""
        options = ("--headless", "--only-summary", "-u", str(users), "-r", str(users), "--host", host)
        self._processes.start(
            "locust",
            [sys.executable, "-m", "locust", "-f", str(LOAD_TEST), *options],
            {
                "PYTHONPATH": str(PROJECT_ROOT),
                "TASK_LOAD_TOKENS_FILE": str(self.tokens),
                "TASK_LOAD_LEDGER": str(self.ledger),
                "TASK_LOAD_STATS": str(self._file),
                "TASK_LOAD_RATE": str(rate / users),
                "TASK_LOAD_SEED": str(self._seed),
                "TASK_LOAD_WITHOUT_COOKIES": str(self._without_cookies),
                "TASK_LOAD_WEIGHTS_URL": f"{host}/__gateway/stats?since={2**40}",
                "TASK_LOAD_TASK_GROUP": task_group,
            },
            cwd=PROJECT_ROOT,
        )
        self.running = True
        self._users = wait_until(
            self._at_work,
            lambda at_work: at_work >= users,
            what=f"{users} users of the load are at work",
            timeout=30.0,
            remedy="see locust.log",
        )
        self._began = time.time()
        self._requests_before = int(self.figures().get("requests", 0))

    def stop(self) -> None:
        """End the load, requests under way included, and keep its figures; harmless without one."""
        if not self.running:
            return
        self._processes.stop("locust", timeout=30.0, how=signal.SIGINT)
        self.running = False
        figures = self.figures()
        elapsed = float(figures["at"]) - self._began
        rate = (figures["requests"] - self._requests_before) / elapsed if elapsed > 0 else 0.0
        # Its own count of users is 0 by now.
        self._ended.append({**figures, "users": self._users, "seconds": elapsed, "rate": rate})
        self._file.unlink()

    def figures(self) -> dict[str, Any]:
        """What the running load measured so far: users, requests, failed, percentiles in ms; nothing before its first second.

        Raises:
            MigrationError: its file is damaged.
        """
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise MigrationError(f"{self._file.name} is no JSON: {error}; see locust.log") from None
        return {**found, "failed": found["failures"]}

    def waits(self) -> tuple[float | None, float | None]:
        """How late users came to their last turns and how long their newest requests took, P95s in ms; nothing without a load."""
        if not self.running:
            return None, None
        found = self.figures()
        return found.get("late_ms"), found.get("recent", {}).get("p95_ms")

    def total(self) -> LoadFigures | None:
        """All loads together; None without a load."""
        if not self._ended:
            return None
        seconds = sum(load["seconds"] for load in self._ended)
        sums = {key: sum(load[key] for load in self._ended) for key in SUMMED}
        worst = {
            key: max((one for load in self._ended if (one := figure(load[key])) is not None), default=None)
            for key in ("p50_ms", "p95_ms")
        }
        rate = sum(load["rate"] * load["seconds"] for load in self._ended) / seconds if seconds else 0.0
        users = min(load["users"] for load in self._ended)
        return LoadFigures(
            **sums, **worst, stale_reads=self.stale_reads(), users=users, rate=round(rate, 2), seconds=round(seconds, 1)
        )

    def stale_reads(self) -> list[UserReads]:
        """The reads of all loads by weight, side and cookies, the running one's included."""
        reads: Counter[tuple[int | None, str, bool]] = Counter()
        stale: Counter[tuple[int | None, str, bool]] = Counter()
        for load in (*self._ended, self.figures()):
            for one in load.get("stale_reads", ()):
                key = one["weight"], one["side"], one["cookies"]
                reads[key] += one["reads"]
                stale[key] += one["stale"]
        return [
            UserReads(side=key[1], weight=key[0], reads=reads[key], stale=stale[key], cookies=key[2])
            for key in sorted(reads, key=lambda key: (key[0] is None, key))
        ]

    def _at_work(self) -> int:
        self._processes.check()
        return int(self.figures().get("users", 0))
