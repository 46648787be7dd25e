"""The plan's load test: 100 users, 50 requests/s, reads and writes on all 8 endpoints and /health, with a ledger.

    locust -f tests/load/task_service_load_test.py --headless -u 100 -r 50 -t 3m --host https://API

From the project's root; the same file for the rehearsal and for staging. Each user sends one request every two seconds on average:
one a 1.3 s for 24 s, then none for 12 s, as who has looked at what there is to do puts the phone away.

Environment:
    TASK_LOAD_TOKENS_FILE    JSON list of {"user_id", "token", "group"}: users of one group share tasks; or, to log in to Cognito,
    TASK_LOAD_CLIENT_ID and TASK_LOAD_USERS_FILE (JSON list of {"username", "password"}), AWS_REGION, AWS_ENDPOINT_URL
    TASK_LOAD_LEDGER         the ledger, JSON lines, appended to (default build/load/ledger.jsonl)
    TASK_LOAD_STATS          a JSON file with the figures so far, replaced every second (default: none)
    TASK_LOAD_MAX_P95_MS, TASK_LOAD_MAX_ERROR_PERCENT   limits (500 and 1); above one of them the exit status is 1
    TASK_LOAD_RATE           requests/s of one user (default 0.5)
    TASK_LOAD_PAUSE_SECONDS  how long a user pauses after 24 s of work (default 12); the rate is kept by more requests before
    TASK_LOAD_THINK_SECONDS, TASK_LOAD_LAG_SECONDS, TASK_LOAD_NOTICE_SECONDS    see actor.py (defaults 1.5, 10 and 5)
    TASK_LOAD_WITHOUT_COOKIES   percent of the users who keep no cookies, as applications without a jar do (default 10)
    TASK_LOAD_SEED           makes the users' choices repeatable (default 1)
    TASK_LOAD_WEIGHTS_URL, TASK_LOAD_TASK_GROUP   where the listener's weights can be read as {"weights": {ARN: number}}, and the
                             Task Service's target group; stale reads are counted by weight then

A user whose token is used by two of the -u users would read stale all the time: there must be a token for each. Of a hundred
writes one is cut off before its answer, on purpose, and sent again, as are those that end in a 5xx.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import logging
import os
import time
from collections import Counter, deque
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import boto3
import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import StopUser

from scripts.rehearsal.emulated.metric_math import percentile
from scripts.rehearsal.ledger import Ledger, rows_from
from scripts.rehearsal.tokens import login
from tests.load.actor import Actor, Call, Group, Result, Timetable

log = logging.getLogger(__name__)
RECENT_SECONDS = 10.0
#: A user who goes away does so within so many seconds.
CUT_WITHIN = 0.05
#: Requests under way get this long to end when the load stops, so that their outcome is known.
STOP_TIMEOUT = 10.0


def _number(name: str, default: float) -> float:
    return float(os.environ.get(name) or default)


class Person(NamedTuple):
    """A user of the load; id and group are None when they are not known."""

    user_id: int | None
    token: str
    group: int | None


def load_tokens() -> list[Person]:
    """The users, from the file or by logging in."""
    path = os.environ.get("TASK_LOAD_TOKENS_FILE")
    if path:
        items = json.loads(Path(path).read_text(encoding="utf-8"))
        return [Person(item.get("user_id"), item["token"], item.get("group")) for item in items]
    client_id, users = os.environ.get("TASK_LOAD_CLIENT_ID"), os.environ.get("TASK_LOAD_USERS_FILE")
    if not client_id or not users:
        raise SystemExit("set TASK_LOAD_TOKENS_FILE, or TASK_LOAD_CLIENT_ID and TASK_LOAD_USERS_FILE")
    cognito: Any = boto3.client("cognito-idp")
    listed = json.loads(Path(users).read_text(encoding="utf-8"))
    return [Person(None, login(cognito, client_id, item["username"], item["password"]), None) for item in listed]


TIMETABLE = Timetable(_number("TASK_LOAD_RATE", 0.5), pause=_number("TASK_LOAD_PAUSE_SECONDS", 12.0))


def keeps_cookies(place: int) -> bool:
    """Whether the user at this place of the list keeps cookies; those who do not are spread evenly."""
    percent = _number("TASK_LOAD_WITHOUT_COOKIES", 10)
    return (place + 1) * percent // 100 == place * percent // 100


class Load:
    """What all users of the run share: tokens, ledger, counts."""

    def __init__(self) -> None:
        self.tokens = load_tokens()
        self.places = itertools.count()
        self.started = time.monotonic()
        self.run = f"load-{int(time.time()):x}"
        self.ledger = Ledger(Path(os.environ.get("TASK_LOAD_LEDGER") or "build/load/ledger.jsonl"))
        self.groups: dict[int | None, Group] = {}
        for person in self.tokens:
            if person.group is not None and person.user_id is not None:
                self.groups.setdefault(person.group, Group()).members.append(person.user_id)
        self.verdicts: Counter[str] = Counter()
        #: Percent of the requests that the Task Service gets now; None when it is not known.
        self.weight: int | None = None
        self.cut_off = 0
        #: By side, weight and whether the user keeps cookies: answers that showed users their own writes, and those of them that
        #: did not.
        self.reads: Counter[tuple[str, int | None, bool]] = Counter()
        self.stale: Counter[tuple[str, int | None, bool]] = Counter()
        self.served_by: Counter[str] = Counter()
        self.acknowledged = 0
        self.messages: Counter[str] = Counter()
        #: (at, milliseconds, failed, served by) of the newest requests.
        self.recent: deque[tuple[float, float, bool, str | None]] = deque(maxlen=10_000)
        #: Seconds that users came too late to their turn, since the figures were written last.
        self.late: list[float] = []

    def account(self, result: Result, milliseconds: float, target: str | None, cookies: bool) -> None:
        """Count one answered request."""
        self.verdicts[result.verdict] += 1
        self.served_by[target or "none"] += 1
        self.recent.append((time.time(), milliseconds, result.verdict == "failed", target))
        where = (target or "none", self.weight, cookies)
        self.reads[where] += result.read
        self.stale[where] += result.verdict == "stale_read"
        if result.message:
            self.messages[result.message] += 1
        self.note(result)

    def note(self, result: Result) -> None:
        """Into the ledger with what is for it."""
        if result.entry is not None:
            self.acknowledged += result.entry.acknowledged
            self.ledger.write(result.entry)

    def figures(self, environment: Environment) -> dict[str, Any]:
        """The statistics so far, and those of the last ten seconds."""
        total = environment.stats.total
        since = time.time() - RECENT_SECONDS
        recent = [item for item in self.recent if item[0] >= since]
        late, self.late = self.late, []
        times = sorted(item[1] for item in recent)
        return {
            "at": time.time(),
            "users": environment.runner.user_count if environment.runner else 0,
            "requests": total.num_requests,
            "failures": total.num_failures,
            "p50_ms": total.get_response_time_percentile(0.5) if total.num_requests else None,
            "p95_ms": total.get_response_time_percentile(0.95) if total.num_requests else None,
            "served_by": dict(self.served_by),
            "acknowledged_writes": self.acknowledged,
            "lag_misses": self.verdicts["lag_miss"],
            "cut_off": self.cut_off,
            # P95 of how long this machine kept users from their turn: no answer takes part in it.
            "late_ms": round(1000.0 * (percentile(sorted(late), 95) or 0.0), 1) if late else None,
            "stale_reads": [
                {
                    "side": side,
                    "weight": weight,
                    "cookies": cookies,
                    "reads": count,
                    "stale": self.stale[side, weight, cookies],
                }
                for (side, weight, cookies), count in self.reads.items()
                if count
            ],
            "problems": dict(self.messages.most_common(10)),
            "recent": {
                "seconds": RECENT_SECONDS,
                "requests": len(recent),
                "failures": sum(item[2] for item in recent),
                "p50_ms": percentile(times, 50),
                "p95_ms": percentile(times, 95),
                "served_by": dict(Counter(item[3] or "none" for item in recent)),
            },
        }


def read_weight(load: Load) -> None:
    """Ask for the weight of now, where there is somebody to ask."""
    url, group = os.environ.get("TASK_LOAD_WEIGHTS_URL"), os.environ.get("TASK_LOAD_TASK_GROUP")
    if url and group:
        try:
            with build_opener(ProxyHandler({})).open(url, timeout=2.0) as answer:
                weights = json.loads(answer.read())["weights"]
            load.weight = round(100 * weights.get(group, 0) / sum(weights.values()))
        except (OSError, ValueError, KeyError, ZeroDivisionError):
            load.weight = None


def write_figures(load: Load, environment: Environment) -> None:
    """Replace the file of TASK_LOAD_STATS in one step."""
    name = os.environ.get("TASK_LOAD_STATS")
    if name:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(load.figures(environment), ensure_ascii=False), encoding="utf-8")
        fresh.replace(path)


class TaskUser(FastHttpUser):
    """One person at work on the tasks of their group."""

    # A certificate is checked, as a browser does.
    insecure = False
    connection_timeout = 10.0
    network_timeout = 30.0

    def on_start(self) -> None:
        """Take the next token."""
        self.load: Load = self.environment.task_load
        place = next(self.load.places)
        if place >= len(self.load.tokens):
            log.error("there are %d tokens, a user more than that has none; give a token per user", place)
            raise StopUser
        user_id, token, group = self.load.tokens[place]
        self.headers = {"Authorization": f"Bearer {token}"}
        self.cookies = keeps_cookies(place)
        if not self.cookies:
            self.client.cookiejar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.actor = Actor(
            random=Random(f"{os.environ.get('TASK_LOAD_SEED', '1')}:{place}"),
            marker=f"{self.load.run}-{place}",
            user=user_id,
            group=self.load.groups.get(group) or Group(),
            think_seconds=_number("TASK_LOAD_THINK_SECONDS", 1.5),
            lag_seconds=_number("TASK_LOAD_LAG_SECONDS", 10.0),
            notice_seconds=_number("TASK_LOAD_NOTICE_SECONDS", 5.0),
        )
        # Locust starts users in batches; without an offset of their own they would all send in the same moment for ever: 50 requests
        # at one instant, then none for a second. The offset is of a whole round, so that as many pause at any time.
        users = self.environment.parsed_options.num_users or len(self.load.tokens)
        self.first = self.load.started - TIMETABLE.round * place / users
        self.due = 0.0
        gevent.sleep(self.wait_time())

    def wait_time(self) -> float:
        """Seconds until this user's next place in the timetable. Turns that a slow answer cost are left out, not made up for in a burst.

        Not locust's constant_throughput: that takes a sleep in on_start for run time, and so undoes the even spread.
        """
        now = time.monotonic()
        self.due = self.first + TIMETABLE.next(max(now, self.due) - self.first)
        return max(0.0, self.due - now)

    @task
    def act(self) -> None:
        """One request; after some writes a look at what came of it at once, which takes the next turn in the timetable."""
        self.load.late.append(time.monotonic() - self.due)
        call = self.actor.next_call(time.monotonic())
        self._send(call)
        look = self.actor.look(call, time.monotonic())
        if look is not None:
            self._send(look)
            self.due = self.first + TIMETABLE.next(self.due - self.first)

    def _send(self, call: Call) -> None:
        headers = {} if call.op == "health" else self.headers
        settled = False
        started = time.monotonic()
        try:
            if call.cut:
                self._cut(call)
                result = self.actor.settle(call, 0, None, None, time.monotonic(), time.time())
                settled = True
                self.load.cut_off += 1
                self.load.note(result)
                return
            with self.client.request(
                call.method, call.path, name=call.name, json=call.body, headers=headers, catch_response=True
            ) as response:
                now = time.monotonic()
                status = int(response.status_code or 0)
                target = response.headers.get("x-served-by") if response.headers else None
                rows = rows_from(response.headers.get("x-rows") if response.headers else None)
                result = self.actor.settle(call, status, _json(response, status), target, now, time.time(), rows)
                self.load.account(result, (now - started) * 1000, target, self.cookies)
                settled = True
                if result.verdict == "failed":
                    response.failure(result.message)
                else:
                    response.success()
        finally:
            # Cut off by the end of the run: the write may be there or not, and the ledger must say so.
            entry = None if settled else self.actor.abandon(call, time.monotonic(), time.time())
            if entry is not None:
                self.load.ledger.write(entry)

    def _cut(self, call: Call) -> None:
        """Send the request and go away, as a phone in a tunnel does; whether it is carried out stays unknown."""
        host = urlsplit(self.host or "")
        kind = http.client.HTTPSConnection if host.scheme == "https" else http.client.HTTPConnection
        connection = kind(host.hostname or "", host.port, timeout=self.connection_timeout)
        asked = Request(f"{self.host}{call.path}")
        self.client.cookiejar.add_cookie_header(asked)
        headers = {**self.headers, "Content-Type": "application/json", **dict(asked.header_items())}
        with contextlib.closing(connection), contextlib.suppress(OSError):
            body = None if call.body is None else json.dumps(call.body)
            connection.request(call.method, call.path, body=body, headers=headers)
            gevent.sleep(self.actor.random.uniform(0, CUT_WITHIN))


def _json(response: Any, status: int) -> Any:
    if status in (0, 204):
        return None
    try:
        return response.json()
    except ValueError:
        return None


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Read tokens and open the ledger before the first user starts."""
    environment.stop_timeout = environment.stop_timeout or STOP_TIMEOUT
    load = environment.task_load = Load()  # type: ignore[attr-defined]

    def tick() -> None:
        while True:
            read_weight(load)
            write_figures(load, environment)
            gevent.sleep(1.0)

    environment.task_load_ticker = gevent.spawn(tick)  # type: ignore[attr-defined]


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Environment, **_: Any) -> None:
    """Exit status 0 only when requests were made, and errors and P95 stay within the limits."""
    load: Load | None = getattr(environment, "task_load", None)
    if load is None:
        return
    if environment.runner is not None:
        # Locust fires this event before it stops the users: what they have under way must get into the ledger first.
        environment.runner.stop()
    environment.task_load_ticker.kill()  # type: ignore[attr-defined]
    write_figures(load, environment)
    load.ledger.close()
    total = environment.stats.total
    errors = 100.0 * total.fail_ratio
    p95 = total.get_response_time_percentile(0.95) if total.num_requests else None
    max_errors, max_p95 = _number("TASK_LOAD_MAX_ERROR_PERCENT", 1.0), _number("TASK_LOAD_MAX_P95_MS", 500.0)
    passed = p95 is not None and errors < max_errors and p95 < max_p95
    log.log(
        logging.INFO if passed else logging.ERROR,
        "%s requests, errors %.2f %% (limit below %g), P95 %s ms (limit below %g), %d acknowledged writes, "
        "%d lag misses, %d stale reads: %s",
        total.num_requests, errors, max_errors, p95, max_p95, load.acknowledged, load.verdicts["lag_miss"],
        sum(load.stale.values()), "passed" if passed else "failed",
    )  # fmt: skip
    environment.process_exit_code = 0 if passed else 1
