"""The layout of a stack's file: the one template, and what the two environments have of their own.

`python -m scripts.init.layout` (`make docs`) lays the project's own stack files out anew, with the values that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import typed
from scripts.deployment.stack_file import replaced
from scripts.support.settings import PROJECT_ROOT

TEMPLATE = Path(__file__).with_name("template.yaml")
#: The stacks of this project; a stack of another name says by `environment` which of the two it is like.
STACKS = ("staging", "prod")
#: Where production differs from the template: its evidence is locked, and the plan names its bucket.
_PRODUCTION: Mapping[str, object] = {
    "environment": "prod",
    "backupBucket": "myteacher-backups",
    "stateBucket": "myteacher-migration-state",
    "stateLockDays": 90,
}


def stack_text(stack: str, environment: str | None = None) -> str:
    """The file of a new stack, nothing filled in; ``environment`` where the stack's name is neither staging nor prod."""
    text = TEMPLATE.read_text(encoding="utf-8").replace("<stack>", {"prod": "production"}.get(stack, stack), 1)
    if (environment or stack) == "prod":
        for key, value in _PRODUCTION.items():
            text = replaced(text, f"{PROJECT}:{key}", value)
    return text


def laid_out(stack: str, text: str, environment: str | None = None) -> str:
    """A stack's file with the template's comments and order, and every value that ``text`` has; ``environment`` as for :func:`stack_text`."""
    had: dict[str, Any] = yaml.safe_load(text) or {}
    config = had.pop("config", None) or {}
    made = stack_text(stack, config.get(f"{PROJECT}:environment", environment))
    declared = yaml.safe_load(made)["config"]
    for key, value in reversed(config.items()):  # a key that the template lacks is put first
        if key not in declared or declared[key] != value:
            made = replaced(made, key, value)
    # What Pulumi keeps beside the configuration: who encrypts its secrets, and the encrypted key.
    return made + (yaml.safe_dump(had, sort_keys=False) if had else "")


def values_of(text: str) -> dict[str, Any]:
    """The project's values in a stack's file (camelCase keys), as their keys' types have them; what is still to be filled in and what is
    encrypted is left out. An empty list means none where the key has a default of more; else it waits for its first item.
    """
    config = (yaml.safe_load(text) or {}).get("config") or {}
    prefix = f"{PROJECT}:"
    values = {
        key: typed(key, value) for name, value in config.items() if (key := str(name).removeprefix(prefix)) != name
    }
    waits = {
        field.alias or name
        for name, field in StackConfig.model_fields.items()
        if field.is_required() or not field.default
    }
    return {
        key: value
        for key, value in values.items()
        if value not in ("", None)
        and not (value == [] and key in waits)
        and not (isinstance(value, dict) and "secure" in value)
    }


if __name__ == "__main__":
    for name in STACKS:
        path = PROJECT_ROOT / f"Pulumi.{name}.yaml"
        path.write_text(laid_out(name, path.read_text(encoding="utf-8")), encoding="utf-8")
