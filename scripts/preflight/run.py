"""Before step 1: everything that would stop the migration half-way, found while nothing has been changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import get_args

from scripts.database import catalog, engines, helper_schema, strangers
from scripts.database.catalog import Table, parts
from scripts.database.connections import Connection, NotConnected, connect, domain_errors, keeps_views_out
from scripts.database.strangers import Stranger
from scripts.preflight import dms, making, meanings, needs, objects, rights, server, shapes, tables, trials, values, wal
from scripts.preflight.documents import Check, Preflight
from scripts.schema import ownership, statements
from scripts.schema import run as schema
from scripts.support.errors import MigrationError
from scripts.support.events import PreflightEvent, Step
from scripts.support.redact import redact
from scripts.support.settings import Settings
from scripts.support.sides import Side

LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = 1000, 60_000


class _Run:
    """One run: what was found, and what the tables' values measured."""

    def __init__(self, settings: Settings, wal_seconds: float) -> None:
        self.settings, self.wal_seconds = settings, wal_seconds
        self.checks: list[Check] = []
        self.measured: list[values.Measured] = []
        self.connections: dict[Side, Connection] = {}
        self.tables: dict[Side, dict[str, Table]] = {}
        self.others: dict[Side, list[Stranger]] = {}

    def connect(self) -> None:
        sides: tuple[tuple[Side, str], ...] = (("source", self.settings.source()), ("target", self.settings.target()))
        for side, url in sides:
            try:
                self.connections[side] = connect(
                    url,
                    step="preflight",
                    name=f"{side.upper()}_DATABASE_URL",
                    lock_timeout_ms=LOCK_TIMEOUT_MS,
                    statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                )
                self.checks.append(Check(f"{side}: connection", "pass", "reached"))
            except NotConnected as error:
                self.checks.append(Check(f"{side}: connection", "fail", error.cause, error.remedy))
            except MigrationError as error:
                remedy = "mend what it says, then run it again"
                self.checks.append(Check(f"{side}: connection", "fail", str(error), remedy))

    def take(self, name: str, work: Callable[[], Iterable[Check]]) -> None:
        """Add what ``work`` finds; an error of it is a failed check, and the others go on."""
        try:
            with domain_errors(name):
                for check in work():
                    self.checks.append(check)
        except MigrationError as error:
            self.checks.append(
                Check(
                    name,
                    "fail",
                    str(error),
                    "mend this first, then run it again; other checks of its kind could not be made",
                )
            )

    def check_all(self) -> None:
        before = {side: wal.position(connection) for side, connection in self.connections.items()}
        for side, connection in self.connections.items():
            self.take(f"{side}: server", partial(server.server, self.settings, side, connection))
        if len(self.connections) == 2:
            source, target = self.connections["source"], self.connections["target"]
            self.take("both: servers", lambda: server.both(self.settings, source, target))
        for side, connection in self.connections.items():
            self.take(f"{side}: catalog", partial(self.read_catalog, side, connection))
            self.take(f"{side}: code of others", partial(self.look_for_others, side, connection))
            for what, work in self.sections(side, connection, self.tables.get(side)):
                self.take(f"{side}: looking at {what}", work)
        # What the tries write must not count as the application's, so the log is watched before them.
        for side, connection in self.connections.items():
            self.take(f"{side}: hours of WAL", partial(self.wal, side, connection, before[side]))
        for side, connection in self.connections.items():
            self.take(f"{side}: rights", partial(self.rights, side, connection))
        if len(self.tables) == 2:
            self.take("both: schema", self.differences)
            self.trials(self.connections["source"], self.connections["target"], self.tables["source"])

    def trials(self, source: Connection, target: Connection, found: dict[str, Table]) -> None:
        """What later steps do, done: not where code of others would run."""
        config, records = self.settings.config, dict[str, list[trials.Record]]()

        def used() -> Iterator[Check]:
            types = catalog.types(source, found.values())
            made = [(one.schema, one.name) for one in types if one.definition]
            return needs.checks(config, source, target, found.values(), made, statements.schemas(found.values(), types))

        self.take(needs.USED, used)

        def names() -> Iterator[Check]:
            yield from meanings.names(source, target, found, parts.read(source, found.values()))

        # It makes tables there, by their names alone.
        self.take("names in columns", lambda: self.runs("target", "names in columns", ("event trigger",), names))

        def live() -> Iterator[Check]:
            for table in found.values():
                if table.kind == "r" and table.key:
                    tried = trials.live(self.settings, source, table)
                    records[table.name] = tried.records
                    paths = needs.with_path(needs.read(source, config, [table])) if tried.refused else []
                    yield trials.judge_live(table.name, tried, paths)

        def made() -> Iterator[Check]:
            lacks = any(check.name == needs.USED and check.status == "fail" for check in self.checks)
            others = strangers.find_called(source, target, config)
            if lacks or others or any(table.kind != "r" for table in found.values()):
                yield Check(
                    "target: make the tables",
                    "warn",
                    "not tried, as others of these checks failed",
                    "mend those, then run it again",
                )
            else:
                yield from making.made(self.settings, source, target, found, records)

        self.take("source: write", lambda: self.runs("source", "write", get_args(strangers.Kind), live))
        self.take(
            "target: make the tables", lambda: self.runs("target", "make the tables", get_args(strangers.Kind), made)
        )

    def differences(self) -> Iterator[Check]:
        """What `copy` would refuse of tables that are on the target already."""
        if not self.tables["target"]:
            yield Check("both: schema", "pass", "no table on the target yet")
            return
        found = schema.between(self.settings.config, self.connections["source"], self.connections["target"])
        yield tables.named(
            "both: schema",
            [
                f"{one.table}: {one.kind} {one.name} (source {one.source or 'none'}; target {one.target or 'none'})"
                for one in found.differences
            ],
            "the target's tables are as the source's",
            "fail",
            f"on the target, where the source is right: {found.mend}",
        )

    def look_for_others(self, side: Side, connection: Connection) -> Iterator[Check]:
        config = self.settings.config
        self.others[side] = strangers.find(connection, config, side)
        yield Check(
            f"{side}: views of others",
            "pass" if keeps_views_out(connection) else "warn",
            "an error where a table is read"
            if keeps_views_out(connection)
            else "read where somebody puts one in a table's place",
            "bring the server to its newest minor version (restrict_nonsystem_relation_kind, CVE-2024-7348)",
        )
        yield from tables.others(
            side, self.others[side], side == "target" and ownership.may_take_all(connection, config)
        )

    def runs(
        self, side: Side, name: str, kinds: Iterable[strangers.Kind], work: Callable[[], Iterable[Check]]
    ) -> Iterator[Check]:
        """What runs functions of the database: not while there are some of others, which would act as the operator."""
        if side not in self.others or any(one.kind in kinds for one in self.others[side]):
            remedy = "mend what is said of code of others on this side, then run it again"
            yield Check(f"{side}: {name}", "warn", "not tried, as code of others would run", remedy)
        else:
            yield from work()

    def rights(self, side: Side, connection: Connection) -> Iterator[Check]:
        work = partial(rights.rights, self.settings, side, connection, self.tables.get(side, {}))
        yield from self.runs(side, "rights", ("event trigger",), work)

    def wal(self, side: Side, connection: Connection, before: wal.Position) -> Iterator[Check]:
        yield wal.check(self.settings, side, connection, before, self.wal_seconds)

    def read_catalog(self, side: Side, connection: Connection) -> Iterator[Check]:
        config = self.settings.config
        names = catalog.existing(connection, config.db_schema, config.tables)
        missing = [name for name in config.tables if name not in names]
        fine = f"all {len(names)} are there"
        if side == "target" and not names:
            yield Check("target: tables", "pass", "none yet; `task-migration schema apply` makes them")
        elif side == "target":
            yield tables.named("target: tables", missing, fine, "fail", "task-migration schema apply")
        else:
            remedy = "correct `tables` in the stack's configuration"
            yield tables.named("source: tables", missing, fine, "fail", remedy)
        self.tables[side] = catalog.read(connection, config.db_schema, names, side)

    def sections(
        self, side: Side, connection: Connection, found: dict[str, Table] | None
    ) -> Iterator[tuple[str, Callable[[], Iterable[Check]]]]:
        """The groups of checks of one side's tables; one that cannot be made does not keep the others from it."""
        if found is None:
            return
        settings = self.settings
        yield "shapes", lambda: shapes.checks(side, connection, found, side == "source" or self.copied(connection))
        code: tuple[strangers.Kind, ...] = ("owner", "schema", "function", "type")
        work = partial(needs.functions, settings.config, side, connection, found.values())
        yield "functions", lambda: self.runs(side, "functions without a search_path", code, work)
        yield "truncate", lambda: tables.truncation(settings, side, connection, found)
        if side == "source":
            yield "the border", lambda: tables.border(settings, found)
            yield "sequences", lambda: tables.sequences(settings, connection, found)
            target = self.connections.get("target")
            yield "objects", lambda: objects.checks(settings.config, found, target)
            if target is not None:
                yield "what `copy` calls", lambda: tables.called(connection, target, settings)
            yield "large objects", lambda: meanings.large_objects(connection, parts.read(connection, found.values()))
            yield "values", lambda: self.values(connection, found)
            # Checks call functions.
            rows = partial(shapes.unchecked, connection, found)
            yield "unchecked rows", lambda: self.runs(side, "rows that break a check", code, rows)
            domains = partial(shapes.refused_by_domains, connection, found)
            yield "domains", lambda: self.runs(side, "values that their domains refuse", code, domains)
        yield "what DMS needs", lambda: dms.checks(settings, side, connection)

    def copied(self, connection: Connection) -> bool:
        state = helper_schema.get(connection, helper_schema.COPY)
        return bool(state and state.get("status") == "complete")

    def values(self, connection: Connection, found: dict[str, Table]) -> Iterator[Check]:
        self.measured = values.measure(connection, found)
        yield from values.judge(self.settings, self.measured)


