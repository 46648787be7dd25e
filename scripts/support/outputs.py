"""A stack's outputs, as the deployed program gave them."""

from __future__ import annotations

from typing import Any

from scripts.support.errors import Refused


class Outputs(dict[str, Any]):
    """Values by name. Asking for one that is missing or empty raises Refused, wherever that is; ``get`` does not."""

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value in (None, ""):
            raise Refused(
                f"the stack has no output {name}: it was not deployed wholly, or by another version of this program; deploy it: pulumi up"
            )
        return value
