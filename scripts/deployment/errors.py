"""How a deployment fails where the program can tell: Pulumi is no way now, or was ended in the middle."""

from __future__ import annotations

from typing import Literal

from scripts.support.errors import MigrationError, Refused, TimedOut

#: When Pulumi cannot run there is a way that needs neither it nor its backend.
AT_ONCE = "to take every request back at once without it: task-migration rollback --emergency"

Why = Literal["cli", "locked", "backend", "cut"]


class NoPulumi(MigrationError):
    """Pulumi is no way now, and the text names the one that needs none: :data:`AT_ONCE`."""


class CannotDeploy(NoPulumi, Refused):
    """Pulumi cannot run: no CLI, the stack locked, the backend away, a creation that was cut. Nothing was changed.

    Args:
        locks: of a locked stack, what the CLI says of the locks.
    """

    def __init__(self, text: str, why: Why | None = None, locks: str = "") -> None:
        super().__init__(text)
        self.why, self.locks = why, locks


class CliTimedOut(NoPulumi, TimedOut):
    """The CLI did not end in time."""


class Killed(MigrationError):
    """A signal ended the CLI in the middle: what it changed is not known."""
