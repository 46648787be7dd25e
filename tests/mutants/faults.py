"""Faults that a test has to notice each time the suite runs: of the code that `make mutants` does not reach (tables, SQL, models), and the dearest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What no test of a fault reads.
_LEFT = shutil.ignore_patterns(".*", "build", "*.egg-info")


@dataclass(frozen=True)
class Fault:
    """``old`` stands once in ``file``; with ``new`` in its place the named ``tests`` (files, or tests by name) have to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_CANARY, _STEPS = "tests/unit/canary", "tests/integration/canary/test_step.py"
_WRITES = "tests/integration/replication"
FAULTS = (
    Fault(
        "P95 reads p50",
        "scripts/canary/cloudwatch.py",
        'PERCENTILES = ("p50", "p95", "p99")',
        'PERCENTILES = ("p50", "p50", "p99")',
        (f"{_CANARY}/test_cloudwatch.py",),
    ),
    Fault(
        "5xx reads 2xx",
        "scripts/canary/cloudwatch.py",
        '("errors", "HTTPCode_Target_5XX_Count")',
        '("errors", "HTTPCode_Target_2XX_Count")',
        (f"{_CANARY}/test_cloudwatch.py",),
    ),
    Fault(
        "a figure past its limit in as many periods as roll back does not",
        "scripts/canary/gates.py",
        "if len(found) >= needed:",
        "if len(found) > needed:",
        (f"{_CANARY}/test_gates.py::test_a_breach_counts_when_it_is_in_three_of_five_periods",),
    ),
    Fault(
        "the weights of the live rule are the wrong way round",
        "components/routes.py",
        "shares = ((monolith, 100 - weight), (task_service, weight))",
        "shares = ((monolith, weight), (task_service, 100 - weight))",
        ("tests/unit/components/test_routes.py::test_the_live_rule_splits_by_the_weight",),
    ),
    Fault(
        "a P95 of 5 s passes by default",
        "components/config_gates.py",
        "p95_ms: float = Field(500.0",
        "p95_ms: float = Field(5000.0",
        (f"{_CANARY}/test_gates.py::test_one_rule_on_each_side_of_its_limit",),
    ),
    Fault(
        "a rehearsal that lost an acknowledged write passes",
        "scripts/rehearsal/criteria.py",
        "found.total > 0 and found.lost == 0, lost(found)",
        "found.total > 0, lost(found)",
        ("tests/unit/rehearsal/test_report.py::test_spoilt_evidence_fails_its_criterion",),
    ),
    Fault(
        "a foreign key is bound before the key it refers to",
        "scripts/copy/plan.py",
        'frozenset[Name]({("statistics", table, "")}).union(*(ready[name] for name in others if name in ready))',
        'frozenset[Name]({("statistics", table, "")})',
        ("tests/unit/copy/test_plan.py::test_a_step_waits_for_what_postgresql_wants_before_it_and_for_nothing_else",),
    ),
    Fault(
        "of two rows with one claim the wrong one stays",
        "scripts/writes/apply.sql",
        '(length(_tm_rival_key), _tm_rival_key COLLATE "C") < (length',
        '(length(_tm_rival_key), _tm_rival_key COLLATE "C") > (length',
        (f"{_WRITES}/test_two_writers.py::test_one_unique_value_claimed_on_both_sides",),
    ),
    Fault(
        "a rollback that never drains",
        "scripts/canary/way_back.py",
        "            self._drain()\n",
        "            pass\n",
        (f"{_STEPS}::test_a_write_acknowledged_while_it_drains_is_kept_and_no_fence_goes_before_it",),
    ),
    Fault(
        "a rollback that fences before it drains",
        "scripts/canary/way_back.py",
        "            self._drain()\n",
        "            fence.reverse(self.settings, timeout=self._left())\n            self._drain()\n",
        (f"{_STEPS}::test_a_write_acknowledged_while_it_drains_is_kept_and_no_fence_goes_before_it",),
    ),
    Fault(
        "a lock that never yields",
        "scripts/canary/operator_lock.py",
        "            if other is None:\n",
        "            if True:\n",
        ("tests/integration/canary/test_looks.py::test_a_lock_that_was_taken_over_yields_and_names_who_has_it",),
    ),
    Fault(
        "who was taken over goes on with its step",
        "scripts/canary/step.py",
        "            if not back:\n                raise\n",
        "",
        (f"{_STEPS}::test_who_was_taken_over_stops_and_undoes_its_deployment_for_a_way_back_only",),
    ),
)


def _left(folder: str, names: list[str]) -> set[str]:
    """What is not copied of a folder: of the tree's own also the mutants of `make mutants`."""
    return {*_LEFT(folder, names), *(("mutants",) if Path(folder) == ROOT else ())}


def copied(to: Path) -> Path:
    """A copy of the tree, with what Python compiled of it; its path."""
    shutil.copytree(ROOT, to, ignore=_left)
    shutil.copytree(ROOT / ".ci", to / ".ci")
    return to


def run(tree: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """pytest over ``tests`` of the copy, in a process of its own, up to the first failure."""
    # Nor what this run demands of its machine: the copy has no engine of its own.
    left = ("PYTEST", "COV", "ENGINE", "BROWSER", "ORDER")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    return subprocess.run(
        [*command, *tests],
        cwd=tree,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def unnoticed(tree: Path, fault: Fault) -> str | None:
    """Why the suite does not notice the fault, put into the copy and taken out again; None where it does.

    Raises:
        LookupError: the fault no longer applies.
    """
    file = tree / fault.file
    text, stat = file.read_text(), file.stat()
    if text.count(fault.old) != 1:
        raise LookupError(
            f"{fault.name}: {fault.old!r} stands {text.count(fault.old)} times in {fault.file}; limit: once. Give the fault what the code says now"
        )
    file.write_text(text.replace(fault.old, fault.new))
    # What was compiled before is known by the time of its source, in seconds.
    os.utime(file, (stat.st_atime, stat.st_mtime + 60))
    try:
        done = run(tree, fault.tests)
    finally:
        file.write_text(text)
        os.utime(file, (stat.st_atime, stat.st_mtime))
    # 1: tests failed. Anything else (no test found, a module that cannot be imported) says nothing of the fault.
    if done.returncode == 1:
        return None
    return f"{fault.name}: not noticed by {' '.join(fault.tests)} (pytest ended with {done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-500:]}"
