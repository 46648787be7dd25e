"""One user of the load: what it does next, and what it makes of the answer. Pure: no I/O, no clock, no locust.

A user works on tasks of its own only, one request at a time, so the writes to one task have an order. While two
databases replicate to each other, a task that was written on one side is on the other some tens of milliseconds later.
Like a person, a user therefore leaves a task alone for the think time after writing it. Should it still meet the older
state within the lag window, that is counted by itself (`lag_miss`, `stale_read`), neither hidden nor a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from scripts.rehearsal.ledger import Entry

Operation = Literal["health", "list", "show", "create", "update", "complete", "approve", "reject", "delete"]
Verdict = Literal["ok", "lag_miss", "stale_read", "failed"]
#: Share of each operation in percent; what no task of the user is ready for becomes a list.
MIX: Mapping[Operation, int] = {
    "list": 16, "show": 24, "create": 20, "update": 16, "complete": 10, "approve": 4, "reject": 4, "delete": 4, "health": 2,
}  # fmt: skip
WRITES = frozenset({"create", "update", "complete", "approve", "reject", "delete"})
EXPECTED: Mapping[Operation, int] = {"create": 201, "delete": 204}
TASKS_KEPT = 40
TITLES = ("📚算数ドリルを終わらせる", "漢字練習✨", "お風呂掃除🛁", "読書感想文「走れメロス」", "犬の散歩🐶")
DUE_DATES = (None, "2025年度末", "2026-03-31", "来週の金曜日")
SENTENCE = "教科書の12ページから15ページまでを読んで、問題を解いてください。\n"


@dataclass
class OwnTask:
    """A task as the last acknowledged write left it."""

    id: int
    fields: dict[str, Any]
    sequence: int = 1
    is_completed: bool = False
    approved: bool = False
    written_at: float = 0.0
    quiet_until: float = 0.0

    def allows(self, op: Operation) -> bool:
        """Whether the API takes this operation in the task's state."""
        if op == "complete":
            return not self.is_completed
        if op in ("approve", "reject"):
            return self.is_completed and not self.approved
        return op != "update" or not self.approved


