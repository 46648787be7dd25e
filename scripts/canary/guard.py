"""What the deployment of a step may change: the live rule's actions. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from components import naming
from scripts.deployment.deployer import Change

RULE_TYPE = "aws:lb/listenerRule:ListenerRule"
#: The one resource that a step and a rollback change; nothing else is touched, whatever else is declared by then.
LIVE_RULE = f"{naming.ROUTES}-{naming.LIVE_RULE}"


def beside(changes: Iterable[Change]) -> tuple[str, ...]:
    """What a preview shows beside the live rule's actions, each with what settles it; empty when the step may go on."""
    return tuple(text for change in changes if (text := _beside(change)) is not None)


def _beside(change: Change) -> str | None:
    names = list(change.properties)
    if (change.type, change.name, change.op) == (RULE_TYPE, LIVE_RULE, "update"):
        names = [name for name in names if name != "actions"]
        if not names:
            return None
    recurring = [name for name in names if name in change.recurring]
    parts = []
    # A creation has all its inputs as differences, a deletion none.
    if change.op in ("create", "delete") or len(recurring) < len(names):
        named = "" if change.op in ("create", "delete") else f" {', '.join(n for n in names if n not in recurring)}:"
        parts.append(f"{named} deploy that first, by itself: pulumi up")
    if recurring:
        parts.append(
            f" {', '.join(recurring)}: declared as at the last deployment, and what AWS answers differs, so that it comes back after each "
            "`pulumi up`. See what AWS has (pulumi refresh, then pulumi preview --diff) and declare that, or leave it to AWS by "
            "ignore_changes of the resource"
        )
    found = f"{change.op} {change.name} ({change.type})"
    return f"the deployment would change more than the live rule's weights: {found};{' and'.join(parts)}"