def run(
    settings: Settings, wal_seconds: float = wal.SAMPLE_SECONDS, account: Callable[[], list[Check]] | None = None
) -> Preflight:
    """Look at both servers, the roles and the tables. Changes nothing: what is tried is rolled back.

    Args:
        wal_seconds: how long, at least, the write rate of the servers is watched.
        account: looks at the account first; the databases are then looked at only where the environment names one of them,
            as none may be there yet.

    Returns:
        every check; a server that cannot be reached is a failed check, not an error.

    Raises:
        UsageError: a connection string is missing or cannot be read.
        Refused: the migration has ended, and there is nothing to look at in the databases.
    """
    found = _Run(settings, wal_seconds)
    try:
        if account is not None:
            found.checks += account()
        if account is None or settings.source_url or settings.target_url:
            engines.plugin(settings.config)
            found.connect()
            found.check_all()
    finally:
        for connection in found.connections.values():
            connection.close()
    failed = [check.name for check in found.checks if check.status == "fail"]
    # Whether an account was behind it, or a rehearsal's stand-in.
    settings.journal.record(
        Step.PREFLIGHT, PreflightEvent.CHECKED, passed=not failed, failed=failed, stage=settings.stage
    )
    return Preflight(
        checks=[
            Check(check.name, check.status, redact(check.detail), check.remedy if check.status != "pass" else "")
            for check in found.checks
        ],
        passed=not failed,
        largest_rows=values.largest(found.measured),
    )
