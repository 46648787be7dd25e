"""One user of the load: what it does next, and what it makes of the answer. Pure: no I/O, no clock, no locust.

The users of one group share their tasks, as a family does: a parent gives a child a task, the child completes it while the
parent edits, tags or approves it. Most writes keep the think time that a person takes after a write to the same task; a third
keeps none and goes for the task that was written last, maybe while that write is still under way. So with two databases one
row has two writers at once, on either side.

What a user meets of others' writes, or of its own on the side that has not received it yet, is counted by itself
(`lag_miss`, `stale_read`), neither hidden nor a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any, Literal

from scripts.rehearsal.ledger import Entry, Row

Operation = Literal["health", "list", "show", "create", "update", "complete", "approve", "reject", "delete"]
Verdict = Literal["ok", "lag_miss", "stale_read", "failed"]
#: Share of each operation in percent; what no task of the user is ready for becomes a list.
MIX: Mapping[Operation, int] = {
    "list": 12, "show": 22, "create": 18, "update": 24, "complete": 10, "approve": 4, "reject": 4, "delete": 4, "health": 2,
}  # fmt: skip
WRITES = frozenset({"create", "update", "complete", "approve", "reject", "delete"})
EXPECTED: Mapping[Operation, int] = {"create": 201, "delete": 204}
#: What a write without a body makes of the task, as the API shows it.
EFFECTS: Mapping[str, Mapping[str, Any]] = {
    "create": {"is_completed": False, "approved": False},
    "complete": {"is_completed": True},
    "reject": {"is_completed": False},
    "approve": {"approved": True},
}
#: Share of the writes that leave no quiet time, of the answers that the user does not wait for, and of the writes after which
#: the user looks at once, as a page does that is loaded anew.
EAGER_SHARE, CUT_SHARE, LOOK_SHARE = 1 / 3, 0.01, 0.25
#: Of a new task: that it is given to another one of the group.
GIVEN_SHARE = 0.6
TASKS_KEPT, WRITES_KEPT = 60, 40
TITLES = ("📚算数ドリルを終わらせる", "漢字練習✨", "お風呂掃除🛁", "読書感想文「走れメロス」", "犬の散歩🐶")
DUE_DATES = ("2025年度末", "2026-03-31", "来週の金曜日")
SENTENCE = "教科書の12ページから15ページまでを読んで、問題を解いてください。\n"


@dataclass
class Wrote:
    """One write of one field: ``ended`` is infinite while it is under way, and for ever when its outcome stays unknown."""

    user: int | None
    value: Any
    sent: float
    ended: float = inf
    acknowledged: bool = False


@dataclass
class SharedTask:
    """A task that its owner and its giver work on, with the newest writes of each field, oldest first."""

    id: int
    owner: int | None
    giver: int | None
    writes: dict[str, list[Wrote]] = field(default_factory=dict)
    is_completed: bool = False
    approved: bool = False
    deleted: bool = False
    #: When it was made.
    made: float = -inf
    #: Somebody's write is under way or has no known outcome.
    pending: int = 0

    def allows(self, op: Operation, user: int | None) -> bool:
        """Whether the API takes this operation of this user in the task's state."""
        if user not in (self.owner, self.giver):
            return False
        if op == "complete":
            return user == self.owner and not self.is_completed
        if op in ("approve", "reject"):
            return user == self.giver and self.is_completed and not self.approved
        return op != "update" or not self.approved

    def written_at(self) -> float:
        """When the newest write was sent or answered, whosesoever."""
        moments = [moment for made in self.writes.values() for wrote in made for moment in (wrote.sent, wrote.ended)]
        return max((moment for moment in moments if moment < inf), default=0.0)

    def note(self, name: str, wrote: Wrote) -> None:
        """One more write of this field."""
        self.writes[name] = [*self.writes.get(name, ())[-WRITES_KEPT + 1 :], wrote]

    def allowed(self, name: str, user: int | None, settled: float) -> list[Any] | None:
        """What a field may show this user: the own last acknowledged value, and whatever others may have made of it since.

        Of an own write from before ``settled`` that another one may have won against, whichever came first.
        None when the user wrote nothing here, or when others changed a list of rows, of which each row stands by itself.
        """
        made = self.writes.get(name, [])
        own = [wrote for wrote in made if wrote.user == user and wrote.acknowledged]
        if not own:
            return None
        last = max(own, key=lambda wrote: wrote.ended)
        others = [wrote for wrote in made if wrote is not last and (wrote.ended >= last.sent or last.ended < settled)]
        if name == "tags" and others:
            return None
        return [last.value, *(wrote.value for wrote in others)]

    def last_of(self, user: int | None) -> float:
        """When this user's last acknowledged write was sent."""
        made = (wrote for writes in self.writes.values() for wrote in writes)
        return max((wrote.sent for wrote in made if wrote.user == user and wrote.acknowledged), default=-inf)

    def overtaken(self, user: int | None, since: float) -> bool:
        """Whether somebody else's write, or one of unknown outcome, came after ``since``."""
        return any(
            wrote.ended >= since and (wrote.user != user or not wrote.acknowledged)
            for made in self.writes.values()
            for wrote in made
        )


