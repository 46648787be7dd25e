"""The scenarios: what happens, what has to be seen, and what brings it about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scripts.rehearsal.documents import ScenarioLine, Scenarios
from scripts.rehearsal.plan import ScenarioName
from scripts.rehearsal.scenarios import operators, replication, servers, service
from scripts.rehearsal.scenarios.judge import Must
from scripts.rehearsal.scenarios.night import Night
from scripts.replication.writers import BOTH_SIDES

BACK = frozenset({"rollback"})


@dataclass(frozen=True)
class Scenario:
    """One fault: ``play`` brings it about in a night at weight 0, and measures what becomes of it."""

    what: str
    must: str
    play: Callable[[Night], None]
    judged: Must
    #: Whether both directions run before; else nothing is copied.
    replicating: bool = True


def listed() -> Scenarios:
    """What `rehearse --list` answers."""
    return Scenarios(
        scenarios=[ScenarioLine(name=name, what=one.what, must=one.must) for name, one in SCENARIOS.items()]
    )


SCENARIOS: Mapping[ScenarioName, Scenario] = {
    "copy-killed": Scenario(
        "a copy's sessions are ended by the server, then a copy is killed itself, both in the middle",
        "the next one says what it found, starts anew and ends whole; users see nothing of any of them",
        servers.killed,
        Must(frozenset({"starts anew"}), r"an unfinished copy", seconds=20.0),
        replicating=False,
    ),
    "bad-release": Scenario(
        "every second answer of the Task Service is a 500, and its health check is fine",
        "the step rolls back by the error rate after three bad minutes; no write is lost",
        service.bad,
        Must(BACK, r"error rate|5xx beside the monolith", periods=3, codes=frozenset({500})),
    ),
    "slow-release": Scenario(
        "one answer of fifty of the Task Service comes three seconds late: no error, and no P95 moves",
        "the step rolls back by the share of slow answers",
        service.slow,
        Must(BACK, r"took 2000 ms or more, the limit is below 1 %", periods=8),
    ),
    "no-healthy-target": Scenario(
        "all tasks of the Task Service go",
        "it is told at the next look, the step rolls back after two minutes without a healthy target",
        service.deserted,
        Must(BACK, r"no target of the Task Service is healthy", periods=1, codes=frozenset({502, 503})),
    ),
    "tasks-killed": Scenario(
        "all tasks of the Task Service are killed and stay registered, so that the load balancer sends requests on to them",
        "the step rolls back by the error rate, which the load balancer's own answers are part of",
        service.killed,
        Must(BACK, r"error rate", periods=3, codes=frozenset({502})),
    ),
    "no-figures": Scenario(
        "CloudWatch has nothing of the load balancer any more, while requests come",
        "the step rolls back after two minutes that nobody can judge; users see nothing",
        service.unseen,
        Must(BACK, r"figures of the Task Service is .*CloudWatch has nothing of the load balancer", periods=2),
    ),
    "inconsistency": Scenario(
        "a superuser changes a row of the target so that no record tells of it, while the ladder goes on unattended",
        "the verification beside the next watch finds it, nothing is promoted; verify names the row and repairs it",
        replication.inconsistent,
        Must(frozenset({"hold", "refused"}), r"the last verification found differences", seconds=90.0, over=300.0),
    ),
    "reverse-stalled": Scenario(
        "the subscription that brings the Task Service's writes to the monolith is switched off, while users write there",
        "the step rolls back at the next look; the rollback says at once what it cannot prove and what to type, and proves it after that",
        replication.stalled,
        Must(BACK, r"is disabled", seconds=15.0),
    ),
    "source-restart": Scenario(
        "the monolith's server is restarted without a checkpoint, under load, in the middle of a watch",
        "users get 503 while it is away; the step goes on and decides; both directions go on by themselves, every row is equal",
        servers.restarted,
        Must(frozenset({"promote", "hold", "rollback"}), r"", seconds=90.0, codes=frozenset({503})),
    ),
    "slot-lost": Scenario(
        "the slot that keeps the monolith's writes for the Task Service is dropped",
        "the step rolls back at the next look, every write is on the monolith; status names the slot, and a new copy ends it",
        replication.lost,
        Must(BACK, r"slot \w+ does not exist", seconds=15.0, over=240.0),
    ),
    "two-operators": Scenario(
        "a second operator makes a step while the first one watches; a third takes the canary over",
        "the second is refused by the first one's name, the first stops when it is taken over, the weight moves once",
        operators.two,
        Must(frozenset({"promote", "hold"}), r"another operator moves the weight", seconds=15.0),
    ),
    "pulumi-away": Scenario(
        "the release is bad, and Pulumi's back end does not answer at the moment of the rollback",
        "the load balancer's API moves the routes within the limit, and says what Pulumi does not know; one rollback later both agree",
        operators.away,
        Must(BACK, r"error rate|5xx", periods=3, codes=frozenset({500})),
    ),
    "two-schedulers": Scenario(
        "the scheduler runs on both sides",
        "it is told at once; the step holds, as a rollback would not end it",
        service.twice,
        Must(frozenset({"hold"}), BOTH_SIDES, seconds=10.0),
    ),
}
