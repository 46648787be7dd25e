"""The account's checks, one module a subject. Needs the stack's file alone; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from components.config_stack import StackConfig
from scripts.preflight.account import listener, network, place, secrets, service, ways
from scripts.preflight.account.asking import Clients, tried
from scripts.preflight.documents import Check

#: What each subject is called in the names of its checks (``listener: rules``), and its checks.
SUBJECTS: tuple[tuple[str, Callable[[StackConfig, Clients], Iterable[Check]]], ...] = (
    ("place", place.checks),
    ("listener", listener.checks),
    ("network", network.checks),
    ("network: ways", ways.checks),
    ("service", service.checks),
    ("secrets", secrets.checks),
)


def checks(config: StackConfig, aws: Clients) -> list[Check]:
    """Every check of the account, in the order of ``SUBJECTS``.

    Returns:
        also for what AWS refuses: a failed check that names the action.
    """
    return [check for name, subject in SUBJECTS for check in tried(name, partial(subject, config, aws))]
