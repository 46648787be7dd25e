"""A pair on which the canary may begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.verify import run as verify
from tests.conftest import Pair, pairs
from tests.integration.test_chain import running
from tests.mutants.kept import kept

#: What keeps how far the canary is.
KEPT = "DELETE FROM task_migration.settings WHERE name IN ('canary', 'routed')"


@pytest.fixture(scope="module")
def verified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Replication runs both ways, and every row was compared."""
    directory = tmp_path_factory.mktemp("steps")

    @contextmanager
    def made() -> Iterator[Pair]:
        servers = (request.getfixturevalue("source_server"), request.getfixturevalue("target_server"))
        with pairs(*servers, directory) as make:
            pair = running(make, rows=50)
            assert verify.run(pair.settings).match
            yield pair

    with kept("steps", made, directory / "state") as pair:
        yield pair


@pytest.fixture
def pair(verified: Pair, tmp_path: Path) -> Pair:
    """No weight was ever moved."""
    verified.source.execute(KEPT)
    return replace(verified, settings=replace(verified.settings, state_dir=tmp_path / "state"))
