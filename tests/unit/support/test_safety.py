"""Every transition from every state: what is allowed leaves nobody without his rights and no rollback forgotten; each rule is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from scripts.support import safety
from scripts.support.errors import Refused
from scripts.support.safety import RULES, Rule, State, Transition

WEIGHTS = (0, 25, 100)
STEPS = (None, (0, 25), (25, 100))
#: What a step that is begun goes to, or the ladder's next.
NEXT = {0: 25, 25: 100, 100: 100}


def states() -> Iterator[State]:
    """Each that can be told of: two weights, a step, a rollback, what was reached, who may write, whether changes are carried."""
    yes_no = (True, False)
    for declared, live, step, owed, reached, monolith, service, carried in itertools.product(
        WEIGHTS, WEIGHTS, STEPS, (None, ("a breach",)), WEIGHTS, yes_no, yes_no, yes_no
    ):
        yield State(declared, live, step, owed, reached, "2026-11-27", monolith, service, carried)


def after(transition: Transition, state: State) -> State:
    """What a command makes of a state by a transition, whatever it was allowed to."""
    match transition:
        case Transition.RAISE:
            weight = state.step[1] if state.step else NEXT[state.live or 0]
            return replace(state, declared=weight, live=weight, reached=weight)
        case Transition.PROMOTE:
            return replace(state, step=None)
        case Transition.REVOKE:
            return replace(state, monolith_writes=False)
        case Transition.END:
            return replace(state, carried=False, step=None, owed=None, reached=0)
        case Transition.GIVE_UP:
            return replace(state, carried=False, service_writes=False, step=None, owed=None, reached=0)


def wrong(transition: Transition, before: State, now: State) -> str | None:
    """What must never be, told by the requests alone; not by the rules."""
    sent = {before.live, now.live, now.declared}
    if any(weight != 100 for weight in sent) and not now.monolith_writes:
        return "the monolith gets requests and cannot write"
    if any(weight != 0 for weight in sent) and not now.service_writes:
        return "the Task Service gets requests and cannot write"
    if transition is Transition.REVOKE and not now.carried:
        return "a side writes what nobody carries"
    if transition is Transition.END and before.monolith_writes:
        return "replication is removed though the monolith writes"
    if before.owed and transition in (Transition.RAISE, Transition.PROMOTE, Transition.REVOKE):
        return "a rollback is forgotten"
    if before.declared == before.live == 0 < before.reached and transition is Transition.RAISE:
        return "the weight goes up again over a rollback that nobody proved"
    if transition is Transition.PROMOTE and (before.step is None or before.live != before.step[1]):
        return "another weight than the watched one is promoted"
    if (
        transition is Transition.RAISE
        and before.declared != before.live
        and not {before.declared, before.live} <= set(before.step or ())
    ):
        return "a rule that somebody changed by hand is written over"
    return None


def sound(state: State) -> bool:
    """Whether a state is one to begin from: who gets requests can write there; else no rule has a say in it."""
    return (state.live == 100 or bool(state.monolith_writes)) and (state.live == 0 or bool(state.service_writes))


def faults(rules: Callable[[Transition], tuple[Rule, ...]], transition: Transition) -> list[str]:
    """What a transition does that is wrong, from every sound state from which ``rules`` allow it."""
    found = []
    for state in states():
        given = state if transition in (Transition.RAISE, Transition.GIVE_UP) or sound(state) else None
        if given is None or any(rule(given) is not None for rule in rules(transition)):
            continue
        what = wrong(transition, given, after(transition, given))
        if what is not None:
            found.append(f"{transition} from {given}: {what}")
    return found


@pytest.mark.parametrize("transition", Transition)
def test_what_is_allowed_is_safe_from_every_state(transition: Transition) -> None:
    assert faults(RULES.__getitem__, transition) == []
    assert any(safety.unsafe(transition, state) is None for state in states()), "it is never allowed"


@pytest.mark.parametrize(
    ("transition", "rule"), [(one, rule) for one in Transition for rule in RULES[one]], ids=lambda one: getattr(one, "__name__", str(one))
)  # fmt: skip
def test_each_rule_is_needed(transition: Transition, rule: Rule) -> None:
    """Prevents a rule that no state needs, and the loss of one that some state does."""
    assert faults(lambda one: tuple(other for other in RULES[one] if other is not rule), transition) != []


@pytest.mark.parametrize(
    ("transition", "state", "said"),
    [
        (Transition.RAISE, State(0, 0, reached=25, since="today"), ("was 25 %", "since today", "task-migration rollback")),
        (Transition.RAISE, State(5, 50), ("the stack declares 5 %, the load balancer has 50 %", "pulumi up --refresh")),
        (Transition.RAISE, State(0, 0, service_writes=False), ("Task Service's role cannot write", "replicate start")),
        (Transition.PROMOTE, State(25, 25), ("no step is begun", "declares 25 %")),
        (Transition.PROMOTE, State(0, 0, (0, 25)), ("goes to 25 %", "declares 0 %", "canary status")),
        (Transition.REVOKE, State(100, 25), ("weight is 25 %", "needs 100 %", "canary step")),
        (Transition.REVOKE, State(100, 100, carried=False), ("does not run both ways", "replicate start")),
        (Transition.REVOKE, State(100, 100, owed=("a breach",)), ("a breach", "task-migration rollback")),
        (Transition.END, State(100, 100, monolith_writes=True), ("can write on the source again", "canary status")),
        (Transition.GIVE_UP, State(0, 25), ("25 % of the requests", "the limit is 0 %", "`task-migration rollback`")),
        (Transition.GIVE_UP, State(0, 0, monolith_writes=False), ("cannot write on the source since `finalize` began", "`task-migration finalize`")),
    ],
)  # fmt: skip
def test_a_refusal_says_the_state_the_rule_and_the_remedy(
    transition: Transition, state: State, said: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as refused:
        safety.require(transition, state)
    assert [word for word in said if word not in str(refused.value)] == []


@pytest.mark.parametrize("transition", Transition)
def test_of_what_nobody_looked_at_no_rule_speaks(transition: Transition) -> None:
    """Prevents a refusal by weights where there is no load balancer; only a step that is promoted must be known."""
    assert (safety.unsafe(transition, State()) is None) == (transition is not Transition.PROMOTE)
