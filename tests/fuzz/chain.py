"""The whole chain on one case, on real servers, and what is not as promised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from scripts.copy import run as copy
from scripts.preflight import run as preflight
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import MigrationError
from scripts.support.sides import BOTH, Side, other
from scripts.verify import rollback_proof
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.fuzz import ledger, sound
from tests.fuzz.case import Case, Island, Transaction
from tests.fuzz.ledger import Ledger, Rows, Shown

ROLES: Mapping[Side, str] = {"source": "myteacher_app_user", "target": "task_service_user"}
#: Looks of preflight, each without the islands that the one before refused.
LOOKS = 6
#: What an idle machine needs a tenth of a second for.
FENCE_SECONDS = 8.0


class Problem(NamedTuple):
    """A promise that does not hold: which (one word), of which island (None: unknown), and what of it."""

    kind: str
    island: int | None
    what: str


@dataclass
class Outcome:
    """What a chain came to. ``refused`` are preflight's words by island; ``written`` counts acknowledged transactions, ``told`` the rows of
    the conflict log."""

    problems: list[Problem] = field(default_factory=list)
    refused: dict[int, list[str]] = field(default_factory=dict)
    carried: int = 0
    written: int = 0
    told: int = 0

    @property
    def kinds(self) -> set[str]:
        """The promises that do not hold."""
        return {problem.kind for problem in self.problems}


class Stopped(Exception):
    """The chain cannot go on; what is wrong has been noted."""


class Chain:
    """One case on one pair of fresh databases.

    Args:
        broken: what a test breaks on purpose once replication runs.
    """

    def __init__(self, case: Case, pair: Pair, broken: Callable[[Pair], object] = lambda _: None) -> None:
        self.case, self.pair, self._broken = case, pair, broken
        self.outcome = Outcome()
        self.islands: dict[int, dict[str, Shown]] = {}
        self._crossing: set[int] = set()

    def run(self) -> Outcome:
        """Carry it out."""
        try:
            self._prepare()
            self._preflight()
            if self.islands:
                self._move()
                self._write()
                self._look()
        except Stopped:
            pass
        return self.outcome

    # What is there before

    def _prepare(self) -> None:
        namespace = sql.Identifier(self.case.schema)
        self.pair.source.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(namespace))
        known: set[str] = set()
        for number, island in enumerate(self.case.islands):
            for side, statements in (("source", island.both), ("target", island.both), ("source", island.source)):
                for statement in statements:
                    self._try(self.pair.source if side == "source" else self.pair.target, statement)
            tables = ledger.shown(self.pair.source, self.case.schema)
            mine = {name: one for name, one in tables.items() if name not in known and name not in island.left}
            known |= tables.keys()
            if mine:
                self.islands[number] = mine
        role = sql.Identifier(ROLES["source"])
        for what in ("USAGE ON SCHEMA", "ALL ON ALL TABLES IN SCHEMA", "ALL ON ALL SEQUENCES IN SCHEMA"):
            self.pair.source.execute(sql.SQL(f"GRANT {what} {{}} TO {{}}").format(namespace, role))

    @staticmethod
    def _try(connection: psycopg.Connection[Any], statement: str) -> str | None:
        """Run it; the SQLSTATE of what PostgreSQL refuses."""
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.Error as error:
            return error.sqlstate or "none"
        return None

    def _configure(self) -> None:
        tables = [name for mine in self.islands.values() for name in mine]
        crossing = self.pair.source.execute(
            "SELECT k.conname, n.nspname, r.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class r "
            "ON r.oid = k.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace WHERE k.contype = 'f' AND c.relnamespace = "
            "to_regnamespace(quote_ident(%(schema)s)) AND c.relname = ANY(%(tables)s) AND NOT (r.relnamespace = c.relnamespace "
            "AND r.relname = ANY(%(tables)s))",
            {"schema": self.case.schema, "tables": tables},
        ).fetchall()
        self._crossing = {number for row in crossing for number in self._named(str(row[0]))}
        self.pair.config(
            schema=self.case.schema,
            tables=tables,
            droppedForeignKeys=sorted({row[0] for row in crossing}),
            referencedTables=sorted(
                {row[2] if row[1] == self.case.schema else f"{row[1]}.{row[2]}" for row in crossing}
            ),
        )

    # The steps

    def _preflight(self) -> None:
        """What is refused stays behind, with the islands that the words name."""
        for _ in range(LOOKS):
            if not self.islands:
                return
            self._configure()
            with self._step("preflight"):
                failed = [
                    one for one in preflight.run(self.pair.settings, wal_seconds=0).checks if one.status == "fail"
                ]
            if not failed:
                return
            here = list(self.islands)
            for check in failed:
                said = f"{check.name}: {check.detail} -> {check.remedy}"
                named = self._named(said, here)
                if not named:
                    self._problem("unnamed", None, said)
                if not check.remedy:
                    self._problem("remedy", named[0] if named else None, said)
                for number in named:
                    self.outcome.refused.setdefault(number, []).append(said)
                    self.islands.pop(number, None)
            if "unnamed" in self.outcome.kinds:
                raise Stopped

    def _move(self) -> None:
        settings = self.pair.settings
        with self._step("apply"):
            self._diff("after apply", schema.apply(settings).text)
        with self._step("copy"):
            copy.run(settings)
            self._diff("after copy", schema.diff(settings).text)
        with self._step("start"):
            replicate.start(settings)
        self.outcome.carried = len(self.islands)
        self._broken(self.pair)

    def _diff(self, when: str, differences: str) -> None:
        if not schema.diff(self.pair.settings).match:
            named = self._named(differences)
            self._problem("diff", named[0] if named else None, f"{when}: {differences}")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            named = self._named(str(error))
            self._problem(name, named[0] if len(named) == 1 else None, f"{type(error).__name__}: {error}")
            raise Stopped from error

    def _named(self, words: str, among: Iterable[int] | None = None) -> list[int]:
        """The islands of which something is named."""
        return [n for n in among or self.islands if any(name in words for name in self.case.islands[n].names)]

    def _problem(self, kind: str, island: int | None, what: str) -> None:
        self.outcome.problems.append(Problem(kind, island, what))

    # What is written, and judged

    def _connection(self, side: Side) -> psycopg.Connection[Any]:
        return self.pair.source if side == "source" else self.pair.target

    def _write(self) -> None:
        for side in BOTH:
            self._connection(side).execute(ledger.SETTINGS.encode())
        for number in range(max(len(self.case.islands[one].rounds) for one in self.islands)):
            before = {side: self._last_conflict(side) for side in BOTH}
            with self._held():
                ledgers = {one: self._round(one, self.case.islands[one], number) for one in self.islands}
            self._fence()
            told = [(side, *one[1:]) for side in BOTH for one in ledger.conflicts(self._connection(side), before[side])]
            self.outcome.told += len(told)
            for one, (written, shows) in ledgers.items():
                self._judge(one, number, written, shows, [entry for entry in told if entry[1] in self.islands[one]])

    def _last_conflict(self, side: Side) -> int:
        row = self._connection(side).execute("SELECT coalesce(max(id), 0) FROM task_migration.conflicts").fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nothing that one side writes is applied on the other: its records wait for their table."""
        with ExitStack() as stack:
            for side, url in (("source", self.pair.settings.source()), ("target", self.pair.settings.target())):
                holding = stack.enter_context(psycopg.connect(url))
                table = sql.Identifier("task_migration", f"{other('source' if side == 'source' else 'target')}_writes")
                holding.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
            yield

    def _round(self, one: int, island: Island, number: int) -> tuple[Ledger, dict[Side, Rows]]:
        written = Ledger()
        shows = {side: self._read(side, one) for side in BOTH}
        for transaction in island.rounds[number] if number < len(island.rounds) else ():
            if self._transaction(one, transaction):
                after = self._read(transaction.side, one)
                written.note(transaction.side, shows[transaction.side], after)
                shows[transaction.side] = after
        return written, shows

    def _read(self, side: Side, one: int) -> Rows:
        return ledger.read(self._connection(side), self.case.schema, self.islands[one])

    def _transaction(self, one: int, transaction: Transaction) -> bool:
        """Whether it was acknowledged."""
        connection = self._connection(transaction.side)
        try:
            with connection.transaction():
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {transaction.isolation}".encode())
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(ROLES[transaction.side])))
                for statement in transaction.statements:
                    state = self._try(connection, statement)
                    if state == "42501" or (state or "").startswith(("XX", "P0", "58")):
                        self._problem("refused", one, f"SQLSTATE {state} on the {transaction.side}: {statement}")
        except psycopg.IntegrityError:
            # A deferred key or claim, at the end.
            return False
        self.outcome.written += 1
        return True

    def _fence(self) -> None:
        try:
            fence.both(self.pair.settings, FENCE_SECONDS)
        except MigrationError as error:
            said = f"{error}"
            named = self._named(said)
            self._problem("fence", named[0] if len(named) == 1 else None, said)
            raise Stopped from error

    def _judge(
        self, one: int, number: int, written: Ledger, shows: dict[Side, Rows], told: list[tuple[Any, ...]]
    ) -> None:
        rows = {side: self._read(side, one) for side in BOTH}
        when = f"round {number + 1}"
        for table, here in rows["source"].items():
            there = rows["target"][table]
            for key in here.keys() | there.keys():
                if here.get(key) != there.get(key):
                    what = f"{when}: {table} {key}: source {here.get(key)}, target {there.get(key)}"
                    self._problem("unequal", one, what)
        for what in written.lost(rows["source"], [(entry[1], entry[2], entry[4]) for entry in told]):
            self._problem("lost", one, f"{when}: {what}")
        # A parent that stays behind is looked for on the source alone, where the other side may have named one that is not there.
        if len(written.writers) < 2 and not (one in self._crossing and told):
            for entry in told:
                self._problem("told", one, f"{when}: nobody else wrote: {entry}")
            side = next(iter(written.writers), BOTH[0])
            if rows[side] != shows[side]:
                self._problem(
                    "changed", one, f"{when}: what the {side} alone wrote is another: {shows[side]}, {rows[side]}"
                )

    def _look(self) -> None:
        """What PostgreSQL says in the end, and what the product does."""
        for side in BOTH:
            for one, mine in self.islands.items():
                for what in sound.broken(self._connection(side), self.case.schema, list(mine)):
                    self._problem("unsound", one, f"{side}: {what}")
        with self._step("verify"):
            found = verify.run(self.pair.settings)
        if not found.match:
            unlike = [one for one in found.tables if not one.match]
            said = f"{unlike}, {found.orphans}, {found.schema_differences}, {found.recording}, {found.sequences}"
            named = self._named(said if not unlike else str(unlike))
            self._problem("verify", named[0] if named else None, said)
        for side in BOTH:
            with self._step("proof"):
                proof = rollback_proof.prove(self.pair.settings, side, FENCE_SECONDS)
            if not proof.proven:
                self._problem("proof", None, f"{proof}")
        with self._step("diff"):
            self._diff("in the end", schema.diff(self.pair.settings).text)
        state = replicate.status(self.pair.settings)
        for name, direction in (("forward", state.forward), ("reverse", state.reverse)):
            if not direction.running:
                self._problem("status", None, f"{name}: {direction}")


def run(case: Case, make: Callable[..., Pair], broken: Callable[[Pair], object] = lambda _: None) -> Outcome:
    """The chain on fresh databases of ``make`` (tests/conftest.py, `pairs`)."""
    return Chain(case, make(rows=None), broken).run()
