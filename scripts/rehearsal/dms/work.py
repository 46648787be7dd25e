"""One DMS task as it is declared: its endpoints, its selection rules, what its settings say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.support.errors import MigrationError


class Failed(MigrationError):
    """The task stops; the text is its LastFailureMessage."""


@dataclass(frozen=True)
class Work:
    """One task as it is declared. ``rules`` and ``settings`` are its table mappings and task settings, parsed."""

    name: str
    source_url: str
    target_url: str
    slot: str
    after_connect: str
    fail_on_truncation: bool
    rules: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    @property
    def selected(self) -> frozenset[tuple[str, str]]:
        """The tables that the selection rules include."""
        return frozenset(
            (rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"])
            for rule in self.rules
            if rule["rule-type"] == "selection" and rule["rule-action"] == "include"
        )

    def policy(self, operation: str) -> str:
        """What the settings say of an INSERT or DELETE that cannot be applied."""
        return str(self.settings["ErrorBehavior"][f"ApplyError{operation.capitalize()}Policy"])

    @property
    def control_schema(self) -> str:
        """Where the control tables are, on the target."""
        return str(self.settings["ControlTablesSettings"]["ControlSchema"])

    @property
    def group(self) -> int:
        """Changes that one transaction on the target takes, at least, unless the time-out passes first."""
        return int(self.settings["ChangeProcessingTuning"]["MinTransactionSize"])

    @property
    def timeout(self) -> float:
        """How long transactions are gathered for one on the target, seconds."""
        return float(self.settings["ChangeProcessingTuning"]["CommitTimeout"])


def work_of(
    task: Mapping[str, Any],
    reads: Mapping[str, Any],
    writes: Mapping[str, Any],
    source_url: str,
    target_url: str,
) -> Work:
    """A task's work, of its and its two endpoints' descriptions. Raises Failed where DMS could do none with these."""
    reader, writer = reads.get("PostgreSQLSettings") or {}, writes.get("PostgreSQLSettings") or {}
    if writer.get("MaxFileSize") == 0:
        # What AWS's provider sends where it is not declared (hashicorp/terraform-provider-aws, issue 47884).
        raise Failed("the target endpoint has MaxFileSize 0, so that no change can be written")
    return Work(
        name=str(task["ReplicationTaskIdentifier"]),
        source_url=source_url,
        target_url=target_url,
        slot=str(reader.get("SlotName")),
        after_connect=str(writer.get("AfterConnectScript") or ""),
        fail_on_truncation=bool(reader.get("FailTasksOnLobTruncation")),
        rules=json.loads(task["TableMappings"])["rules"],
        settings=json.loads(task["ReplicationTaskSettings"]),
    )
