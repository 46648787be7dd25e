"""Two real PostgreSQL 16 servers for each worker of the run, fresh databases for each test. A missing server fails; nothing skips."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, core
from hypothesis import settings as hypothesis_settings
from psycopg import sql
from pydantic import SecretStr
from xdist.scheduler import LoadScopeScheduling

from components.config import MigrationConfig
from scripts.database import error_text
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.rehearsal.engine.pulumi_cli import search_path
from scripts.support import redact
from scripts.support.progress import Progress, Work
from scripts.support.settings import Settings
from scripts.support.sides import Side
from scripts.support.wait import wait_until

#: Everything that a naive DSN or log would trip over.
AWKWARD_PASSWORD = "p'a@s%20s w/o:rd"
_numbers = itertools.count(1)
#: The operator and the reporting role of tests/integration/roles.py.
CAST = ["operator_at_night", "reporting"]
#: Errors are found in the logs by what explains them. The tests kill servers and never the machine: what PostgreSQL handed to the kernel outlives a `kill -9` unsynced.
#: A password takes one round in the place of 4,096 (PostgreSQL, 'Connections and Authentication'), so a connection 6 ms in the place of 11.
UNSYNCED = {"fsync": "off", "log_error_verbosity": "default", "scram_iterations": "1", "min_wal_size": "32MB"}
# No verdict of a property depends on how busy the machine is, and each failure says how it is played again. A fixture of a test
# is one for all of its examples, which each of them minds.
hypothesis_settings.register_profile(
    "suite",
    deadline=None,
    print_blob=True,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("suite")
#: Tests below these paths run on one worker, one after the other: the rehearsals as each takes both cores and has figures of its
#: own, the others as their fixtures are dear. Every other test goes to whichever worker is free.
GROUPS = (
    ("tests/rehearsal/", "tests/rehearsal"),
    ("tests/integration/canary/test_emergency.py", "emergency"),
    ("tests/integration/canary/test_step.py", "steps"),
    ("tests/integration/canary/test_looks.py", "looks"),
    ("tests/integration/replication/test_two_writers.py", "two writers"),
    ("tests/integration/replication/test_protocol.py", "protocol"),
    ("tests/integration/replication/test_reported_rules.py", "reported rules"),
    ("tests/fuzz/", "fuzz"),
    ("tests/integration/rehearsal/app/test_", "applications"),
    ("tests/integration/rehearsal/gateway/", "applications"),
    ("tests/integration/rehearsal/test_ways.py", "ways"),
    ("tests/integration/report/", "browser"),
    ("tests/integration/errors/", "errors"),
)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Hands out single tests and groups, in the order that :func:`pytest_collection_modifyitems` makes."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group for path, group in GROUPS if nodeid.startswith(path)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """The workers' (`make test`) own scheduler: pytest-xdist 3.8 leaves marks of groups out with pytest 9.2."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def browser() -> str | None:
    """The Chromium that is there, by path: Debian's, or Google's build of it."""
    return next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


def _left_out() -> dict[str, str]:
    """The marks whose tests cannot run on this machine, each with why and the remedy."""
    found = {}
    if shutil.which("pulumi", path=search_path({})) is None:
        found["engine"] = (
            "the tests of the real engine do not run: there is no Pulumi CLI; build it (make engine) or install it"
        )
    if browser() is None:
        found["browser"] = (
            "the tests of what a browser shows do not run: there is no Chromium; install it (make browser, as root on Debian)"
        )
    return found


