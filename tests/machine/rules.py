"""What may come in any order, as Hypothesis draws it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.machine.operators import Operator
from tests.machine.world import FIGURES, World

VERBOSE = "MACHINE_VERBOSE" in os.environ
#: About how many points each command has, so that each part of it is as likely.
POINTS = {
    "copy": 210,
    "replicate start": 350,
    "replicate stop": 120,
    "verify": 180,
    "verify --incremental": 190,
    "verify --repair newest": 360,
    "canary step": 420,
    "canary step --take-over": 420,
    "canary run": 900,
    "rollback": 120,
    "rollback --emergency": 120,
    "rollback --abandon": 260,
    "rollback --scenario copy": 300,
    "finalize": 590,
}
#: Points at which more is at stake than at most others, as they begin.
PLACES = (
    "cloud: preview", "cloud: before up", "cloud: config set", "cloud: up done", "cloud: confirm", "cloud: watch", "cloud: keep",
    "cloud: to monolith", "cloud: idle", "SELECT 1", "INSERT INTO task_migration.settings", "REVOKE", "GRANT", "DROP", "ALTER SUBSCRIPTION",
)  # fmt: skip
BESIDE = ("canary step", "canary step --take-over", "rollback", "rollback --emergency", "rollback --abandon", "finalize", "replicate stop",
          "replicate start", "rollback --scenario copy")  # fmt: skip
WRITES = st.tuples(
    st.sampled_from(("source", "target")),
    st.sampled_from(("insert", "title", "description", "delete")),
    st.integers(0, 7),
)
PLACE = st.one_of(st.floats(0, 0.999), st.sampled_from(PLACES), st.sampled_from(PLACES))
EVENT = st.one_of(
    st.just(None),
    st.tuples(st.just("kill"), PLACE),
    st.tuples(st.just("restart"), PLACE, st.sampled_from(("source", "target"))),
    st.tuples(st.just("write"), PLACE, WRITES),
    st.tuples(st.just("beside"), PLACE, st.sampled_from(BESIDE), st.one_of(st.none(), PLACE)),
)


def point(command: str, place: float | str) -> int | str:
    """The point of a command that is meant."""
    return place if isinstance(place, str) else 1 + int(place * POINTS[command])


class Machine(RuleBasedStateMachine):
    """A migration. ``make`` is what makes its world; ``broken`` what a test breaks on purpose."""

    make: Callable[[ExitStack], World]

    def __init__(self) -> None:
        super().__init__()
        self.held = ExitStack()
        self.world = type(self).make(self.held)

    @initialize(begun=st.sampled_from((3, 3, 3, 3, 2, 1, 0)), weight=st.sampled_from((0, 0, 25, 100)))
    def begin(self, begun: int, weight: int) -> None:
        """However far it has come."""
        for command in ("copy", "replicate start", "verify")[:begun]:
            self.world.command(command)
        if begun == 3 and weight:
            for _ in range(1 if weight == 25 else 2):
                self.world.command("canary step")

    def _do(self, command: str, event: Any) -> None:
        world = self.world
        if event is None:
            world.command(command)
            return
        what, place, *how = event
        at = point(command, place)
        others: list[Operator] = []

        def kill(mine: Operator) -> None:
            mine.dead = True

        def restart(_: Operator) -> None:
            world.restart(how[0])

        def write(_: Operator) -> None:
            self._write(*how[0])

        def beside(_: Operator) -> None:
            # Whom nobody stops comes to the end at once.
            others.append(world.beside(how[0], None if how[1] is None else point(how[0], how[1])))
            if others[0].ended:
                world.go_on(others.pop())

        world.command(command, at, {"kill": kill, "restart": restart, "write": write, "beside": beside}[what])
        for other in others:
            world.go_on(other)

    @rule(
        command=st.sampled_from(
            ("copy", "replicate start", "replicate start", "replicate stop", "verify", "verify", "verify --incremental")
        ),
        event=EVENT,
    )
    def data(self, command: str, event: Any) -> None:
        self._do(command, event)

    @rule(command=st.sampled_from(("canary step", "canary step", "canary run", "canary step --take-over")),
          figures=st.sampled_from(("healthy", "healthy", "healthy", "failing", "few")), event=EVENT)  # fmt: skip
    def up(self, command: str, figures: str, event: Any) -> None:
        self.world.sky.observed = FIGURES[figures]
        self._do(command, event)

    @rule(command=st.sampled_from(("rollback", "rollback --emergency")), event=EVENT)
    def back(self, command: str, event: Any) -> None:
        self._do(command, event)

    @rule(
        command=st.sampled_from(("finalize", "finalize", "rollback --abandon", "rollback --scenario copy")), event=EVENT
    )
    def ends(self, command: str, event: Any) -> None:
        self.world.settle_if_possible()
        self._do(command, event)

    @rule(
        side=st.sampled_from(("source", "target")),
        how=st.sampled_from(("title", "description", "delete")),
        which=st.integers(0, 7),
        event=EVENT,
    )
    def drift(self, side: Any, how: str, which: int, event: Any) -> None:
        """What was written past the record is found, and repaired."""
        if self.world.can_drift():
            self.world.drift(side, how, which)
            found = self.world.command("verify")
            assert found.error is not None or not found.result.match, "a difference was not found"  # type: ignore[attr-defined]
            self._do("verify --repair newest", event)

    def _write(self, side: Any, how: str, which: int) -> None:
        if self.world.sky.live < 100 if side == "source" else self.world.sky.live > 0:
            self.world.write(side, how, which)

    @rule(write=WRITES)
    def request(self, write: Any) -> None:
        self._write(*write)

    @precondition(lambda self: self.world.sky.live > 0 and len(self.world.requests) < 3)
    @rule()
    def long_request(self) -> None:
        self.world.ask()

    @rule(side=st.sampled_from(("source", "target")))
    def restart(self, side: Any) -> None:
        self.world.restart(side)

    @rule()
    def settle(self) -> None:
        self.world.settle_if_possible()

    @invariant()
    def can_write(self) -> None:
        """Whoever gets requests can write."""
        with self.world.watched.as_(None):
            self.world.can_write()

    def teardown(self) -> None:
        """Whatever it has come to, there is a way on, and nothing is lost."""
        ending = sys.exc_info()[0]
        overrun = ending is not None and ending.__name__ == "StopTest"  # Hypothesis has drawn too much for one example
        failed = ending is not None and not overrun
        try:
            if ending is None:
                self.world.to_an_end()
        except BaseException:
            failed = True
            raise
        finally:
            if failed or VERBOSE:
                sys.stdout.write("\n".join(["", *self.world.said, ""]))
            self.world.close()
            self.held.close()


def play(make: Callable[[ExitStack], World], number: int, *, examples: int, steps: int) -> None:
    """So many migrations of so many rules, as the seed ``number`` draws them. Raises what was found, and says what had been done."""
    machine = seed(number)(type("Playing", (Machine,), {"make": staticmethod(make)}))
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, phases=[Phase.generate], database=None,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=how)
