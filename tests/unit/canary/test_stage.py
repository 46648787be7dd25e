"""What a canary command acts on where no deployed stack is: the environment names it, and the product knows no rehearsal."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import MigrationConfig
from scripts.canary import stage
from scripts.support.errors import UsageError
from scripts.support.settings import STAGE_VARIABLE, Settings, load_settings


def settings(name: str | None, tmp_path: Path) -> Settings:
    """Settings with this stand-in for a stage."""
    return Settings(MigrationConfig(), None, None, None, tmp_path, stage=name)


def test_environment_names_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a rehearsal whose commands act on the account that the shell happens to have credentials for."""
    monkeypatch.setenv(STAGE_VARIABLE, "builtins:repr")
    loaded = load_settings(None)
    assert loaded.has_load_balancer
    assert str(stage.build(loaded)) == repr(loaded)


@pytest.mark.parametrize("name", ["no.such.module:stage", "scripts.canary.stage:nothing", "not a name"])
def test_a_stand_in_that_cannot_be_loaded_is_named(name: str, tmp_path: Path) -> None:
    """Prevents a leftover variable that ends in a traceback, or is passed by in silence."""
    for build in (stage.build, stage.build_emergency):
        with pytest.raises(UsageError, match=STAGE_VARIABLE) as failure:
            build(settings(name, tmp_path))
        assert name in str(failure.value)
    with pytest.raises(UsageError, match="--stack"):
        stage.build(settings(None, tmp_path))
