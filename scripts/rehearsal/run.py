"""The whole migration on this machine: real PostgreSQL, emulated AWS, stand-in applications, live load, real commands.

Each step of the plan is the same command that an operator runs, in a process of its own; the rehearsal only starts what
they act on, watches, and judges the evidence.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.rehearsal import criteria, report, story
from scripts.rehearsal.criteria import Evidence, Wanted
from scripts.rehearsal.documents import Criterion, MachineUse, Report
from scripts.rehearsal.drill import drill
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.sampling import Sampler
from scripts.rehearsal.scenarios.night import Night
from scripts.rehearsal.scenarios.play import Played, play
from scripts.rehearsal.steps import Steps
from scripts.rehearsal.testbed import Testbed
from scripts.support import private
from scripts.support.errors import MigrationError, UsageError
from scripts.support.process import SIGNALS, ignore_interrupts

#: Tells the directory of a rehearsal.
_MARK = "of-a-rehearsal"


def rehearse(plan: Plan) -> Report:
    """Run the plan; write ``report.json`` and return it. Every process is stopped, whatever happens.

    Raises:
        KeyboardInterrupt: Ctrl-C; after everything was stopped.
        MigrationError: the machine could not be set up.
    """
    started, began = time.monotonic(), time.time()
    _clear(plan.output)
    with _interruptible(), ExitStack() as cleanup:
        testbed = cleanup.enter_context(Testbed(plan))
        cleanup.callback(ignore_interrupts)
        sampler = Sampler(testbed)
        with LiveView(sampler) as view:
            steps = Steps(testbed, view)
            played: Played | None = None
            try:
                played = _carry_out(steps)
            except MigrationError as error:
                steps.failed(error)
            testbed.load.stop()
            steps.evidence.load = testbed.load.total()
            steps.evidence.machine = testbed.under_load()
        wanted = Wanted(steps.config.tables, steps.config.canary_ladder, plan.users, plan.rate)
        made = report.make(
            steps.evidence,
            _judged(steps.evidence, wanted, plan, played),
            seconds=round(time.monotonic() - started, 1),
            engine=testbed.engine,
            rows=testbed.databases.rows_made,
            story=story.tell(testbed, view.marks, sampler.close(), began),
            machine=MachineUse(
                under_load=steps.evidence.machine,
                cpu_seconds=testbed.machine.spent(),
                commands={name: round(spent, 1) for name, spent in steps.spent.items()},
            ),
            scenario=played[0] if played else None,
        )
        report.save(plan.output / "report.json", made)
    return made


def _judged(seen: Evidence, wanted: Wanted, plan: Plan, played: Played | None) -> list[Criterion]:
    if plan.scenario:
        return [*(played[1] if played else []), criteria.every_step(seen, "scenario")]
    return criteria.of_drill(seen, wanted) if plan.drill else criteria.of_plan(seen, wanted)


def _clear(output: Path) -> None:
    """Delete an earlier rehearsal, and nothing else. Raises UsageError where other things lie in that directory, or it is none."""
    if output.is_dir() and (others := {one.name for one in output.iterdir()}) and not {_MARK, "report.json"} & others:
        raise UsageError(
            f"--output {output} has what is of no rehearsal ({', '.join(sorted(others)[:3])}), and it would be deleted; name a new or empty directory"
        )
    try:
        if output.exists():
            shutil.rmtree(output)
        private.directory(output, narrow=True)
        private.write(output / _MARK, "what lies here goes with the next rehearsal\n")
    except OSError as error:
        raise UsageError(
            f"--output {output}: {error.strerror}; name a new or empty directory that this user may write"
        ) from None


def _carry_out(steps: Steps) -> Played | None:
    """The plan, the drill, or a scenario, from nothing to its end. Raises MigrationError at the first step that does not end well."""
    testbed, view, plan = steps.testbed, steps.view, steps.testbed.plan
    testbed.prepare(view.event)
    steps.appoint_operator()
    steps.start_service()
    testbed.start_load()
    view.mark("other", f"the load begins: {plan.users} users, {plan.rate:g} requests/s")
    view.event(f"load: {plan.users} users, {plan.rate:g} requests/s through the gateway, weight 0")
    if plan.scenario:
        return play(Night(steps), plan.scenario)
    steps.replicate()
    steps.check_api()
    steps.verify_live()
    steps.shadow()
    if plan.drill:
        drill(steps)
    else:
        steps.climb()
        steps.finish()
    return None


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the rehearsal as Ctrl-C does, so that nothing outlives it. After one, no other is heard any more."""

    stopped = False

    def interrupt(*_: object) -> None:
        nonlocal stopped
        stopped = True
        ignore_interrupts()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items() if not stopped else ():
            signal.signal(number, handler)
