"""Every order in which writes, deliveries, kills and prunes can follow each other, breadth first.

What is found has the shortest history that leads to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from tests.model.judge import Problem, Promise, problems
from tests.model.world import NAMES, SIDES, Message, Row, Rules, Shape, Write

#: What somebody may write in a side's rows, as the write of this number: (key, kind, values) of each write of a transaction.
Choices = Callable[[tuple[Row, ...], int], Iterator[tuple[tuple[int, Any, tuple[tuple[str, int], ...]], ...]]]


class Limits(NamedTuple):
    """How far the search goes."""

    #: Writes of people, both sides together.
    writes: int
    #: Kills after which what was delivered comes again, from any place.
    repeats: int = 0
    #: Prunes, both sides together.
    prunes: int = 0
    #: Whether local transactions stay open while something arrives, and may roll back.
    opens: bool = False
    #: How often the clock of whole seconds moves on.
    seconds: int = 0


class Step(NamedTuple):
    """One thing that happens."""

    what: Literal[
        "writes",
        "opens",
        "commits",
        "rolls back",
        "applies",
        "goes back to",
        "looks",
        "prunes",
        "waits a second",
    ]
    side: int
    writes: tuple[Write, ...] = ()
    #: Which of the other side's transactions, from 0, and how many of them in one.
    at: int = 0
    number: int = 1

    def __str__(self) -> str:
        if self.writes:
            return "; ".join(map(str, self.writes)) + (" (open)" if self.what == "opens" else "")
        if self.what not in ("applies", "goes back to"):
            return f"{NAMES[self.side]} {self.what}"
        upto = f" to {self.at + self.number}" if self.number > 1 else ""
        return f"{NAMES[self.side]} {self.what} {self.at + 1}{upto}"


class State(NamedTuple):
    """Everything there is at one moment."""

    dbs: tuple[Any, Any]
    history: tuple[tuple[Write, ...], tuple[Write, ...]]
    #: Transactions that each side has sent, in order.
    sent: tuple[tuple[Message, ...], tuple[Message, ...]]
    #: How many of the other side's each side has applied (a kill takes it back), and the most that it ever had.
    applied: tuple[int, int]
    reached: tuple[int, int]
    #: A local transaction that is not committed, with its writes.
    opened: tuple[tuple[Message, tuple[Write, ...]] | None, tuple[Message, tuple[Write, ...]] | None]
    looked: tuple[Any, Any]
    left: Limits
    second: int

    def got(self, side: int) -> int:
        """How many writes of the other side's people this side has."""
        return sum(message.writes for message in self.sent[1 - side][: self.reached[side]])

    @property
    def quiet(self) -> bool:
        return self.opened == (None, None) and all(self.applied[side] == len(self.sent[1 - side]) for side in SIDES)


class Found(NamedTuple):
    """A promise that was broken, and the shortest way there."""

    problem: Problem
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"{self.problem.promise}: {self.problem.what}", *self.steps))


class Result(NamedTuple):
    """How many states were looked at, how many of them at rest, and the first way to break each promise."""

    states: int
    quiet: int
    found: dict[Promise, Found]


def _with(pair: tuple[Any, Any], side: int, value: Any) -> tuple[Any, Any]:
    return (value, pair[1]) if side == 0 else (pair[0], value)


def _committed(rules: Rules, state: State, side: int, db: Any, message: Message, writes: tuple[Write, ...]) -> State:
    db, message = rules.commit(db, message)
    return state._replace(
        dbs=_with(state.dbs, side, db),
        history=_with(state.history, side, (*state.history[side], *writes)),
        sent=_with(state.sent, side, (*state.sent[side], message)),
        opened=_with(state.opened, side, None),
    )


def _writes(rules: Rules, choices: Choices, state: State, side: int) -> Iterator[tuple[Step, State]]:
    if state.opened[side] is not None:
        message, writes = state.opened[side] or (Message((), 0), ())
        yield Step("commits", side), _committed(rules, state, side, state.dbs[side], message, writes)
        yield Step("rolls back", side), state._replace(opened=_with(state.opened, side, None))
        return
    knew = state.got(side)
    first = len(state.history[side])
    for choice in choices(rules.rows(state.dbs[side]), 2 * first + side):
        if len(choice) > state.left.writes:
            continue
        writes = tuple(
            Write(2 * (first + n) + side, key, kind, values, knew) for n, (key, kind, values) in enumerate(choice)
        )
        db, message = rules.begin(state.dbs[side], writes, state.second)
        after = state._replace(left=state.left._replace(writes=state.left.writes - len(writes)))
        yield Step("writes", side, writes), _committed(rules, after, side, db, message, writes)
        if state.left.opens:
            yield (
                Step("opens", side, writes),
                after._replace(dbs=_with(state.dbs, side, db), opened=_with(state.opened, side, (message, writes))),
            )


