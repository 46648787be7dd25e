"""How the rehearsal runs a command: as an operator does, and only what the command says it prints is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scripts.preflight.documents import Preflight
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.steps import Steps
from scripts.rehearsal.testbed import Testbed as Bed
from scripts.status.documents import MigrationStatus
from scripts.support.errors import MigrationError, Refused
from scripts.support.settings import PROJECT_ROOT


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    variables = {"TASK_MIGRATION_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(PROJECT_ROOT)}
    bed: Any = SimpleNamespace(
        logs=tmp_path, directory=tmp_path, processes=Processes(tmp_path), environment=lambda: variables
    )
    return Steps(cast(Bed, bed), LiveView(lambda moment: None))


def test_a_commands_document_is_read_and_another_one_is_named(steps: Steps) -> None:
    """Prevents a rehearsal that goes on with a document that is not the command's."""
    assert steps.command(MigrationStatus, "status", accept=(Refused.exit_status,)).events == []
    assert steps.view.moment.step == "task-migration status"
    with pytest.raises(
        MigrationError, match=r"task-migration status did not print a Preflight: checks: Field required"
    ):
        steps.command(Preflight, "status", accept=(Refused.exit_status,))


def test_a_command_that_is_refused_ends_the_rehearsal_with_what_it_said(steps: Steps) -> None:
    """Prevents a failure of which only the exit status is known."""
    with pytest.raises(MigrationError, match=r"(?s)report --path nowhere ended with 2: .*nowhere does not exist"):
        steps.command(MigrationStatus, "report", "--path", "nowhere")
