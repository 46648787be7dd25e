"""Rows of the ten tables as lines of COPY's text format, a function of (rows, seed) alone.

Ids follow a formula with gaps, each table draws from a random stream of its own, and times count from a fixed day. So
memory stays flat at any size, as no list of ids is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from random import Random

from scripts.rehearsal.data import words

NULL = "\\N"
USERS_PER_GROUP = 5
TAGS_PER_USER = 6
#: Tags per task, cyclic: 13 for 8 tasks, which gives the plan's 1,500+ for 1,000 tasks.
TAGS_OF_TASK = (2, 1, 0, 3, 1, 2, 1, 3)
TAGS_OF_SCHEDULE = (1, 3, 2, 2)


def spread(index: int) -> int:
    """The id of the row with this index (from 0): rising, with gaps, as in a table that lost rows."""
    return 1 + index + index // 23 + 9 * (index // 211)


class Plan:
    """How many rows each table gets. ``rows`` is the number of tasks; the others keep the plan's proportions."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        #: At least 100, as the load has 100 users.
        self.users = max(100, rows // 100)
        self.groups, self.tags = self.users // USERS_PER_GROUP, self.users * TAGS_PER_USER
        self.proposals = self.schedules = max(1, rows // 20)
        self.images = max(1, rows // 2)
        self.executions = 4 * self.schedules


class _Source:
    """Draws of one table: fast helpers over one random stream and the shared pools."""

    def __init__(self, plan: Plan, table: str) -> None:
        self.plan = plan
        stream = Random(f"{plan.seed}:{table}")
        self.draw = stream.random
        self.bits = stream.getrandbits
        self.times = words.times(stream)
        self.stream = stream

    def pick(self, pool: Sequence[str]) -> str:
        return pool[int(self.draw() * len(pool))]

    def below(self, limit: int) -> int:
        return int(self.draw() * limit)

    def day(self, index: int, of: int) -> int:
        """The day a row is created on: rises with the index."""
        return index * words.CREATED_DAYS // max(1, of)

    def at(self, day: int) -> str:
        return f"{words.DAYS[day]} {self.pick(self.times)}"

    def stamps(self, day: int) -> str:
        """``created_at`` and ``updated_at`` as COPY fields: changed later, never changed, or left null."""
        created = self.at(day)
        kind = self.draw()
        if kind < 0.5:
            return f"{created}\t{self.at(day + 1 + self.below(100))}"
        if kind < 0.9:
            return f"{created}\t{created}"
        return f"{created}\t{NULL}" if kind < 0.97 else f"{NULL}\t{NULL}"

    def user(self, group: int, member: int) -> int:
        return spread(group * USERS_PER_GROUP + member)


def _groups(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "groups")
    for index in range(plan.groups):
        stamps = source.stamps(source.day(index, plan.groups))
        yield f"{spread(index)}\t{source.pick(words.FAMILY)}家{index + 1}🏠\t{stamps}"


def _users(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "users")
    for index in range(plan.users):
        key = spread(index)
        name = f"{source.pick(words.FAMILY)} {source.pick(words.GIVEN)}"
        stamps = source.stamps(source.day(index, plan.users))
        yield f"{key}\t{spread(index // USERS_PER_GROUP)}\tuser-{key}\t{name}\t{stamps}"


def _tags(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "tags")
    for index in range(plan.tags):
        user, name = divmod(index, TAGS_PER_USER)
        stamps = source.stamps(source.day(index, plan.tags))
        yield f"{spread(index)}\t{spread(user)}\t{words.TAG_NAMES[name]}\t{stamps}"


def _proposals(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "task_proposals")
    for index in range(plan.proposals):
        stamps = source.stamps(source.day(index, plan.proposals))
        yield f"{spread(index)}\t{spread(source.below(plan.users))}\t{source.pick(words.SUBJECTS)}の分解案\t{stamps}"


def _tasks(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "tasks")
    draw, pick, below = source.draw, source.pick, source.below
    titles = tuple(words.escape(title) for title in words.titles(source.stream))
    short, middle, huge = words.descriptions(source.stream)
    for index in range(plan.rows):
        user = task_user(plan, index)
        teacher = spread(user - user % USERS_PER_GROUP)
        day = source.day(index, plan.rows)
        size = draw()
        if size < 0.15:
            description = NULL
        elif size < 0.25:
            description = ""
        elif size < 0.97:
            description = pick(short)
        else:
            description = pick(middle) if size < 0.998 else pick(huge)
        kind = draw()
        due = NULL
        if kind >= 0.3:
            due = words.DAYS[day + below(60)] if kind < 0.75 else pick(words.DUE_WORDS)
        grouped = index % 40 < 6
        assigned = str(teacher) if grouped or draw() < 0.15 else NULL
        group_task = hashlib.md5(f"{plan.seed}:{index // 40}".encode()).hexdigest() if grouped else NULL
        approval = "t" if assigned != NULL and draw() < 0.6 else "f"
        completed = draw() < 0.4
        completed_at = source.at(day + 1 + below(60)) if completed else NULL
        approved = completed and approval == "t" and draw() < 0.7
        approver, approved_at = (str(teacher), source.at(day + 62 + below(20))) if approved else (NULL, NULL)
        proposal = str(spread(below(plan.proposals))) if draw() < 0.1 else NULL
        deleted_at = source.at(day + 100 + below(50)) if draw() < 0.04 else NULL
        yield (
            f"{spread(index)}\t{spread(user)}\t{proposal}\t{assigned}\t{approver}\t{pick(titles)}\t{description}\t{due}\t"
            f"{1 + below(3) if draw() < 0.8 else NULL}\t{1 + below(5)}\t{group_task}\t"
            f"{below(20) * 50 if grouped else NULL}\t{approval}\t{'t' if draw() < 0.1 else 'f'}\t{approved_at}\t"
            f"{'t' if completed else 'f'}\t{completed_at}\t{deleted_at}\t{source.stamps(day)}"
        )


def task_user(plan: Plan, index: int) -> int:
    """Index (from 0) of the user that owns the task with this index."""
    return (index * 7919 + plan.seed) % plan.users


def _images(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "task_images")
    for index in range(plan.images):
        day = source.day(index, plan.images)
        approved = source.at(day + 3) if source.draw() < 0.5 else NULL
        delete = source.at(day + 90) if approved != NULL and source.draw() < 0.5 else NULL
        path = f"task_approvals/{source.bits(128):032x}.{'jpg' if index % 3 else 'heic'}"
        yield f"{spread(index)}\t{spread(source.below(plan.rows))}\t{path}\t{approved}\t{delete}\t{source.stamps(day)}"


def _task_tag(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "task_tag")
    for index in range(plan.rows):
        first = task_user(plan, index) * TAGS_PER_USER
        start = source.below(TAGS_PER_USER)
        for offset in range(TAGS_OF_TASK[index % len(TAGS_OF_TASK)]):
            yield f"{spread(index)}\t{spread(first + (start + offset) % TAGS_PER_USER)}"


def _schedules(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "scheduled_group_tasks")
    draw, pick, below = source.draw, source.pick, source.below
    pool = words.schedules()
    short, middle, _ = words.descriptions(source.stream)
    flags = ("t", "f")
    for index in range(plan.schedules):
        group = below(plan.groups)
        day = source.day(index, plan.schedules)
        description = NULL if draw() < 0.2 else pick(short) if draw() < 0.9 else pick(middle)
        assigned = str(source.user(group, 1 + below(USERS_PER_GROUP - 1))) if draw() < 0.6 else NULL
        tags = words.escape('["宿題", "毎日"]') if draw() < 0.5 else NULL
        paused = source.at(day + 40) if draw() < 0.1 else NULL
        yield (
            f"{spread(index)}\t{spread(group)}\t{source.user(group, 0)}\t{pick(words.SUBJECTS)}(定期)🔁\t"
            f"{description}\t{pick(flags)}\t{below(20) * 10}\t{pick(flags)}\t{assigned}\t{pick(flags)}\t{pick(pool)}\t"
            f"{below(7) if draw() < 0.7 else NULL}\t{below(24) if draw() < 0.3 else NULL}\t{words.DAYS[day]}\t"
            f"{words.DAYS[day + 150] if draw() < 0.4 else NULL}\t{pick(flags)}\t{pick(flags)}\t{pick(flags)}\t{tags}\t"
            f"{'f' if paused != NULL else 't'}\t{paused}\t{source.at(day + 120) if draw() < 0.05 else NULL}\t"
            f"{source.stamps(day)}"
        )


def _executions(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "scheduled_task_executions")
    draw, pick, below = source.draw, source.pick, source.below
    for index in range(plan.executions):
        day = source.day(index, plan.executions)
        kind = draw()
        status = "success" if kind < 0.8 else "failed" if kind < 0.9 else "skipped"
        created = str(spread(below(plan.rows))) if status == "success" else NULL
        deleted = str(spread(below(plan.rows))) if draw() < 0.1 else NULL
        note = pick(words.NOTES) if draw() < 0.6 else NULL
        error = words.escape(pick(words.FAILURES)) if status == "failed" else NULL
        yield (
            f"{spread(index)}\t{spread(below(plan.schedules))}\t{source.at(day)}\t{status}\t{created}\t{deleted}\t{note}\t"
            f"{error}\t{source.stamps(day)}"
        )


def _schedule_tags(plan: Plan) -> Iterator[str]:
    source = _Source(plan, "scheduled_task_tags")
    number = 0
    for index in range(plan.schedules):
        start = source.below(len(words.TAG_NAMES))
        for offset in range(TAGS_OF_SCHEDULE[index % len(TAGS_OF_SCHEDULE)]):
            name = words.TAG_NAMES[(start + offset) % len(words.TAG_NAMES)]
            yield f"{spread(number)}\t{spread(index)}\t{name}\t{source.stamps(source.day(index, plan.schedules))}"
            number += 1


#: Table -> its rows as lines of COPY's text format, columns in table order; referenced tables first.
GENERATORS = {
    "groups": _groups,
    "users": _users,
    "tags": _tags,
    "task_proposals": _proposals,
    "tasks": _tasks,
    "task_images": _images,
    "task_tag": _task_tag,
    "scheduled_group_tasks": _schedules,
    "scheduled_task_executions": _executions,
    "scheduled_task_tags": _schedule_tags,
}
