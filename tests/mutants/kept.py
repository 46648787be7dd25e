"""Two servers as a fixture left them, for mutants: each one's tests start a copy of the files, in a second in the place of seven."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.support.process import free_port
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side, other
from tests.conftest import AWKWARD_PASSWORD, UNSYNCED, Pair
from tests.mutants import PLACE


@dataclass(frozen=True)
class _Kept:
    """What the files do not say. Each side is reached by the other at its port: one copy runs at a time."""

    home: Path
    settings: Settings
    database: str
    ports: dict[Side, int]


#: Of this process, and of those that it forks: one for each mutant at a time.
_kept: dict[str, list[_Kept]] = {}


@contextmanager
def kept(name: str, make: Callable[[], AbstractContextManager[Pair]], state: Path) -> Iterator[Pair]:
    """The pair that ``make`` makes, or a copy of what it was when it had just been made, where the environment names a place for it, and how
    many may run at a time; ``state``: the copy's state directory."""
    if (place := os.environ.get(PLACE)) is None:
        with make() as pair:
            yield pair
        return
    if name not in _kept:
        many, _, home = place.partition(" ")
        with make() as pair:
            first = _keep(pair, Path(home) / name)
        # Whoever needs these starts them again; until then their ports are the copies'.
        pair.source_server.stop()
        pair.target_server.stop()
        _kept[name] = [first, *(_moved(first, Path(home) / f"{name}-{number}") for number in range(1, int(many)))]
        for one in _kept[name]:
            # A copy that does not run would count as a mutant that is noticed.
            with _again(one, state):
                pass
    with _free(_kept[name]) as one, _again(one, state) as pair:
        yield pair


def _keep(pair: Pair, home: Path) -> _Kept:
    database = pair.source.info.dbname
    servers: dict[Side, EmbeddedPostgres] = {"source": pair.source_server, "target": pair.target_server}
    home.mkdir()
    for side, server in servers.items():
        server.stop()
        subprocess.run(["cp", "-a", server.home, home / side], check=True)
    for server in servers.values():
        server.start()
    return _Kept(home, pair.settings, database, {side: server.port for side, server in servers.items()})


def _server(home: Path, side: Side, port: int) -> EmbeddedPostgres:
    # The first to start finds nobody to apply from, and tries again after this.
    settings = {**UNSYNCED, "wal_retrieve_retry_interval": "50ms"}
    server = EmbeddedPostgres(home, side, settings=settings, password=AWKWARD_PASSWORD)
    server.port = port
    return server


def _copied(home: Path, server: EmbeddedPostgres) -> EmbeddedPostgres:
    """Started on a copy of the files that are kept in ``home``."""
    subprocess.run(["cp", "-a", home / server.name, server.home], check=True)
    return server.start()


def _moved(first: _Kept, home: Path) -> _Kept:
    """The same at other ports, of which each side's subscription knows the other's."""
    home.mkdir()
    servers: dict[Side, EmbeddedPostgres] = {}
    for side in BOTH:
        servers[side] = _server(home, side, free_port())
        _copied(first.home, servers[side])
    for side, server in servers.items():
        with psycopg.connect(server.url(first.database), autocommit=True) as session:
            for name, way in session.execute(
                "SELECT subname, subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()"
            ).fetchall():
                there = make_conninfo(way, port=servers[other(side)].port)
                session.execute(
                    sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(sql.Identifier(name), sql.Literal(there))
                )
    urls = {side: SecretStr(server.url(first.database)) for side, server in servers.items()}
    settings = replace(first.settings, source_url=urls["source"], target_url=urls["target"])
    for server in servers.values():
        server.stop()
    return _Kept(home, settings, first.database, {side: server.port for side, server in servers.items()})


@contextmanager
def _free(all_: list[_Kept]) -> Iterator[_Kept]:
    """One that no other mutant has; a mutant's process, however it ends, lets go of it."""
    for one in all_:
        with (one.home / "taken").open("w") as taken, suppress(BlockingIOError):
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield one
            return
    raise RuntimeError(f"more than {len(all_)} mutants at a time")


@contextmanager
def _again(one: _Kept, state: Path) -> Iterator[Pair]:
    running = one.home / "running"
    running.mkdir(exist_ok=True)
    servers: list[EmbeddedPostgres] = []
    with ExitStack() as held:
        for side in BOTH:
            server = _server(running, side, one.ports[side])
            if server.data.exists():
                server.start()  # ends the one that a mutant which was killed has left
                server.remove()
            held.callback(server.remove)
            servers.append(_copied(one.home, server))
        source, target = (
            held.enter_context(psycopg.connect(server.url(one.database), autocommit=True, client_encoding="UTF8"))
            for server in servers
        )
        fence.both(one.settings)
        yield Pair(replace(one.settings, state_dir=state), source, target, *servers)
