"""What people read of shadow, word for word at 80 columns."""

from __future__ import annotations

from scripts.cli.shadow_text import shadow
from scripts.shadow.documents import FieldDifference, Shadow, ShadowEndpoint
from tests.unit.cli.shown import shown

ONE = ShadowEndpoint(
    endpoint="GET /api/tasks",
    answers=80,
    unsettled=1,
    different=0,
    differences=[],
    unseen=["tasks[].reward"],
    respelled=["tasks[].created_at"],
)
ALIKE = Shadow(match=True, users=20, requests=1234, fence_seconds=0.25, told_apart=False, seconds=61.5, endpoints=[ONE])
ZONE = FieldDifference(
    field="tasks[].created_at",
    kind="time",
    detail="9:00:00 later",
    answers=79,
    example="GET /api/tasks?limit=5, task 42",
)
APART = ALIKE.model_copy(
    update={
        "match": False,
        "told_apart": True,
        "endpoints": [ONE.model_copy(update={"different": 79, "differences": [ZONE], "unseen": [], "respelled": []})],
    }
)


def test_sides_that_answer_alike_and_what_was_not_compared() -> None:
    assert (
        shown(shadow(ALIKE))
        == """\
Both sides answer 20 users alike: 80 answers compared; 1,234 requests in 62 s,
the longest fence 0.25 s.

endpoint        compared  unsettled  fields differ
GET /api/tasks        80          1              0

warn  GET /api/tasks: the same times, written otherwise: tasks[].created_at
-     GET /api/tasks: no value held still to compare: tasks[].reward
warn  the answers do not say who gave them (x-served-by): that the Task Service
      was asked is known by the smoke rule alone
Next: task-migration canary step"""
    )


def test_each_field_that_differs_says_how_and_where() -> None:
    """Prevents a run of which one knows only that something differs."""
    assert (
        shown(shadow(APART))
        == """\
The Task Service answers otherwise than the monolith in 1 field: 80 answers of
20 users compared; 1,234 requests in 62 s, the longest fence 0.25 s.

endpoint        compared  unsettled  fields differ
GET /api/tasks        80          1              1

FAIL  GET /api/tasks, tasks[].created_at: 9:00:00 later; in 79 answers, for
      example GET /api/tasks?limit=5, task 42
Next: mend the Task Service, then task-migration shadow again"""
    )