@dataclass(frozen=True)
class Call:
    """One request to send. ``name`` is the route, for the statistics."""

    op: Operation
    method: str
    path: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    task: OwnTask | None = None

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The JSON to send, or None."""
        return self.fields if self.op in ("create", "update") else None


@dataclass(frozen=True)
class Result:
    """What an answer means. ``entry`` is for the ledger: an acknowledged write, or one whose outcome is unknown."""

    verdict: Verdict
    message: str = ""
    entry: Entry | None = None


@dataclass
class Actor:
    """``marker`` makes the titles of this run and user unlike any other's."""

    random: Random
    marker: str
    user: int | None = None
    think_seconds: float = 1.5
    lag_seconds: float = 10.0
    tasks: list[OwnTask] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)
    _made: int = 0
    _listed: bool = False

    def next_call(self, now: float) -> Call:
        """What to do now (seconds of any steady clock). The first call lists, and so learns the user's tags."""
        if not self._listed:
            return Call("list", "GET", "/api/tasks?limit=20", "/api/tasks")
        op = self.random.choices(list(MIX), list(MIX.values()))[0]
        if op == "health":
            return Call(op, "GET", "/health", "/health")
        if op == "create":
            return Call(op, "POST", "/api/tasks", "/api/tasks", self._new_fields())
        task = self._ready(op, now) if op != "list" else None
        if task is None:
            return Call("list", "GET", "/api/tasks?limit=20", "/api/tasks")
        path, route = f"/api/tasks/{task.id}", "/api/tasks/{id}"
        if op == "update":
            return Call(op, "PUT", path, route, self._changes(), task)
        if op in ("show", "delete"):
            return Call(op, "GET" if op == "show" else "DELETE", path, route, {}, task)
        return Call(op, "POST", f"{path}/{op}", f"{route}/{op}", {}, task)

    def _ready(self, op: Operation, now: float) -> OwnTask | None:
        ready = [task for task in self.tasks if task.quiet_until <= now and task.allows(op)]
        return self.random.choice(ready) if ready else None

    def _title(self) -> str:
        self._made += 1
        return f"{self.random.choice(TITLES)} [{self.marker}-{self._made}]"

    def _some_tags(self) -> list[int]:
        return sorted(self.random.sample(self.tags, self.random.randint(0, min(3, len(self.tags)))))

    def _new_fields(self) -> dict[str, Any]:
        size = self.random.choices((0, 2, 40, 400), (30, 50, 18, 2))[0]
        fields: dict[str, Any] = {
            "title": self._title(),
            "description": SENTENCE * size,
            "due_date": self.random.choice(DUE_DATES),
            "span": self.random.choice((None, 1, 2, 3)),
            "priority": self.random.randint(1, 5),
            "reward": self.random.choice((None, 0, 50, 100)),
            "requires_approval": self.random.random() < 0.3,
            "tags": self._some_tags(),
        }
        if self.random.random() < 0.4:
            fields["images"] = [f"task_approvals/{self.marker}-{self._made}.jpg"]
        return fields

    def _changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {"title": self._title(), "priority": self.random.randint(1, 5)}
        if self.random.random() < 0.5:
            changes["tags"] = self._some_tags()
        if self.random.random() < 0.3:
            changes["description"] = SENTENCE * self.random.randint(0, 5)
        if self.random.random() < 0.3:
            changes["due_date"] = self.random.choice(DUE_DATES)
        return changes

    def settle(self, call: Call, status: int, body: Any, target: str | None, now: float, at: float) -> Result:
        """Take the answer in.

        Args:
            status: HTTP status, 0 when no answer came.
            body: the answer's JSON, or None.
            target: the answer's ``x-served-by``.
            now: on the clock of :meth:`next_call`.
            at: seconds since the epoch, for the ledger.
        """
        if status == EXPECTED.get(call.op, 200):
            return self._settle_success(call, status, body, target, now, at)
        message = f"{call.method} {call.name}: {status or 'no answer'}"
        if call.op in WRITES and (status == 0 or status >= 500):
            # It may have been committed, so nothing that follows on this task could be judged.
            if call.task is not None:
                self._forget(call.task)
            return Result("failed", message, self._entry(call, status, target, at, acknowledged=False))
        task = call.task
        if task is not None and status in (404, 409) and now - task.written_at <= self.lag_seconds:
            task.quiet_until = now + self.think_seconds
            return Result("lag_miss", message)
        return Result("failed", message)

    def _settle_success(self, call: Call, status: int, body: Any, target: str | None, now: float, at: float) -> Result:
        try:
            if call.op == "list":
                self._listed = True
                self.tags = sorted({*self.tags, *(tag for row in body["tasks"] for tag in row["tags"])})
                return Result("ok")
            if call.op == "health":
                return Result("ok")
            if call.op == "create":
                self.tasks = self.tasks[-TASKS_KEPT + 1 :]
                task = OwnTask(int(body["task"]["id"]), dict(call.fields), 0)
                self.tasks.append(task)
            else:
                assert call.task is not None
                task = call.task
            if call.op == "show":
                return self._compare(task, body["task"], now)
        except (KeyError, TypeError, ValueError):
            return Result("failed", f"{call.method} {call.name}: the answer's JSON has another shape")
        self._apply(call, task, now)
        return Result("ok", "", self._entry(call, status, target, at, acknowledged=True, task=task))

    def _apply(self, call: Call, task: OwnTask, now: float) -> None:
        task.sequence += 1
        task.written_at = now
        task.quiet_until = now + self.think_seconds
        task.fields.update(call.fields)
        if call.op in ("complete", "reject"):
            task.is_completed = call.op == "complete"
        if call.op == "approve":
            task.approved = True
        if call.op == "delete":
            self._forget(task)

    def _compare(self, task: OwnTask, seen: Mapping[str, Any], now: float) -> Result:
        wanted = {**task.fields, "is_completed": task.is_completed}
        wrong = sorted(name for name, value in wanted.items() if seen[name] != value)
        if (seen["approved_at"] is not None) != task.approved:
            wrong.append("approved_at")
        if not wrong:
            return Result("ok")
        message = f"task {task.id} does not show what was acknowledged: {', '.join(wrong)}"
        return Result("stale_read" if now - task.written_at <= self.lag_seconds else "failed", message)

    def abandon(self, call: Call, at: float) -> Entry | None:
        """The ledger's entry for a call that was cut off while it was under way."""
        if call.op not in WRITES:
            return None
        return self._entry(call, 0, None, at, acknowledged=False)

    def _forget(self, task: OwnTask) -> None:
        self.tasks = [other for other in self.tasks if other is not task]

    def _entry(
        self, call: Call, status: int, target: str | None, at: float, *, acknowledged: bool, task: OwnTask | None = None
    ) -> Entry:
        task = task or call.task
        sequence = 0 if task is None else task.sequence if acknowledged else task.sequence + 1
        return Entry(
            at=at,
            op=call.op,
            method=call.method,
            path=call.path,
            id=None if task is None else task.id,
            sequence=sequence,
            fields=call.fields,
            status=status,
            acknowledged=acknowledged,
            target=target,
            user=self.user,
        )