@dataclass
class Group:
    """What the users of one group share."""

    tasks: list[SharedTask] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    #: The tags of each user, as its lists showed them.
    tags: dict[int | None, set[int]] = field(default_factory=dict)

    def forget(self, task: SharedTask) -> None:
        """Nobody goes on with this task."""
        self.tasks = [other for other in self.tasks if other is not task]


@dataclass
class Call:
    """One request to send. ``name`` is the route, for the statistics; ``cut``: the user does not wait for the answer."""

    op: Operation
    method: str
    path: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    task: SharedTask | None = None
    cut: bool = False
    retry: bool = False
    sent: float = 0.0
    wrote: list[Wrote] = field(default_factory=list)

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The JSON to send, or None."""
        return self.fields if self.op in ("create", "update") else None


@dataclass(frozen=True)
class Result:
    """What an answer means. ``entry`` is for the ledger; ``read``: it showed a task in which the user had written."""

    verdict: Verdict
    message: str = ""
    entry: Entry | None = None
    read: bool = False


@dataclass(frozen=True)
class Timetable:
    """When a user sends: ``rate`` requests/s on average, over ``visit`` seconds of work and ``pause`` of none, about. Nobody asks for
    ever without a pause, and a load balancer's cookie would keep who did on one side."""

    rate: float
    visit: float = 24.0
    pause: float = 12.0

    @property
    def _turns(self) -> int:
        return max(1, round(self.rate * (self.visit + self.pause)))

    @property
    def round(self) -> float:
        """Seconds from one visit's begin to the next one's."""
        return self._turns / self.rate

    def next(self, elapsed: float) -> float:
        """The first turn after ``elapsed``; both in seconds since a first visit began."""
        between = self.visit / (self.visit + self.pause) / self.rate
        visits, within = divmod(elapsed + 1e-6, self.round)
        turn = int(within // between) + 1
        return (visits + 1) * self.round if turn >= self._turns else visits * self.round + turn * between


@dataclass
class Actor:
    """``marker`` makes the titles of this run and user unlike any other's."""

    random: Random
    marker: str
    user: int | None = None
    group: Group = field(default_factory=Group)
    think_seconds: float = 1.5
    lag_seconds: float = 10.0
    #: How long it takes until others hear of a new task, by a list or a message: nobody opens one in the second in which it is made.
    notice_seconds: float = 0.0
    _made: int = 0
    _listed: bool = False
    _again: Call | None = None

    def next_call(self, now: float) -> Call:
        """What to do now (seconds of any steady clock). The first call lists, and so learns the user's tags.

        A write without a known outcome is sent again first, as clients do.
        """
        call = self._again or self._choose(now)
        self._again = None
        call.sent = now
        changed = {**call.fields, **EFFECTS.get(call.op, {})}
        if call.task is not None and call.op in WRITES:
            call.task.pending += 1
            changed |= {"deleted": True} if call.op == "delete" else {}
            call.wrote = [Wrote(self.user, value, now) for value in changed.values()]
            for name, wrote in zip(changed, call.wrote, strict=True):
                call.task.note(name, wrote)
        return call

    def _choose(self, now: float) -> Call:
        listing = Call("list", "GET", "/api/tasks?limit=20", "/api/tasks")
        if not self._listed:
            return listing
        op = self.random.choices(list(MIX), list(MIX.values()))[0]
        cut = op in WRITES and self.random.random() < CUT_SHARE
        eager = self._eager(op, now) if op in (*WRITES, "show") and self.random.random() < EAGER_SHARE else None
        if eager is not None:
            return self._on(*eager, cut=cut)
        if op == "health":
            return Call(op, "GET", "/health", "/health")
        if op == "create":
            return Call(op, "POST", "/api/tasks", "/api/tasks", self._new_fields(), cut=cut)
        quiet = [task for task in self._known(now) if task.allows(op, self.user) and self._quiet(task, now)]
        return self._on(op, self.random.choice(quiet), cut=cut) if quiet and op != "list" else listing

    def _on(self, op: Operation, task: SharedTask, *, cut: bool) -> Call:
        path, route = f"/api/tasks/{task.id}", "/api/tasks/{id}"
        if op == "update":
            return Call(op, "PUT", path, route, self._changes(task), task, cut=cut)
        if op in ("show", "delete"):
            return Call(op, "GET" if op == "show" else "DELETE", path, route, {}, task, cut=cut)
        return Call(op, "POST", f"{path}/{op}", f"{route}/{op}", {}, task, cut=cut)

    def look(self, call: Call, now: float) -> Call | None:
        """The look at the task that ``call`` has just written, where the user takes one."""
        written = call.task is not None and call.task in self.group.tasks and call.op in WRITES and not self._again
        if not written or call.task is None or self.random.random() >= LOOK_SHARE:
            return None
        show = self._on("show", call.task, cut=False)
        show.sent = now
        return show

    def _known(self, now: float) -> list[SharedTask]:
        """The group's tasks that this user has made or heard of."""
        return [one for one in self.group.tasks if self.user == one.giver or now - one.made >= self.notice_seconds]

    def _quiet(self, task: SharedTask, now: float) -> bool:
        return not task.pending and now - task.written_at() >= self.think_seconds

    def _eager(self, op: Operation, now: float) -> tuple[Operation, SharedTask] | None:
        """A look at the task that was written last, or some write to it, with no quiet time in between."""
        hot = [
            task for task in self._known(now) if self.user in (task.owner, task.giver) and not self._quiet(task, now)
        ]
        if not hot:
            return None
        task = max(hot, key=SharedTask.written_at)
        if op == "show":
            return op, task
        able = [op for op in MIX if op in WRITES - {"create"} and task.allows(op, self.user)]
        return self.random.choices(able, [MIX[op] for op in able])[0], task

    def _title(self) -> str:
        self._made += 1
        return f"{self.random.choice(TITLES)} [{self.marker}-{self._made}]"

    def _some_tags(self, owner: int | None) -> list[int]:
        tags = sorted(self.group.tags.get(owner, ()))
        return sorted(self.random.sample(tags, self.random.randint(0, min(3, len(tags)))))

    def _new_fields(self) -> dict[str, Any]:
        size = self.random.choices((0, 2, 40, 400), (30, 50, 18, 2))[0]
        others = [member for member in self.group.members if member != self.user]
        owner = self.random.choice(others) if others and self.random.random() < GIVEN_SHARE else self.user
        fields: dict[str, Any] = {
            "title": self._title(),
            "description": SENTENCE * size,
            "due_date": self.random.choice((None, *DUE_DATES)),
            "span": self.random.choice((None, 1, 2, 3)),
            "priority": self.random.randint(1, 5),
            "reward": self.random.choice((None, 0, 50, 100)),
            "requires_approval": self.random.random() < 0.3,
            "tags": self._some_tags(owner),
        }
        if owner != self.user:
            fields["user_id"] = owner
        if self.random.random() < 0.4:
            fields["images"] = [f"task_approvals/{self.marker}-{self._made}.jpg"]
        return fields

    def _changes(self, task: SharedTask) -> dict[str, Any]:
        """One to three fields, each with a value of its own where the API allows it: who had read it can be told then."""
        title = self._title()
        possible: dict[str, Any] = {
            "title": title,
            "description": SENTENCE * self.random.randint(0, 5) + title,
            "due_date": f"{self.random.choice(DUE_DATES)} {self.marker}-{self._made}",
            "priority": self.random.randint(1, 5),
            "tags": self._some_tags(task.owner),
        }
        names = self.random.sample(list(possible), self.random.randint(1, 3))
        return {name: possible[name] for name in names}

    def settle(
        self,
        call: Call,
        status: int,
        body: Any,
        target: str | None,
        now: float,
        at: float,
        rows: tuple[Row, ...] | None = None,
    ) -> Result:
        """Take the answer in.

        Args:
            status: HTTP status, 0 when no answer came.
            body: the answer's JSON, or None.
            target: the answer's ``x-served-by``.
            now: on the clock of :meth:`next_call`.
            at: seconds since the epoch, for the ledger.
            rows: what the answer says that was written.
        """
        if status == EXPECTED.get(call.op, 200):
            return self._settle_success(call, status, body, target, now, at, rows)
        message = f"{call.method} {call.name}: {status or 'no answer'}"
        if call.op in WRITES and (status == 0 or status >= 500):
            entry = self._unknown(call, status, target, now, at)
            # A cut is the user's own doing, so no failure.
            return Result("ok" if call.cut and status == 0 else "failed", message, entry)
        self._close(call, now, acknowledged=False, made=False)
        task = call.task
        if task is not None and status in (404, 409):
            own, since = task.last_of(self.user), call.sent - self.lag_seconds
            if call.retry or task.overtaken(self.user, max(own, since)):
                if call.retry:
                    self.group.forget(task)  # whether it had come through before is not known here
                return Result("lag_miss", message)
            if own >= since:
                return Result("stale_read", message, read=True)
        return Result("failed", message)

    def _settle_success(
        self,
        call: Call,
        status: int,
        body: Any,
        target: str | None,
        now: float,
        at: float,
        rows: tuple[Row, ...] | None,
    ) -> Result:
        try:
            if call.op == "list":
                self._listed = True
                self.group.tags.setdefault(self.user, set()).update(tag for row in body["tasks"] for tag in row["tags"])
                return Result("ok")
            if call.op == "health":
                return Result("ok")
            if call.op == "create":
                call.task = self._made_task(call, int(body["task"]["id"]), now)
            assert call.task is not None
            if call.op == "show":
                return self._compare(call.task, body["task"], now - self.lag_seconds)
        except (KeyError, TypeError, ValueError):
            entry = self._unknown(call, status, target, now, at) if call.op in WRITES else None
            return Result("failed", f"{call.method} {call.name}: the answer's JSON has another shape", entry)
        self._close(call, now, acknowledged=True)
        task = call.task
        state = EFFECTS.get(call.op, {})
        task.is_completed = state.get("is_completed", task.is_completed)
        task.approved = state.get("approved", task.approved)
        if call.op == "delete":
            task.deleted = True
            self.group.forget(task)
        return Result("ok", "", self._entry(call, status, target, now, at, acknowledged=True, rows=rows))

    def _made_task(self, call: Call, key: int, now: float) -> SharedTask:
        owner = call.fields.get("user_id", self.user)
        task = SharedTask(key, owner, self.user, made=now)
        for name, value in {**call.fields, **EFFECTS["create"]}.items():
            task.note(name, Wrote(self.user, value, call.sent, now, acknowledged=True))
        self.group.tasks = [*self.group.tasks[-TASKS_KEPT + 1 :], task]
        return task

    def _close(self, call: Call, now: float, *, acknowledged: bool, made: bool = True) -> None:
        """The call's write has an outcome; ``made``: it is in the database."""
        if call.task is None or not call.wrote:
            return
        call.task.pending -= 1
        for wrote in call.wrote:
            wrote.ended, wrote.acknowledged = now, acknowledged
        if not made:
            for name, writes in call.task.writes.items():
                call.task.writes[name] = [wrote for wrote in writes if not any(wrote is mine for mine in call.wrote)]
        call.wrote = []

    def _compare(self, task: SharedTask, seen: Mapping[str, Any], settled: float) -> Result:
        shown = {**seen, "approved": seen["approved_at"] is not None}
        names = ("title", "description", "due_date", "priority", "tags", "is_completed", "approved")
        expected = {name: allowed for name in names if (allowed := task.allowed(name, self.user, settled)) is not None}
        wrong = sorted(name for name, allowed in expected.items() if shown[name] not in allowed)
        if not wrong:
            return Result("ok", read=bool(expected))
        message = f"a task does not show what was acknowledged: {', '.join(wrong)}"
        return Result("stale_read", message, read=True)

    def _unknown(self, call: Call, status: int, target: str | None, now: float, at: float) -> Entry:
        """The write may be there or not. It is sent once more; whoever meets the task in the meantime is not surprised."""
        if call.task is not None:
            call.task.pending -= 1
            if call.retry:
                self.group.forget(call.task)
        if not call.retry:
            again = Call(call.op, call.method, call.path, call.name, call.fields, call.task, retry=True)
            self._again = again
        return self._entry(call, status, target, now, at, acknowledged=False, rows=None)

    def abandon(self, call: Call, now: float, at: float) -> Entry | None:
        """The ledger's entry for a call that was cut off while it was under way."""
        return self._unknown(call, 0, None, now, at) if call.op in WRITES else None

    def _entry(
        self,
        call: Call,
        status: int,
        target: str | None,
        now: float,
        at: float,
        *,
        acknowledged: bool,
        rows: tuple[Row, ...] | None,
    ) -> Entry:
        return Entry(
            at=at - (now - call.sent),
            ended=at if acknowledged else None,
            op=call.op,
            method=call.method,
            path=call.path,
            id=None if call.task is None else call.task.id,
            fields=call.fields,
            status=status,
            acknowledged=acknowledged,
            target=target,
            user=self.user,
            rows=rows,
        )
