"""What a person reads of the ends: what is gone, who may still write, which rows were given up, what to type."""

from __future__ import annotations

from scripts.cli.finish_text import abandonment, finalization, start_over
from scripts.finish.documents import Abandonment, Finalization, Privileges, StartOver, TableRows
from scripts.support import commands
from tests.unit.cli.shown import shown

THINGS = ["source: slot task_service_sub", "source: trigger on tasks", "target: schema task_migration"]


def finalized(**changes: object) -> Finalization:
    values = {
        "status": "finalized",
        "statements": ['REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "public"."tasks" FROM "app"'],
        "privileges": [Privileges(table="tasks", select=True, insert=False, update=False, delete=False)],
        "rows": [TableRows(table="tasks", rows=1_000_000)],
        "removed": THINGS,
        "leftovers": [],
        "handed_over": [],
        "warnings": [],
    }
    return Finalization.model_validate(values | changes)


def test_finalized() -> None:
    warning = "the role reports can write to these tables too and is left alone"
    view = finalization(finalized(warnings=[warning]))
    assert view.state == "good"
    assert (
        shown(view)
        == """\
Finalized: the old tables are read-only, replication is gone from both sides.

What the monolith's role may do in the old tables
table       rows  select  insert  update  delete
tasks  1,000,000  yes     no      no      no

side    removed
source  slot task_service_sub, trigger on tasks
target  schema task_migration

warn  the role reports can write to these tables too and is left alone
Next: nothing; the plan is at its end, the old tables stay read-only"""
    )
    assert (
        shown(finalization(finalized(status="already-finalized", rows=[], removed=[])))
        == """\
Finalized before: the old tables are read-only, nothing of replication is left.

What the monolith's role may do in the old tables
table  select  insert  update  delete
tasks  yes     no      no      no
Next: nothing; the plan is at its end, the old tables stay read-only"""
    )


def test_a_dry_run_of_finalize_says_that_nothing_was_changed() -> None:
    """Prevents a dry run that reads like the deed."""
    may = [Privileges(table="tasks", select=True, insert=True, update=True, delete=True)]
    view = finalization(finalized(status="dry-run", rows=[], privileges=may))
    assert view.state == "plain"
    assert (
        shown(view)
        == """\
Nothing was changed; finalize would close the old tables and end replication.

What the monolith's role may do in the old tables today
table  select  insert  update  delete
tasks  yes     yes     yes     yes

SQL that would run on the source
  REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "public"."tasks" FROM "app";

side    would be removed
source  slot task_service_sub, trigger on tasks
target  schema task_migration
Next: task-migration finalize"""
    )


def test_given_up() -> None:
    done = Abandonment(status="abandoned", drained=True, lost={}, removed=THINGS, leftovers=[])
    text = shown(abandonment(done))
    assert (
        text
        == """\
Given up: replication and everything of this migration is gone from both sides.

side    removed
source  slot task_service_sub, trigger on tasks
target  schema task_migration

ok    what the Task Service wrote was brought back to the monolith first
Next: to begin again: task-migration rollback --scenario copy --force --reason
TEXT empties the target, then task-migration copy"""
    )
    nothing = done.model_copy(update={"status": "nothing-there", "removed": [], "drained": False})
    assert shown(abandonment(nothing)).splitlines()[0] == "Nothing of this migration is on either side."
    assert "brought back" not in shown(abandonment(nothing))
    assert shown(abandonment(nothing)).endswith("Next: task-migration status")
    dry = done.model_copy(update={"status": "dry-run", "drained": False, "leftovers": THINGS})
    text = shown(abandonment(dry))
    assert text.startswith("Nothing was changed: 3 things of this migration would be removed.\n")
    assert text.endswith("Next: task-migration rollback --abandon")


def test_the_target_emptied() -> None:
    """Prevents rows that were given up and are not named."""
    done = StartOver(
        scenario="data",
        status="emptied",
        drained=True,
        only_on_target={"tasks": 1200, "task_tag": 0},
        removed=THINGS,
        leftovers=[],
        truncated=["tasks", "task_tag"],
        next=commands.AGAIN,
    )
    view = start_over(done)
    assert view.state == "warning"
    assert (
        shown(view)
        == """\
Emptied: 2 tables of the target are empty, replication is gone from both sides.

Rows that the source is not proven to have
table   rows
tasks  1,200

side    removed
source  slot task_service_sub, trigger on tasks
target  schema task_migration

ok    what the Task Service wrote was brought back to the monolith first
Next: mend the cause, then task-migration copy"""
    )
    dry = done.model_copy(update={"status": "dry-run", "truncated": [], "drained": False})
    text = shown(start_over(dry))
    assert text.startswith("Nothing was changed: replication would end, the target's tables be emptied.\n")
    assert text.endswith("Next: task-migration rollback --scenario data --force --reason TEXT")
