"""The settings of a command, with the way to a deployed stack's URLs: only there Pulumi and AWS are asked, and imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.canary.stage import Stage
    from scripts.support.settings import Settings
    from scripts.support.sides import Side


def load_settings(stack: str | None, show_values: bool = False) -> Settings:
    """As :func:`scripts.support.settings.load_settings`; a URL that the environment lacks comes from the stack.

    ``show_values``: the command was asked for what errors quote of rows.
    """
    quote_values(show_values)
    from functools import cache

    from scripts.support import settings

    # Once in a command: each takes the CLI some seconds.
    return settings.load_settings(stack, cache(_deployed_url))


def stage_of(settings: Settings) -> Stage:
    """What canary commands act on: the deployed stack, or the running rehearsal. Raises as :func:`scripts.canary.stage.build`."""
    from scripts.canary import stage

    return stage.build(settings)


def quote_values(asked: bool) -> None:
    """Have errors quote rows when the command was asked for that."""
    if asked:
        from scripts.database import error_text

        error_text.show_values(True)


def _deployed_url(stack: str, side: Side) -> str:
    from scripts.deployment.cli_deployer import CliDeployer
    from scripts.support.aws import database_url
    from scripts.support.settings import stack_file

    return database_url(side, CliDeployer(stack, stack_file(stack).parent).outputs())
