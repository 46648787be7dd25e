"""Moving the declared infrastructure: what a deployment is. The one by the Pulumi CLI is in `cli_deployer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

WEIGHT = "canaryWeight"
Op = Literal["create", "update", "replace", "delete"]


@dataclass(frozen=True)
class Change:
    """One resource of a provider that a deployment changes. ``properties`` are names only, never values."""

    urn: str
    type: str
    name: str
    op: Op
    properties: tuple[str, ...]


@dataclass(frozen=True)
class PreviewResult:
    """What ``up`` would change."""

    changes: tuple[Change, ...]


@dataclass(frozen=True)
class UpResult:
    """What ``up`` changed, and the stack's outputs after it."""

    changes: tuple[Change, ...]
    outputs: dict[str, Any]


class Deployer(Protocol):
    """One stack. ``overrides`` are changes of the configuration (camelCase keys without namespace) that stay."""

    def up(self, overrides: Mapping[str, object]) -> UpResult:
        """Carry the program out with the overrides applied and kept. Raises MigrationError with the cause.

        A failure that changed nothing keeps nothing, when the engine tells.
        """

    def preview(self, overrides: Mapping[str, object]) -> PreviewResult:
        """What ``up`` with these overrides would change; nothing is kept. Raises MigrationError with the cause."""

    def keep(self, overrides: Mapping[str, object]) -> None:
        """Write the overrides into the configuration and deploy nothing: the next ``up`` carries them out.

        Needs neither the engine nor its backend; see :class:`scripts.deployment.stack_file.StackFile` for a stack whose deployer
        cannot even be made.
        """

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs; secret ones are remembered for redaction."""

    def config(self) -> dict[str, Any]:
        """The stack's configuration with what was overridden so far; without secret keys."""

    def destroy(self) -> None:
        """Delete everything. Raises Refused while something is protected."""
