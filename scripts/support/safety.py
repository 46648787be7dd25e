"""What must hold before each transition of the canary and of the ends, whoever makes it and whatever was killed before. Pure.

A state is what the source has kept, what the stack declares, what the load balancer says and who may write; a transition that would leave it unsafe
is refused with the state, the rule and the remedy. Unsafe is: who gets requests cannot write, what he writes reaches nobody else, or a
rollback is forgotten. That two operators do not move at once is the lock's (scripts/canary/operator_lock.py); what is known under it is not
asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from scripts.support.errors import Refused


class Transition(StrEnum):
    """What a command is about to do."""

    #: More requests to the Task Service.
    RAISE = "raise the weight"
    #: The step that was watched is done.
    PROMOTE = "promote the step"
    #: The monolith's role loses its rights to write.
    REVOKE = "make the source read-only"
    #: `finalize` removes replication.
    END = "end the migration"
    #: `rollback --abandon` and `--scenario copy|data` remove replication, or what the target holds.
    GIVE_UP = "give the target up"


@dataclass(frozen=True)
class State:
    """The migration as it was looked at. None: not looked at, or there is none; no rule speaks of it."""

    #: The weight that the stack declares, and that the load balancer has, percent.
    declared: int | None = None
    live: int | None = None
    #: Of the step that was begun and neither promoted nor rolled back: from, to.
    step: tuple[int, int] | None = None
    #: Why a rollback was decided or begun that did not end.
    owed: tuple[str, ...] | None = None
    #: The highest weight since the last whole rollback, and when the Task Service got its first request since.
    reached: int = 0
    since: str | None = None
    #: Whether each application's role may write on its side.
    monolith_writes: bool | None = None
    service_writes: bool | None = None
    #: Whether changes are carried both ways.
    carried: bool | None = None

    @property
    def rollback_owed(self) -> tuple[str, ...] | None:
        """Why a rollback comes first: it was kept, or the source was away when the routes went back."""
        if self.owed is None and self.reached and self.declared == self.live == 0:
            return (f"the weight is 0 %, was {self.reached} %, and no rollback since {self.since} was proven",)
        return self.owed

    @property
    def resumed(self) -> bool:
        """Whether a step that was begun has moved the weight, or may have."""
        return self.step is not None and {self.declared, self.live} <= set(self.step)


Rule = Callable[[State], str | None]


def _nothing_owed(state: State) -> str | None:
    if state.rollback_owed is None:
        return None
    return f"a rollback was begun or decided and did not end ({'; '.join(state.rollback_owed)}); end it first: task-migration rollback"


def _one_weight(state: State) -> str | None:
    if None in (state.declared, state.live) or state.declared == state.live or state.resumed:
        return None
    return (
        f"the stack declares {state.declared} %, the load balancer has {state.live} %: somebody changed the rule beside the program; see "
        "which one is meant, then: pulumi up --refresh, or task-migration rollback"
    )


def _as_begun(state: State) -> str | None:
    to = None if state.step is None else state.step[1]
    if to is not None and state.declared in (None, to) and state.live in (None, to):
        return None
    begun = "no step is begun" if to is None else f"the step that is begun goes to {to} %"
    return (
        f"{begun}, the stack declares {state.declared} % and the load balancer has {state.live} %: somebody changed it under the watch; "
        "see task-migration canary status"
    )


def _all_there(state: State) -> str | None:
    weights = [weight for weight in (state.live, state.declared) if weight is not None]
    if all(weight == 100 for weight in weights):
        return None
    return f"the canary weight is {min(weights)} %, finalize needs 100 %; go on with: task-migration canary step"


def _nobody_there(state: State) -> str | None:
    weight = max(state.declared or 0, state.live or 0)
    if not weight:
        return None
    return (
        f"{weight} % of the requests are on the Task Service, the limit is 0 %: its rows are in use, and what it writes would stay there. "
        "Nothing was changed; run `task-migration rollback` first"
    )


def _monolith_writes(state: State) -> str | None:
    if state.monolith_writes is not False:
        return None
    return (
        "the monolith's role cannot write on the source since `finalize` began, so the target holds the current rows and is not emptied. "
        "Nothing was changed; go on with `task-migration finalize`, or run `task-migration rollback` first, which gives the rights back"
    )


def _monolith_is_silent(state: State) -> str | None:
    if not state.monolith_writes:
        return None
    return "the monolith's role can write on the source again: a rollback has begun meanwhile. Nothing was removed; see task-migration canary status"


def _service_writes(state: State) -> str | None:
    if state.service_writes is not False:
        return None
    return (
        "the Task Service's role cannot write on the target, as after a `rollback --abandon` that did not end; "
        "remedy: task-migration replicate start, which gives it its rights"
    )


def _carried(state: State) -> str | None:
    if state.carried is not False:
        return None
    return "replication does not run both ways, so what either side writes stays there; remedy: task-migration replicate start"


#: The rules of each transition, in the order in which they are told.
RULES: Mapping[Transition, tuple[Rule, ...]] = {
    # Whether changes are carried is judged by readiness, with each direction's own cause.
    Transition.RAISE: (_nothing_owed, _one_weight, _service_writes, _monolith_writes),
    Transition.PROMOTE: (_nothing_owed, _as_begun),
    Transition.REVOKE: (_all_there, _nothing_owed, _carried),
    Transition.END: (_all_there, _monolith_is_silent),
    Transition.GIVE_UP: (_nobody_there, _monolith_writes),
}


def unsafe(transition: Transition, state: State) -> str | None:
    """Why ``transition`` would leave an unsafe state, with the remedy; None: it may be made."""
    return next((why for rule in RULES[transition] if (why := rule(state)) is not None), None)


def require(transition: Transition, state: State) -> None:
    """Raises Refused when ``transition`` would leave an unsafe state."""
    why = unsafe(transition, state)
    if why is not None:
        raise Refused(why)
