"""Two real servers, the double of the cloud, operators and applications; and what must hold of them at any moment."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg

from components.config_gates import GateLimits
from scripts.canary import ending, rollback
from scripts.canary import step as canary
from scripts.canary.documents import Rollback
from scripts.canary.figures import Observed
from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.database import helper_schema, locks
from scripts.deployment.deployer import UpResult
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.finish import removal, rights
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from tests.cloud import FAILING, HEALTHY, SILENT, Cloud
from tests.conftest import Pair, unseen
from tests.machine.cells import Cells, Told
from tests.machine.operators import Killed, Operator, Watched

ROLES: Mapping[Side, str] = {"source": "myteacher_app_user", "target": "task_service_user"}
CONFIG: Mapping[str, Any] = {
    "tables": ["tasks", "task_tag"],
    "canaryLadder": [25, 100],
    "watchSeconds": 0.02,
    "periodSeconds": 0.01,
    "metricDelaySeconds": 0.0,
    "drainSeconds": 0.05,
    "rollbackLimitSeconds": 300.0,
    "gates": GateLimits(minimum_requests=100, replication_lag_seconds=10.0).model_dump(by_alias=True),
}
COLUMNS = ("title", "description")
FIGURES: Mapping[str, Observed] = {"healthy": HEALTHY, "failing": FAILING, "few": SILENT}
#: Where `rollback --abandon` finds the stage, by the state directory.
STAGES: dict[str, Stage] = {}
FENCE_SECONDS = 30.0


def standing(settings: Settings) -> Stage:
    """As `TASK_MIGRATION_STAGE` names one."""
    return replace(STAGES[str(settings.state_dir)], settings=settings)


class Wrong(AssertionError):
    """What must hold does not."""


class Sky(Cloud):
    """The cloud, with requests under way; each of its calls is a point of whoever acts, and each move of the rule is judged."""

    def __init__(self, world: World) -> None:
        self._world, self._live = world, 0
        super().__init__()
        self.at = lambda name: world.watched.point(f"cloud: {name}")

    @property
    def live(self) -> int:
        return self._live

    @live.setter
    def live(self, weight: int) -> None:
        moved, self._live = weight != self._live, weight
        if moved:
            self._world.moved(weight)

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        self.at("before up")
        self._world.raising(int(str(overrides["canaryWeight"])))
        hook, self.at = self.at, lambda name: hook(name) if name != "before up" else None
        try:
            return super().up(overrides, only)
        finally:
            self.at = hook

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        self.at("confirm")
        if self.live != weight:
            raise TimedOut(f"the live rule at {weight} %: not so after {timeout:g} s; last seen: {self.live}")

    def idle_seconds(self) -> float:
        self.at("idle")
        if self._world.requests:
            # Seen under way; they have ended when it is looked at again.
            self._world.answer()
            return 0.0
        return 60.0


class World:
    """One migration, from before `copy` to wherever it goes."""

    def __init__(self, make_pair: Callable[..., Pair]) -> None:
        self.pair = make_pair(rows=8, **CONFIG)
        self.watched = Watched()
        self.sky = Sky(self)
        self.settings: Settings = replace(self.pair.settings, stage=f"{__name__}:standing")
        self.stage = Stage(
            self.settings, self.sky, self.sky, None, self.sky, self.sky.idle_seconds, metrics=self.sky  # type: ignore[arg-type]
        )  # fmt: skip
        STAGES[str(self.settings.state_dir)] = self.stage
        self.cells = Cells()
        self.requests: list[tuple[psycopg.Connection[Any], str, dict[str, str]]] = []
        self.last_told: dict[Side, int] = dict.fromkeys(BOTH, 0)
        #: Whether somebody wrote past the record, and no verification has found both sides equal since.
        self.drifted = False
        self.said: list[str] = []
        self._names = itertools.count(1)
        self._running: list[Operator] = []
        self._held = ExitStack()
        self._held.enter_context(self.watched.statements())
        schema.apply(self.settings)
        self.commands: dict[str, Callable[[], object]] = {
            "schema apply": lambda: schema.apply(self.settings),
            "copy": lambda: copy.run(self.settings, jobs=1),
            "replicate start": lambda: replicate.start(self.settings, FENCE_SECONDS),
            "replicate stop": lambda: replicate.stop(self.settings, FENCE_SECONDS),
            "verify": lambda: verify.run(self.settings),
            "verify --incremental": lambda: verify.run(self.settings, incremental=True),
            "verify --repair newest": lambda: verify.run(self.settings, repair="newest"),
            "canary step": lambda: canary.step(self.stage),
            "canary step --take-over": lambda: canary.step(self.stage, take_over=True),
            "canary run": lambda: canary.run(self.stage),
            "rollback": lambda: rollback.run(self.stage),
            "rollback --emergency": lambda: rollback.emergency(self.stage),
            "rollback --abandon": lambda: ending.give_up(self.settings),
            "rollback --scenario copy": lambda: ending.start_over(self.settings, "copy"),
            "finalize": lambda: ending.finalize(self.settings),
        }

    def alone(self) -> None:
        """Whoever stands still dies where he is."""
        while self._running:
            self._running.pop().let_go()

    def close(self) -> None:
        """Everything of this world ends, whatever state it is in."""
        self.alone()
        self._held.close()
        for connection, *_ in self.requests:
            connection.close()
        STAGES.pop(str(self.settings.state_dir), None)

    # Operators

    def command(
        self, name: str, at: int | str | None = None, happens: Callable[[Operator], object] = lambda _: None
    ) -> Operator:
        """Carry a command out, with something that ``happens`` at its point ``at``. What it did, and how it ended, is judged."""
        operator = Operator(name, at, happens)
        self._running.append(operator)
        try:
            with self.watched.as_(operator):
                operator.result = self.commands[name]()
        except (MigrationError, Killed) as error:
            operator.error = error
        finally:
            self._running.remove(operator)
            # A thread of it that outlives it is nobody's any more.
            operator.interfered = operator.interfered or 0
        self.say(operator)
        self.ended(operator)
        return operator

    def beside(self, name: str, at: int | str | None) -> Operator:
        """Another operator's command, which stands still at its point ``at``, if it comes that far; None: it comes to its end."""
        other = Operator(name, at, Operator.park)
        self._running.append(other)

        def work() -> object:
            with self.watched.as_(other):
                return self.commands[name]()

        other.begin(work)
        return other

    def go_on(self, other: Operator) -> None:
        """Let who stood still come to the end."""
        with self.watched.as_(other):
            other.end()
        self._running.remove(other)
        self.say(other)
        if other.error is not None and not isinstance(other.error, (MigrationError, Killed)):
            raise other.error
        self.ended(other)

    def say(self, operator: Operator) -> None:
        end = operator.error or getattr(operator.result, "decision", None) or getattr(operator.result, "status", "done")
        why = "; ".join(getattr(operator.result, "reasons", ()))
        where = f" [{operator.interfered}: {operator.points[operator.interfered - 1]}]" if operator.interfered else ""
        self.said.append(
            f"{time.monotonic() - operator.began:5.1f} s {operator.name} ({len(operator.points)} points){where}: {type(end).__name__}: {end!s:.300} {why:.300} -> "
            f"{self.sky.declared}/{self.sky.live} %"
        )

    # What must hold

    def raising(self, weight: int) -> None:
        """A deployment begins: of a weight above 0 only by who has the lock, and not over a rollback."""
        mine = self.watched.acting
        if not weight or mine is None or mine.interfered == len(mine.points):
            return  # somebody acted between the last look at the lock and this: that is undone afterwards
        if mine.overtaken:
            raise Wrong(f"{mine.name} raises the weight to {weight} % over a rollback that ended meanwhile")
        with self.watched.as_(None), psycopg.connect(self.settings.source(), autocommit=True) as source:
            there = source.execute("SELECT to_regclass('task_migration.locks')").fetchone() != (None,)
            holder = locks.holder(source, locks.CANARY) if there else None
        if holder is not None and holder.pid not in mine.pids:
            raise Wrong(f"{mine.name} raises the weight to {weight} % while {holder.name} has the lock")

    def moved(self, weight: int) -> None:
        """The rule gives the Task Service ``weight`` percent from now on."""
        with self.watched.as_(None):
            self.can_write()

    def can_write(self) -> None:
        """Whoever gets requests can write."""
        for side, gets in (("source", self.sky.live < 100), ("target", self.sky.live > 0)):
            if gets and not self._allowed(side):  # type: ignore[arg-type]
                raise Wrong(f"{ROLES[side]} gets requests at {self.sky.live} % and cannot write on the {side}")  # type: ignore[index]

    def _allowed(self, side: Side) -> bool:
        query = (
            "SELECT has_table_privilege(%(role)s, 'public.tasks', 'INSERT') AND has_table_privilege(%(role)s, 'public.tasks', 'UPDATE') AND "
            "has_table_privilege(%(role)s, 'public.tasks', 'DELETE')"
        )
        try:
            with psycopg.connect(self.settings.url(side)) as connection:
                row = connection.execute(query, {"role": ROLES[side]}).fetchone()
        except psycopg.OperationalError:
            return True  # it is down; what it says is told when it is back
        return row == (True,)

    def ended(self, operator: Operator) -> None:
        """What a command claims."""
        if isinstance(operator.error, Killed):
            return
        done = getattr(operator.result, "rollback", None) or operator.result
        if isinstance(done, Rollback):
            for other in self._running:
                other.overtaken = True
            self._proven(operator)
        if operator.name in ("rollback", "rollback --emergency") and operator.error is None and self.sky.live:
            raise Wrong(f"{operator.name} ended at {self.sky.live} %")
        if getattr(operator.result, "match", False) and operator.name.startswith("verify") and not self._running:
            self.drifted = False
            self.settle_if_possible()
        if operator.name == "finalize" and operator.error is None and (self.sky.live < 100 or self._allowed("source")):
            raise Wrong(f"it is finalized at {self.sky.live} %, where the monolith writes")

    def _proven(self, operator: Operator) -> None:
        """A rollback says that the monolith has each write of the Task Service: so it has, without anything that comes later."""
        if self.requests:
            raise Wrong(f"{operator.name} is proven while a request is under way on the Task Service")
        rows, told = self.rows("source"), self._told()
        for lost in self.cells.lost("target", rows, told):
            raise Wrong(f"{operator.name} is proven, and the source has not: {lost}")

    # Applications

    @contextmanager
    def session(self, side: Side) -> Iterator[psycopg.Connection[Any]]:
        """As the application's role."""
        with psycopg.connect(self._login(side)) as connection:
            yield connection

    def _server(self, side: Side) -> EmbeddedPostgres:
        return self.pair.source_server if side == "source" else self.pair.target_server

    def _login(self, side: Side) -> str:
        return self._server(side).url(self.pair.source.info.dbname, ROLES[side], "secret-of-role")

    def rows(self, side: Side) -> dict[str, dict[str, str]]:
        """All tasks of a side, by id."""
        with psycopg.connect(self.settings.url(side)) as connection:
            found = connection.execute(f"SELECT id::text, {', '.join(COLUMNS)} FROM tasks".encode()).fetchall()
        return {row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in found}

    def write(self, side: Side, how: str, which: int) -> None:
        """One request that is answered: an insert, an update of one column, or a delete of a task."""
        with self.watched.as_(None), self.session(side) as session:
            ids = [row[0] for row in session.execute("SELECT id FROM tasks ORDER BY id").fetchall()]
            if how == "insert" or not ids:
                key, cells = self._insert(session)
                session.commit()
                self.cells.note(side, key, None, cells)
                return
            number = ids[which % len(ids)]
            query = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id = %s FOR UPDATE"
            row = session.execute(query.encode(), (number,)).fetchone()
            if row is None:
                return
            changed = None
            if how == "delete":
                session.execute("DELETE FROM tasks WHERE id = %s", (number,))
            else:
                changed = {how: self._value(side)}
                session.execute(f"UPDATE tasks SET {how} = %s WHERE id = %s".encode(), (changed[how], number))
            session.commit()
            self.cells.note(side, str(number), dict(zip(COLUMNS, row, strict=True)), changed)

    def can_drift(self) -> bool:
        """Whether replication runs, the monolith leads, and both sides are equal."""
        if self.drifted or not self._allowed("source"):
            return False
        with suppress(MigrationError), self.watched.as_(None):
            if fence.available(self.settings):
                self.settle()
                return True
        return False

    def drift(self, side: Side, how: str, which: int) -> None:
        """A write past the record, of a task that both sides have alike: as of an administrator who switches triggers off."""
        with self.watched.as_(None), psycopg.connect(self.settings.url(side)) as session:
            ids = sorted(self.rows("source").keys() & self.rows("target").keys(), key=int)
            if not ids:
                return
            change = "DELETE FROM tasks" if how == "delete" else f"UPDATE tasks SET {how} = '{self._value('drifted')}'"
            with unseen(session):
                session.execute(f"{change} WHERE id = {ids[which % len(ids)]}".encode())
            self.drifted = True

    def _value(self, side: str) -> str:
        return f"{side} {next(self._names)}"

    def _insert(self, session: psycopg.Connection[Any]) -> tuple[str, dict[str, str]]:
        cells = {name: self._value("new") for name in COLUMNS}
        row = session.execute(
            "INSERT INTO tasks (user_id, title, description) VALUES (1, %s, %s) RETURNING id", tuple(cells.values())
        ).fetchone()
        assert row is not None
        return str(row[0]), cells

    def ask(self) -> None:
        """A request on the Task Service that is under way."""
        with self.watched.as_(None):
            session = psycopg.connect(self._login("target"))
            key, cells = self._insert(session)
            self.requests.append((session, key, cells))

    def answer(self) -> None:
        """What was under way is answered."""
        with self.watched.as_(None):
            while self.requests:
                session, key, cells = self.requests.pop()
                try:
                    session.commit()
                except psycopg.OperationalError:
                    continue  # its server died: nothing was acknowledged
                finally:
                    session.close()
                self.cells.note("target", key, None, cells)

    def restart(self, side: Side) -> None:
        """`kill -9` of a server, and its start."""
        server = self._server(side)
        with self.watched.as_(None):
            server.kill()
            server.start()

    # The end

    def _told(self) -> Told:
        found: dict[str, list[Mapping[str, str | None]]] = {}
        for side, log in self._logs():
            rows = log.execute(
                "SELECT key, lost FROM task_migration.conflicts WHERE table_name = 'tasks' AND id > %s ORDER BY id",
                (self.last_told[side],),
            )
            for key, lost in rows:
                found.setdefault(str(json.loads(key)[0]), []).append(json.loads(lost or "{}"))
        return found

    def _logs(self) -> Iterator[tuple[Side, psycopg.Connection[Any]]]:
        """Each side that has a conflict log."""
        for side in BOTH:
            with psycopg.connect(self.settings.url(side)) as connection:
                if connection.execute("SELECT to_regclass('task_migration.conflicts')").fetchone() != (None,):
                    yield side, connection

    def _remember_told(self) -> None:
        for side, log in self._logs():
            row = log.execute("SELECT coalesce(max(id), 0) FROM task_migration.conflicts").fetchone()
            self.last_told[side] = row[0] if row else 0

    def settle(self) -> None:
        """Where replication runs: fence both ways, then both sides are equal, and each acknowledged write is there or told."""
        with self.watched.as_(None):
            self.answer()
            if not fence.available(self.settings):
                return
            fence.both(self.settings, FENCE_SECONDS)
            if self.drifted:
                done = verify.run(self.settings, repair="newest")
                if not done.match:
                    raise Wrong(f"what was written past the record cannot be repaired: {done.undecided}")
                self.drifted = False
            self.equal()

    def settle_if_possible(self) -> None:
        """As :meth:`settle`; what stands between the two sides is no fault by itself."""
        with suppress(MigrationError):
            self.settle()

    def to_an_end(self) -> None:
        """From here there is a way on: an end that was begun is come to, or replication runs and everything goes back, proven."""
        with self.watched.as_(None):
            self.answer()
            if not self._allowed("source"):
                if self.drifted:
                    self.settle_if_possible()
                self._come_to("finalize")
            elif not removal.leftovers(self.settings) or self.copied() is None:
                pass
            elif self.copied() == "complete":
                self._come_to("replicate start")
            if rights.source_leads(self.settings):
                self.settle()
                if fence.available(self.settings):
                    self._come_to("rollback")
                    self.settle()

    def copied(self) -> str | None:
        with psycopg.connect(self.settings.target(), autocommit=True) as target:
            state = helper_schema.get(target, helper_schema.COPY)
        return state and str(state.get("status"))

    def _come_to(self, name: str) -> None:
        done = self.command(name)
        if done.error is not None:
            raise Wrong(f"there is no way on by {name}: {done.error}")

    def equal(self) -> None:
        here, there, told = self.rows("source"), self.rows("target"), self._told()
        if here != there:
            unlike = [key for key in here.keys() | there.keys() if here.get(key) != there.get(key)]
            raise Wrong(f"the sides differ after a fence: {[(key, here.get(key), there.get(key)) for key in unlike]}")
        self.nothing_lost(here, told, *BOTH)

    def nothing_lost(self, rows: dict[str, dict[str, str]], told: Told, *sides: Side) -> None:
        for side in sides:
            for lost in self.cells.lost(side, rows, told):
                raise Wrong(lost)
        self.cells.settled()
        self._remember_told()
