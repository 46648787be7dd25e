"""What reads foreign input gives its meaning, or refuses by an error of ours: whatever else it raises goes through, and fails the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from components.config import ConfigError
from scripts.support.errors import MigrationError

T = TypeVar("T")


def read(work: Callable[[], T]) -> tuple[T | None, str]:
    """What ``work`` gives, or the text with which it refuses; empty where it gave something."""
    try:
        return work(), ""
    except (MigrationError, ConfigError) as error:
        return None, str(error)