def _seed(config: pytest.Config) -> int | None:
    """The seed of this run's order, by pytest-randomly; None where it is not loaded (`-p no:randomly`)."""
    return getattr(config.option, "randomly_seed", None)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """What is demanded (`make test ENGINE=required BROWSER=required`, as .ci/run does) has to be there, or nothing runs. What
    Hypothesis draws follows the order's seed, unless `--hypothesis-seed` gives another.
    """
    if config.option.hypothesis_seed is None and (seed := _seed(config)) is not None:
        core.global_force_seed = seed  # type: ignore[assignment]  # as `--hypothesis-seed` does
    for mark, missing in _left_out().items():
        if os.environ.get(mark.upper()) == "required":
            raise pytest.UsageError(missing)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each kind of test that was left out, and how to run the rest in this order again."""
    if (seed := _seed(terminalreporter.config)) is not None:
        terminalreporter.write_line(f"order and drawn examples of this run: --randomly-seed={seed} plays them again")
    for missing in _left_out().values():
        terminalreporter.write_line(missing, yellow=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Leaves out what cannot run here. For workers: the groups first, as they take longest, the short unit tests last, to fill
    the end evenly. Unit tests come in pytest-randomly's order, all others in their file's, or with ORDER=random in random
    order too; in a module those marked `last` follow then, in the file's order.
    """
    collected = {item: number for number, item in enumerate(items)}
    yield  # pytest-randomly shuffles
    if left_out := [item for item in items if any(item.get_closest_marker(mark) for mark in _left_out())]:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)

    def rank(item: pytest.Item) -> int:
        for number, (path, _) in enumerate(GROUPS):
            if item.nodeid.startswith(path):
                return number
        return len(GROUPS) + item.nodeid.startswith("tests/unit/")

    place: dict[Path, int] = {}
    for number, item in enumerate(items):
        place.setdefault(item.path, number)

    def order(item: pytest.Item) -> tuple[int, int]:
        """As collected, or by module as they come; then what is marked `last`, as it was collected."""
        # Unit tests hold alone; the others share servers, accounts and databases that are dear to make.
        if not (item.nodeid.startswith("tests/unit/") or os.environ.get("ORDER") == "random"):
            return -1, collected[item]
        return place[item.path], collected[item] + 1 if item.get_closest_marker("last") is not None else 0

    # Without a seed (`-p no:randomly`) as collected: mutants' tests come fast ones first.
    if _seed(config) is not None or os.environ.get("ORDER"):
        items.sort(key=order)
    if hasattr(config, "workerinput"):
        items.sort(key=rank)


class Recorder(Progress):
    """Progress that keeps what it is told, by name."""

    def __init__(self) -> None:
        self.works: dict[str, Work] = {}

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:
        yield self.works.setdefault(name.strip(), Work(name, total, unit))


@pytest.fixture(autouse=True)
def _of_a_process() -> Iterator[None]:
    """What a command sets for its own process alone: the entry point's umask, the passwords to hide (one test's may be another's
    word), and that errors are told whole (`--show-values`)."""
    before, secrets = os.umask(0o022), set(redact._known)
    yield
    os.umask(before)
    redact._known.intersection_update(secrets)
    error_text.show_values(False)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: what runs in the background (nohup, a CI) may have been started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def directory_of_servers() -> Iterator[Path]:
    """A directory that PostgreSQL's system user may enter, which pytest's own is not when tests run as root."""
    directory = Path(tempfile.mkdtemp(prefix="task-migration-tests-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def one_server(directory: Path, side: Side) -> Iterator[EmbeddedPostgres]:
    """The server of a side."""
    with EmbeddedPostgres(directory, side, settings=UNSYNCED, password=AWKWARD_PASSWORD) as server:
        # The superuser's password, which initdb has hashed with the rounds of a real server.
        server.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(server.password)).as_string())
        yield server


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """As :func:`directory_of_servers`."""
    with directory_of_servers() as directory:
        yield directory


@pytest.fixture(scope="session")
def source_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """The monolith's server."""
    with one_server(server_directory, "source") as server:
        yield server


@pytest.fixture(scope="session")
def target_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """The Task Service's server."""
    with one_server(server_directory, "target") as server:
        yield server


#: What :func:`kept_server` keeps.
_kept: list[EmbeddedPostgres] = []


@pytest.fixture(scope="session")
def kept_server(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    """The monolith's server, for tests that make a database of their process's own and leave all else alone: under `make mutants` one
    serves all mutants, as to start it takes longer than such a test. mutmut runs the tests in its own process first, and then forks."""
    if "MUTANT_UNDER_TEST" not in os.environ:
        server: EmbeddedPostgres = request.getfixturevalue("source_server")
        return server
    if not _kept:
        held = contextlib.ExitStack()
        _kept.append(held.enter_context(one_server(held.enter_context(directory_of_servers()), "source")))
        atexit.register(held.close)
    return _kept[0]


@dataclass
class Pair:
    """A source and a target database, and the settings of a migration between them."""

    settings: Settings
    source: psycopg.Connection[Any]
    target: psycopg.Connection[Any]
    source_server: EmbeddedPostgres
    target_server: EmbeddedPostgres

    def config(self, **changes: Any) -> Settings:
        """The settings with other configuration values (field names)."""
        values = {**self.settings.config.model_dump(by_alias=True), **changes}
        config = MigrationConfig.model_validate(values)
        self.settings = Settings(
            config=config,
            stack=None,
            source_url=self.settings.source_url,
            target_url=self.settings.target_url,
            state_dir=self.settings.state_dir,
        )
        return self.settings


def _drop_subscriptions(server: EmbeddedPostgres, database: str) -> None:
    with psycopg.connect(server.url(database), autocommit=True, client_encoding="UTF8") as connection:
        for (name,) in connection.execute(
            "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()"
        ).fetchall():
            for action in ("DISABLE", "SET (slot_name = NONE)"):
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} " + action).format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(name)))


