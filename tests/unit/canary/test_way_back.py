"""What is decided without a database on the way to 100 % and back: who goes back, what is not proven, the fields that scripts read."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.canary.documents import CanaryRun, CanaryStatus, CanaryStep, Decided, Rollback
from scripts.canary.operator_lock import Operation, TakenOver, operation
from scripts.database.locks import Holder
from scripts.replication.documents import WriteCounts
from scripts.support.document import Document
from scripts.verify.documents import MissingWrite, UnequalRow, WritesProof

FIXED = ["from", "to", "decision", "reasons", "seconds"]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        (CanaryStep, FIXED),
        (CanaryRun, FIXED),
        (Rollback, [*FIXED, "limit_seconds", "within_limit", "by", "seconds_of_up", "config_set", "drift", "pulumi", "moved_again",
                    "rights_given_back", "rows", "service_stopped", "phases"]),
        (CanaryStatus, ["declared", "live", "drift", "next", "ladder", "unfinished", "rollback_owed", "last"]),
        (Decided, ["at", "step", "event", *FIXED, "document"]),
    ],
)  # fmt: skip
def test_the_documents_keep_the_fields_that_scripts_of_others_rely_on(
    document: type[Document], fields: list[str]
) -> None:
    """Prevents a rename, or a field under its Python name, that breaks a script at night."""
    printed = [field.serialization_alias or field.alias or name for name, field in document.model_fields.items()]
    assert printed[: len(fields)] == fields
    assert printed == fields or fields == FIXED


@pytest.mark.parametrize(
    ("name", "does", "back"),
    [
        ("task-migration canary step op@laptop:7", Operation.STEP, False),
        ("task-migration canary run op@laptop:7", Operation.RUN, False),
        ("task-migration rollback op@laptop:7", Operation.ROLLBACK, True),
        ("task-migration rollback --emergency op@laptop:7", Operation.EMERGENCY, True),
        ("psql rollback", None, False),
        ("task-migration rollbacks op@laptop:7", None, False),
    ],
)
def test_only_who_goes_back_makes_another_undo_its_deployment(name: str, does: Operation | None, back: bool) -> None:
    """Prevents a weight that is taken back because another operator goes on, and one that outlives a rollback."""
    held = Holder(7, name, "10.0.0.7", "now")
    assert operation(held) == does
    assert TakenOver("text", held).goes_back is back
    assert TakenOver("text").goes_back is False


SAME = WritesProof(side="target", writes=WriteCounts(insert=3), pruned=1, missing=0, missing_writes=[], checked=2, equal=2, unsettled=0,
                   different_total=0, different=[], told=5, losses=[])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        (
            {"different_total": 1, "different": [UnequalRow(table="tasks", key={"id": "7"}, kind="missing_on_source", columns=[])]},
            "1 rows that the target wrote are not the same on the source, none may differ: tasks {'id': '7'} missing_on_source",
        ),
        (
            {"missing": 2000, "missing_writes": [MissingWrite(v=9, table="task_tag", key=["7", "8"], kind="delete")]},
            "2,000 writes of the target never arrived at the source, none may be missing: delete of task_tag 7/8",
        ),
        ({"unsettled": 3}, "3 rows or writes could not be compared, as they went on being written; none may be"),
    ],
)  # fmt: skip
def test_what_keeps_a_rollback_from_being_proven_is_said(change: dict[str, Any], said: str) -> None:
    """Prevents a rollback that reports success while a write of the Task Service is missing, differs, or is not known of."""
    proof = SAME.model_copy(update=change)
    assert (proof.problem(), proof.proven) == (said, not change)