def _deliveries(rules: Rules, state: State, side: int) -> Iterator[tuple[Step, State]]:
    at = state.applied[side]
    waiting = state.sent[1 - side][at:]
    # Several in one, as AWS DMS gathers them.
    for number in range(1, len(waiting) + 1):
        parts = waiting[:number]
        message = Message(tuple(one for part in parts for one in part.records), sum(part.writes for part in parts))
        opened = state.opened[side]
        if opened is None or not rules.waits(state.dbs[side], message, opened[0]):
            db, made = rules.receive(state.dbs[side], message, state.looked[side])
            sent = state.sent if made is None else _with(state.sent, side, (*state.sent[side], made))
            after = at + number
            yield (
                Step("applies", side, at=at, number=number),
                state._replace(
                    dbs=_with(state.dbs, side, db),
                    sent=sent,
                    applied=_with(state.applied, side, after),
                    reached=_with(state.reached, side, max(after, state.reached[side])),
                    looked=_with(state.looked, side, None),
                ),
            )
    if waiting:
        looked = None if state.looked[side] is not None else rules.look(state.dbs[side])
        if looked is not None:
            yield Step("looks", side), state._replace(looked=_with(state.looked, side, looked))
    if state.left.repeats:
        for back in range(at):
            yield (
                Step("goes back to", side, at=back),
                state._replace(
                    applied=_with(state.applied, side, back),
                    left=state.left._replace(repeats=state.left.repeats - 1),
                ),
            )


def begin(rules: Rules, limits: Limits) -> State:
    """Both sides before the first write."""
    none: tuple[None, None] = (None, None)
    return State((rules.start(0), rules.start(1)), ((), ()), ((), ()), (0, 0), (0, 0), none, none, limits, 0)


def steps(rules: Rules, choices: Choices, state: State) -> Iterator[tuple[Step, State]]:
    """Everything that can happen next."""
    for side in SIDES:
        yield from _writes(rules, choices, state, side)
        yield from _deliveries(rules, state, side)
        if state.left.prunes:
            opened = tuple(one[0] for one in state.opened if one is not None)
            pruned = rules.prune(state.dbs[side], state.dbs[1 - side], opened)
            if pruned is not None:
                left = state.left._replace(prunes=state.left.prunes - 1)
                yield Step("prunes", side), state._replace(dbs=_with(state.dbs, side, pruned), left=left)
    if state.left.seconds:
        left = state.left._replace(seconds=state.left.seconds - 1)
        yield Step("waits a second", 0), state._replace(second=state.second + 1, left=left)


def search(
    rules: Rules,
    shape: Shape,
    choices: Choices,
    limits: Limits,
    until: Promise | None = None,
    each: Callable[[State], object] | None = None,
) -> Result:
    """All states within ``limits``, or up to the first in which the promise ``until`` is broken; ``each`` is called with each."""
    start = begin(rules, limits)
    came: dict[State, tuple[State, Step] | None] = {start: None}
    found: dict[Promise, Found] = {}
    layer, quiet = [start], 0
    while layer and until not in found:
        following = []
        for state in layer:
            quiet += state.quiet
            if each is not None:
                each(state)
            got = (state.got(0), state.got(1))
            for problem in problems(rules, shape, state.dbs, state.history, got, state.quiet):
                if problem.promise not in found:
                    found[problem.promise] = Found(problem, _way(came, state))
            for label, after in steps(rules, choices, state):
                if after not in came:
                    came[after] = (state, label)
                    following.append(after)
        layer = following
    return Result(len(came), quiet, found)


def _way(came: dict[State, tuple[State, Step] | None], state: State) -> tuple[str, ...]:
    taken = []
    before = came[state]
    while before is not None:
        state, step = before
        taken.append(str(step))
        before = came[state]
    return tuple(reversed(taken))