def _drop_database(server: EmbeddedPostgres, database: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        mine = (database,)
        wait_until(
            lambda: connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active", mine
            ).fetchall(),
            lambda ended: not ended,
            what="slots to be free",
            timeout=20,
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", mine
        )
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        # A session that has just been ended lets go of its origin a moment later.
        wait_until(lambda: _drop_origins(connection), bool, what="origins to be free", timeout=20)


def _drop_origins(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def _drop_cast(server: EmbeddedPostgres) -> None:
    """What they may read is seen by every other test's preflight."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for (role,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (CAST,)).fetchall():
            # Where another pair still has objects of theirs they go with that one.
            with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
                    connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


@contextmanager
def unseen(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Writes that leave no record and fire nothing: damage from outside."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET LOCAL task_migration.applying = 'on'")
        yield connection


@contextmanager
def slot_lost(connection: psycopg.Connection[Any], name: str) -> Iterator[None]:
    """The server keeps next to no log for slots, and has given this one up, which a checkpoint does."""

    def given_up() -> bool:
        connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)), pg_switch_wal()")
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone()
        return row == ("lost",)

    connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        connection.execute("SELECT pg_reload_conf()")
        wait_until(given_up, bool, what="the slot to be lost", timeout=60)
        yield
    finally:
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def pairs(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, directory: Path
) -> Iterator[Callable[..., Pair]]:
    """Makes pairs of fresh databases: ``make_pair(rows=200)``, or ``rows=None`` for empty databases; of another encoding by its name."""
    made: list[tuple[Pair, str]] = []

    def make(rows: int | None = 200, seed: int = 1, encoding: str = "UTF8", **config: Any) -> Pair:
        source_server.start()
        target_server.start()
        number = next(_numbers)
        name = f'myteacher "prod" {number}'
        for server in (source_server, target_server):
            server.execute(
                f"CREATE DATABASE \"{name.replace(chr(34), chr(34) * 2)}\" TEMPLATE template0 ENCODING '{encoding}'"
            )
            for role in ("myteacher_app_user", "task_service_user"):
                with psycopg.connect(server.url(), autocommit=True) as connection:
                    there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
                    # Another test may have given it another password.
                    verb = sql.SQL("ALTER" if there else "CREATE")
                    connection.execute(
                        sql.SQL("{} ROLE {} LOGIN PASSWORD 'secret-of-role'").format(verb, sql.Identifier(role))
                    )
        source, target = (
            psycopg.connect(server.url(name), autocommit=True, client_encoding="UTF8")
            for server in (source_server, target_server)
        )
        # Slots and roles are unique per server, so each pair has names of its own.
        values = {
            "replicationEngine": "native",
            "subscription": f"sub_{number}",
            "publication": f"pub_{number}",
            "replicationRole": f"replication_{number}",
            # Roles of tests/integration/roles.py; that others like them are refused is tests/integration/replication/test_passwords.py's.
            "passwordReaders": [*CAST],
            # Wanted by the first canary step: tests/integration/shadow has the applications that it asks.
            "requireShadow": False,
            **config,
        }
        settings = Settings(
            config=MigrationConfig.model_validate(values),
            stack=None,
            source_url=SecretStr(source_server.url(name)),
            target_url=SecretStr(target_server.url(name)),
            state_dir=directory / f"state-{number}",
        )
        pair = Pair(settings, source, target, source_server, target_server)
        made.append((pair, name))
        if rows is not None:
            create_source_schema(source)
            populate(source, rows, seed)
            source.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO myteacher_app_user")
            source.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO myteacher_app_user")
        return pair

    try:
        yield make
    finally:
        # What a test left is removed whole: a failed test must not make the next one fail.
        for pair, _ in made:
            pair.source.close()
            pair.target.close()
        for step in (_drop_subscriptions, _drop_database):
            for _, name in made:
                for server in (source_server, target_server):
                    server.start()
                    step(server, name)
        if made:
            for server in (source_server, target_server):
                _drop_cast(server)


@pytest.fixture
def make_pair(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path: Path
) -> Iterator[Callable[..., Pair]]:
    """Makes pairs for one test; see :func:`pairs`."""
    with pairs(source_server, target_server, tmp_path) as make:
        yield make
