"""The two directions of replication: which side each begins and ends on, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from scripts.support.settings import Settings
from scripts.support.sides import Side

#: ``forward`` carries the source's changes to the target, ``reverse`` the target's to the source.
Direction = Literal["forward", "reverse"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")


def publisher(direction: Direction) -> Side:
    """The side whose changes ``direction`` carries."""
    return "source" if direction == "forward" else "target"


def subscriber(direction: Direction) -> Side:
    """The side on which ``direction`` applies them."""
    return "target" if direction == "forward" else "source"


def slot_name(settings: Settings, direction: Direction) -> str:
    """The slot on the publisher that a direction reads; with the native engine its subscription has the same name."""
    config = settings.config
    return config.subscription if direction == "forward" else config.reverse_subscription


@dataclass(frozen=True)
class Login:
    """The role that an engine logs in with on a side, with the password that it has for it."""

    user: str
    password: SecretStr


@dataclass(frozen=True)
class Part:
    """A slot, publication, subscription or task of an engine; ``was_on``: there, and switched on, before `replicate start`.

    ``warnings``: what might show its password to others, accepted by ``--force``.
    """

    name: str
    was_on: bool
    warnings: tuple[str, ...] = ()
