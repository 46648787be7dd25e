"""What the API's documents must look like: each shape says what is wrong with a document, or None. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scripts.support.figure import counted

Shape = Callable[[Any], str | None]
"""What is wrong with a document, or None."""

#: Fields of a task and what each may be, null apart (docs/plan.md, `tasks`).
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "id": (int,), "user_id": (int,), "title": (str,), "priority": (int,), "requires_approval": (bool,),
    "requires_image": (bool,), "is_completed": (bool,), "tags": (list,),
}  # fmt: skip
_NULLABLE: Mapping[str, tuple[type, ...]] = {
    "description": (str,), "due_date": (str,), "span": (int,), "group_task_id": (str,), "reward": (int,),
    "assigned_by_user_id": (int,), "approved_by_user_id": (int,), "approved_at": (str,), "completed_at": (str,),
    "created_at": (str,), "updated_at": (str,),
}  # fmt: skip


def _is(value: Any, types: tuple[type, ...]) -> bool:
    # In Python a bool is an int; in JSON it is not.
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _task_fields(task: Any) -> str | None:
    if not isinstance(task, dict):
        return f"a task is an object, not {type(task).__name__}"
    for name, types in _FIELDS.items():
        if not _is(task.get(name), types):
            return f"`{name}` is {task.get(name)!r}, it must be {types[0].__name__}"
    for name, types in _NULLABLE.items():
        if name not in task or (task[name] is not None and not _is(task[name], types)):
            return f"`{name}` is {task.get(name, 'missing')!r}, it must be {types[0].__name__} or null"
    return None


def one_task(**wanted: Any) -> Shape:
    """``{"task": {...}}`` with each field of the right type, its images, and the ``wanted`` values; a callable judges one."""

    def shape(document: Any) -> str | None:
        task = document.get("task") if isinstance(document, dict) else None
        if wrong := _task_fields(task):
            return wrong
        assert isinstance(task, dict)  # _task_fields saw to that
        if not isinstance(task.get("images"), list):
            return f"`images` is {task.get('images')!r}, it must be a list"
        for name, value in wanted.items():
            if not (value(task[name]) if callable(value) else task[name] == value):
                return f"`{name}` is {task[name]!r}, which is not what was asked for"
        return None

    return shape


def task_list(holds: int | None = None, at_most: int | None = None, without: int | None = None) -> Shape:
    """``{"tasks": [...], "next_before_id": id or null}``, with or without a task's id."""

    def shape(document: Any) -> str | None:
        if not isinstance(document, dict) or not isinstance(document.get("tasks"), list):
            return "`tasks` must be a list"
        if "next_before_id" not in document:
            return "`next_before_id` is missing"
        for task in document["tasks"]:
            if wrong := _task_fields(task):
                return wrong
        ids = [task["id"] for task in document["tasks"]]
        if ids != sorted(ids, reverse=True):
            return "the newest task must be the first"
        if at_most is not None and len(ids) > at_most:
            return f"{counted(len(ids), 'task')}, at most {at_most} were asked for"
        if holds is not None and holds not in ids:
            return "a task that was just made is not in the list"
        return "a task that is not the user's is in the list" if without in ids else None

    return shape


def errors_of(name: str) -> Shape:
    """``{"message", "errors": {field: [texts]}}`` as Laravel's validation answers, with this field."""

    def shape(document: Any) -> str | None:
        errors = document.get("errors") if isinstance(document, dict) else None
        if not isinstance(errors, dict) or not isinstance(document.get("message"), str):
            return "`message` and `errors` are missing"
        found = [key for key in errors if key.split(".")[0] == name]
        if not found or not all(isinstance(errors[key], list) and errors[key] for key in found):
            return (
                f"`errors` names {', '.join(sorted(errors)) or 'nothing'}, it must name {name} with a list of messages"
            )
        return None

    return shape


def message(document: Any) -> str | None:
    """``{"message": text}``."""
    there = isinstance(document, dict) and isinstance(document.get("message"), str) and document["message"]
    return None if there else "`message` is missing"


def healthy(document: Any) -> str | None:
    """``{"status": "ok"}`` and whatever else."""
    return None if isinstance(document, dict) and document.get("status") == "ok" else "`status` must be ok"
