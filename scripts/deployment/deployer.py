"""Moving the declared infrastructure: what a deployment is. The one by the Pulumi CLI is in `cli_deployer`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from scripts.support.errors import Refused

WEIGHT = "canaryWeight"
Op = Literal["create", "update", "replace", "delete", "import"]


@dataclass(frozen=True)
class Change:
    """One resource of a provider that a deployment changes. ``properties`` are names only, never values; ``recurring`` are those
    among them that are declared as at the last deployment, so that another one does not settle them."""

    urn: str
    type: str
    name: str
    op: Op
    properties: tuple[str, ...]
    recurring: tuple[str, ...] = ()


def recurring(names: Collection[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the properties that differ which ``after`` declares as ``before`` did, so that the provider's answer is what differs.

    One that is declared in neither counts only beside no other: a provider tells of what follows from a change too (`tagsAll`).
    """
    same = {name for name in names if before.get(name) == after.get(name)}
    return tuple(sorted(same if len(same) == len(names) else same & set(after)))


@dataclass(frozen=True)
class UpResult:
    """What ``up`` changed, and the stack's outputs after it."""

    changes: tuple[Change, ...]
    outputs: dict[str, Any]


def not_deployed(name: str) -> Refused:
    """The one resource that was to change, or what it depends on, is not there yet."""
    return Refused(
        f"{name} is not deployed, so nothing can be changed alone; deploy the whole program first: pulumi up"
    )


class Deployer(Protocol):
    """One stack. ``overrides`` are changes of the configuration (camelCase keys without namespace) that stay.

    ``only`` names the one resource that may change: every other one stays as it was deployed, whatever is declared of it by now.
    """

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        """Carry the program out with the overrides applied and kept. Raises MigrationError with the cause.

        A failure that changed nothing keeps nothing, when the engine tells.
        """

    def preview(self, overrides: Mapping[str, object], only: str | None = None) -> tuple[Change, ...]:
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
