"""Ask both sides the same before the first user, for a sample of users, and compare the answers.

Only GET is sent. What the monolith answered is waited for on the target before the Task Service is asked, by a fence; then the
monolith is asked again (:mod:`scripts.shadow.compare`). What differs is asked for again, and counts when it differs each time, so
that nothing is reported which was under way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import httpx

from scripts.api.session import open_client, tokens_in
from scripts.canary.stage import Stage
from scripts.database import helper_schema
from scripts.database.sides import both, session
from scripts.shadow.compare import Answer
from scripts.shadow.documents import Shadow
from scripts.shadow.looks import Ask, Looks
from scripts.support.errors import Refused
from scripts.support.events import ShadowEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.verify import verdict
from scripts.verify.verdict import Begun

LISTING, SHOWING = "GET /api/tasks", "GET /api/tasks/{id}"
PATH = "/api/tasks"
#: What is asked of each user's list: the default page and each parameter of the contract; `before_id` comes from the answers.
PAGES = ("", "?limit=5", "?is_completed=true", "?is_completed=false")
#: Share of an endpoint's answers that has to be compared for a run to say that all is well.
COMPARED = 0.9
#: Of each user: tasks that are shown one by one, and ids beside them that his lists do not have: both sides must refuse them alike.
SHOWN, BESIDE = 3, 2


def run(
    stage: Stage,
    base_url: str,
    token_file: Path,
    *,
    users: int = 20,
    rate: float = 10.0,
    fence_timeout: float = 30.0,
    timeout: float = 10.0,
    transport: httpx.BaseTransport | None = None,
    progress: Progress = SILENT,
) -> Shadow:
    """Compare the read endpoints' answers of both sides; the verdict is kept on the source, where the canary looks for it.

    Args:
        base_url: of the API, or of the load balancer behind it: with the smoke rule's header the Task Service answers there, without
            it, at weight 0, the monolith.
        token_file: JWTs of users, one a line.
        users: so many of them are asked for, chosen at random.
        rate: requests per second, to both sides together.
        fence_timeout, timeout: seconds for a fence and for one answer.
        transport: another way than the network.

    Raises:
        UsageError: the token file cannot be read.
        Refused: the weight is not 0, the Task Service does not serve, a token is refused, the smoke header leads to the monolith,
            replication was never set up, or nothing could be compared.
        TimedOut: a fence did not come through.
    """
    started = time.monotonic()
    _before_the_first_user(stage)
    if not stage.smoke_rule_leads():
        raise Refused(
            "the smoke rule does not give the Task Service alone what has the stack's smoke header, so nobody knows who would answer; put "
            "it back: pulumi up --refresh"
        )
    health = stage.service.health() if stage.service is not None else None
    if health is not None and health.problems:
        raise Refused(
            f"the Task Service is not ready for requests: {health}; mend that, then task-migration canary start-service"
        )
    tokens = tokens_in(token_file)
    with both(stage.settings, "shadow", "shadow") as (source, target):
        begun = verdict.begin(source, target)
    chosen = random.sample(range(len(tokens)), min(users, len(tokens)))
    with (
        open_client(base_url, {}, timeout, transport) as monolith,
        open_client(base_url, stage.smoke_headers(), timeout, transport) as service,
        progress.work("compare answers", None, "requests") as told,
    ):
        looks = Looks(stage.settings, monolith, service, tokens, rate, fence_timeout, told)
        pages = looks.look([Ask(LISTING, PATH + query, user) for user in chosen for query in PAGES])
        looks.look([ask for user in chosen for ask in following(user, pages)])
    _before_the_first_user(stage)
    endpoints = [looks.tally[name].document(name) for name in (LISTING, SHOWING)]
    differ = any(one.differences for one in endpoints)
    for one in endpoints:
        least = max(1, ceil(COMPARED * (one.answers + one.unsettled)))
        if one.answers < least and not differ:
            raise Refused(
                f"{one.endpoint}: {one.answers} answers of {len(chosen)} users could be compared, at least {least} must be; {one.unsettled} did not "
                f"hold still or had no answer; name users who have tasks in {token_file.name}, and see that the monolith answers them"
            )
    found = Shadow(
        match=not differ,
        users=len(chosen),
        requests=looks.requests,
        fence_seconds=looks.fence_seconds,
        told_apart=all(looks.named.values()),
        seconds=round(time.monotonic() - started, 3),
        endpoints=endpoints,
    )
    _keep(stage, begun, found)
    return found


def _before_the_first_user(stage: Stage) -> None:
    declared, live = stage.declared_weight(), stage.load_balancer.weight()
    if declared or live:
        raise Refused(
            f"the live rule gives the Task Service {live} %, the stack declares {declared} %: whose answer it is could not be told; answers "
            "are compared before the first user, at 0 %"
        )


def _keep(stage: Stage, begun: Begun, found: Shadow) -> None:
    definition = stage.service.definition if stage.service is not None else None
    kept = {"match": found.match, "definition": definition, "began": begun.began, "copy": begun.copy}
    with session(stage.settings, "source", "shadow", "shadow") as source:
        helper_schema.put(source, helper_schema.SHADOWED, kept)
    differing = {
        one.endpoint: sorted({f"{difference.field}: {difference.kind}" for difference in one.differences})
        for one in found.endpoints
    }
    answers, different = (
        {one.endpoint: getattr(one, of) for one in found.endpoints} for of in ("answers", "different")
    )
    stage.settings.journal.record(
        Step.SHADOW,
        ShadowEvent.COMPARED,
        match=found.match,
        users=found.users,
        answers=answers,
        different=different,
        differing=differing,
    )


def following(user: int, pages: Mapping[Ask, tuple[Answer, Answer]]) -> Iterator[Ask]:
    """What is asked after a user's lists: the next page, some of the tasks that either side showed, and ids beside them."""
    bodies = [(ask, one.body) for ask, both in pages.items() if ask.user == user for one in both]
    ids = sorted({int(task["id"]) for _, body in bodies for task in _tasks(body) if str(task.get("id")).isdecimal()})
    for before in {
        str(body["next_before_id"])
        for ask, body in bodies
        if "limit=" in ask.path and isinstance(body, dict) and body.get("next_before_id")
    }:
        yield Ask(LISTING, f"{PATH}?limit=5&before_id={before}", user)
    some = random.sample(ids, min(SHOWN, len(ids)))
    beside = sorted({number + 1 for number in ids} - set(ids))
    for number in (*some, *random.sample(beside, min(BESIDE, len(beside)))):
        yield Ask(SHOWING, f"{PATH}/{number}", user)


def _tasks(body: Any) -> list[dict[str, Any]]:
    tasks = body.get("tasks") if isinstance(body, dict) else None
    return [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
