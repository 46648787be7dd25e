"""Fixtures of the tests that need the stand-in applications."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.world import EmulatedAws
from tests.conftest import UNSYNCED
from tests.integration.rehearsal.app.app_world import AppWorld, Caller
from tests.integration.replication.dms.dms_world import DmsWorld


@pytest.fixture(scope="session")
def app_world(server_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppWorld]:
    """Both guises, once for the whole run: starting them takes longer than most of their tests.

    Their server is their own, as tests of the data plane kill and restart theirs.
    """
    directory = tmp_path_factory.mktemp("apps")
    with (
        EmulatedAws(directory / "aws.log") as aws,
        EmbeddedPostgres(server_directory, "apps", settings=UNSYNCED) as server,
    ):
        world = AppWorld(aws, directory)
        try:
            world.login_users()
            world.start_apps(world.make_databases(server))
            yield world
        finally:
            world.stop()


@pytest.fixture(params=("monolith", "task-service"))
def api(request: pytest.FixtureRequest, app_world: AppWorld) -> Iterator[Caller]:
    """Each guise in turn, spoken to over HTTP."""
    caller = Caller(app_world, request.param)
    yield caller
    caller.http.close()


@pytest.fixture(scope="module")
def aws() -> Iterator[EmulatedAws]:
    """One emulated account for the tests of a module."""
    with EmulatedAws() as running:
        yield running


@pytest.fixture
def in_account(aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's boto3 speaks to that account."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def dms_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAws]:
    """One emulated account for all tests of AWS DMS; each empties it."""
    with EmulatedAws(tmp_path_factory.mktemp("dms") / "aws.log") as aws:
        yield aws


@pytest.fixture
def dms_world(dms_account: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DmsWorld]:
    """An empty account with the stand-in of AWS DMS in front of it; this process's boto3 speaks to both."""
    dms_account.reset()
    world = DmsWorld(dms_account, tmp_path)
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    try:
        world.start()
        yield world
    finally:
        world.stop()
