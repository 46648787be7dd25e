"""What the task API takes and gives: the bodies' rules, the JSON of a task, and errors with their status."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

#: PostgreSQL, 'Numeric Types'.
INT4_MAX = 2**31 - 1
INT8_MAX = 2**63 - 1


class ApiError(Exception):
    """An answer other than success: status and, for 422, the messages per field."""

    def __init__(self, status: int, message: str, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = dict(errors) if errors is not None else None

    def body(self) -> dict[str, Any]:
        """The JSON of the answer, in the shape that Laravel's validation gives."""
        return {"message": self.message} if self.errors is None else {"message": self.message, "errors": self.errors}


def not_found() -> ApiError:
    """The same answer for a task that is missing, deleted or another's, so that ids tell nothing."""
    return ApiError(404, "Task not found.")


def invalid(field: str, message: str) -> ApiError:
    """422 for one field."""
    return ApiError(422, "The given data was invalid.", {field: [message]})


def _storable(text: str) -> str:
    # PostgreSQL, 'Character Types': the character with code zero cannot be stored.
    if "\0" in text:
        raise ValueError("must not contain the character U+0000")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Key = Annotated[int, Field(ge=1, le=INT8_MAX)]
Path = Annotated[Text, Field(min_length=1, max_length=255)]


Body = TypeVar("Body", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TaskFields(_Body):
    """Fields that both POST and PUT take."""

    description: Annotated[Text, Field(max_length=65_535)] | None = None
    due_date: Annotated[Text, Field(max_length=255)] | None = None
    span: Annotated[int, Field(ge=0, le=INT4_MAX)] | None = None
    priority: Annotated[int, Field(ge=1, le=5)] = 3
    group_task_id: uuid.UUID | None = None
    reward: Annotated[int, Field(ge=0, le=INT4_MAX)] | None = None
    requires_approval: bool = False
    requires_image: bool = False
    source_proposal_id: Key | None = None
    tags: Annotated[list[Key], Field(max_length=50)] = Field(default_factory=list)


class NewTask(TaskFields):
    """Body of POST /api/tasks. ``user_id`` gives the task to a member of one's own group."""

    title: Annotated[Text, Field(min_length=1, max_length=255)]
    user_id: Key | None = None
    images: Annotated[list[Path], Field(max_length=10)] = Field(default_factory=list)


class TaskChange(TaskFields):
    """Body of PUT /api/tasks/{id}: only the fields in it change; ``tags`` replaces all of the task's tags."""

    title: Annotated[Text, Field(min_length=1, max_length=255)] = ""

    @model_validator(mode="after")
    def _something(self) -> TaskChange:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self

    def columns(self) -> dict[str, Any]:
        """The columns of ``tasks`` to change."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set - {"tags"})}


def parse_body(model: type[Body], content: bytes) -> Body:
    """Validate a JSON body. Raises ApiError 422 with the messages per field; ``body`` stands for the whole."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        errors: dict[str, list[str]] = {}
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            errors.setdefault(".".join(str(part) for part in item["loc"]) or "body", []).append(item["msg"])
        raise ApiError(422, "The given data was invalid.", errors) from None


def task_id(text: str) -> int:
    """The id in a path. Raises ApiError 404 for what can be no id."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or not 1 <= int(text) <= INT8_MAX:
        raise not_found()
    return int(text)


def task_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``tasks`` (with ``tags`` and maybe ``images``) as JSON; times are UTC."""

    def value(item: Any) -> Any:
        if isinstance(item, datetime):
            return f"{item.isoformat()}Z"
        return str(item) if isinstance(item, uuid.UUID) else item

    return {name: value(item) for name, item in row.items()}
