"""Two servers as a fixture left them, for mutants: each one's tests start a copy of the files, in a second in the place of seven."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from tests.conftest import AWKWARD_PASSWORD, UNSYNCED, Pair
from tests.mutants import PLACE


@dataclass(frozen=True)
class _Kept:
    """What the files do not say. Each side is reached by the other at its port: one copy runs at a time."""

    settings: Settings
    database: str
    ports: dict[Side, int]


#: Of this process, and of those that it forks.
_kept: dict[str, _Kept] = {}


@contextmanager
def kept(name: str, make: Callable[[], AbstractContextManager[Pair]], state: Path) -> Iterator[Pair]:
    """The pair that ``make`` makes, or a copy of what it was when it had just been made, where the environment names a place for it; ``state``: the copy's
    state directory."""
    place = os.environ.get(PLACE)
    if place is None:
        with make() as pair:
            yield pair
        return
    home = Path(place) / name
    if name not in _kept:
        with make() as pair:
            _kept[name] = _keep(pair, home)
        # Whoever needs these starts them again; until then their ports are the copies'.
        pair.source_server.stop()
        pair.target_server.stop()
    with _again(_kept[name], home, state) as pair:
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
    return _Kept(pair.settings, database, {side: server.port for side, server in servers.items()})


@contextmanager
def _again(one: _Kept, home: Path, state: Path) -> Iterator[Pair]:
    running = home / "running"
    running.mkdir(exist_ok=True)
    servers: list[EmbeddedPostgres] = []
    with ExitStack() as held:
        for side in BOTH:
            # The first to start finds nobody to apply from, and tries again after this.
            settings = {**UNSYNCED, "wal_retrieve_retry_interval": "50ms"}
            server = EmbeddedPostgres(running, side, settings=settings, password=AWKWARD_PASSWORD)
            server.port = one.ports[side]
            if server.data.exists():
                server.start()  # ends the one that a mutant which was killed has left
                server.remove()
            subprocess.run(["cp", "-a", home / side, server.home], check=True)
            held.callback(server.remove)
            servers.append(server.start())
        source, target = (
            held.enter_context(psycopg.connect(server.url(one.database), autocommit=True, client_encoding="UTF8"))
            for server in servers
        )
        fence.both(one.settings)
        yield Pair(replace(one.settings, state_dir=state), source, target, *servers)
