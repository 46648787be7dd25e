"""What reads foreign input gives its meaning, or refuses by an error of ours: whatever else it raises goes through, and fails the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar

from botocore import xform_name
from botocore.session import get_session
from hypothesis import strategies as st

from components.config import ConfigError
from scripts.support.errors import MigrationError

T = TypeVar("T")


def read(work: Callable[[], T]) -> tuple[T | None, str]:
    """What ``work`` gives, or the text with which it refuses; empty where it gave something."""
    try:
        return work(), ""
    except (MigrationError, ConfigError) as error:
        return None, str(error)


class Answers:
    """A client of AWS that has one answer for each operation."""

    def __init__(self, **answered: Any) -> None:
        self._answered = answered

    def get_paginator(self, operation: str) -> Any:
        """One page."""
        return SimpleNamespace(paginate=lambda **_: [self._answered[operation]])

    def __getattr__(self, operation: str) -> Any:
        if operation not in self._answered:
            raise AttributeError(operation)
        return lambda **_: self._answered[operation]

    def __repr__(self) -> str:
        return f"Answers(**{self._answered!r})"


@cache
def _model(service: str) -> Any:
    return get_session().get_service_model(service)


def answers(service: str, *operations: str, **texts: tuple[str, ...]) -> st.SearchStrategy[Answers]:
    """What botocore's model lets these ``operations`` (as in a client, `describe_rules`) answer: any member there or not, texts of ``texts``
    by their member's name."""
    names = {xform_name(one): one for one in _model(service).operation_names}
    shapes = {one: _model(service).operation_model(names[one]).output_shape for one in operations}
    return st.builds(Answers, **{one: _of(shape, texts, "") for one, shape in shapes.items()})


def _mostly(one: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(lambda number: other if number == 7 else one)


def _of(shape: Any, texts: Mapping[str, tuple[str, ...]], name: str) -> st.SearchStrategy[Any]:
    match shape.type_name:
        case "structure":
            members = {one: _of(inner, texts, one) for one, inner in shape.members.items()}
            # What is read is mostly there, or nothing but its lack would ever be tried.
            known = st.fixed_dictionaries({one: made for one, made in members.items() if one in texts or one in _READ})
            return _mostly(known, st.fixed_dictionaries({}, optional=members))
        case "list":
            some = st.lists(_of(shape.member, texts, name), min_size=1, max_size=2)
            return _mostly(some, st.just([]))
        case "map":
            return st.dictionaries(st.text(max_size=3), _of(shape.value, texts, name), max_size=1)
        case "string":
            return st.sampled_from([*texts.get(name, ())] or [*shape.enum] or ["", "x", "a:b/c", "7"])
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.just(datetime(2026, 11, 27, tzinfo=UTC))
    return st.integers(0, 3)


#: Members of an answer that lead to what is read.
_READ = frozenset(
    [
        "Rules",
        "Actions",
        "Conditions",
        "ForwardConfig",
        "TargetGroups",
        "TargetGroupArn",
        "Weight",
        "services",
        "deployments",
        "desiredCount",
        "runningCount",
        "status",
        "taskDefinition",
        "rolloutState",
        "TargetHealthDescriptions",
        "Target",
        "Id",
        "TargetHealth",
        "State",
        "taskArns",
        "tasks",
        "containers",
        "Field",
        "PathPatternConfig",
        "Values",
        "Priority",
        "RuleArn",
        "Type",
    ]
)
