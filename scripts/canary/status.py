"""`canary status`: where the weight stands, in the configuration and at the load balancer, and what was left."""

from __future__ import annotations

from scripts.canary import decisions, history, ready
from scripts.canary.documents import CanaryStatus, Unfinished
from scripts.canary.stage import Stage


def status(stage: Stage) -> CanaryStatus:
    """The declared weight, the load balancer's, the ladder's next, and what was not brought to its end."""
    settings = stage.settings
    declared, live = stage.declared_weight(), stage.load_balancer.weight()
    so_far = history.read(settings)
    left, owed = so_far.unfinished, so_far.state(declared, live).rollback_owed
    return CanaryStatus(
        declared=declared,
        live=live,
        drift=declared != live,
        next=ready.next_weight(declared, settings.config.canary_ladder),
        ladder=list(settings.config.canary_ladder),
        unfinished=None if left is None else Unfinished(from_=left[0], to=left[1]),
        rollback_owed=None if owed is None else list(owed),
        last=decisions.newest(settings),
    )
