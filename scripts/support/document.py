"""What steps return and `--json` prints: frozen pydantic models, one a document, beside the step that makes it."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from scripts.support.redact import redact


class Document(BaseModel):
    """The base of every document and of its parts. A field that is no Python name (`from`) has an alias, which JSON gets.

    Times say their unit in the name (`seconds`, `age_hours`). A field that is not always there is None when it is not.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True, defer_build=True
    )

    def plain(self) -> dict[str, Any]:
        """As JSON types, under the names that JSON has: for the journal, a notice, a kept decision."""
        return self.model_dump(mode="json", by_alias=True)

    def redacted(self) -> Self:
        """The same document without passwords in any of its texts."""
        return type(self).model_validate(_redacted(self.plain()))

    def json_text(self) -> str:
        """One line of JSON without passwords."""
        return json.dumps(_redacted(self.plain()), ensure_ascii=False)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    return value
