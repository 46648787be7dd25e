"""What a person reads of `preflight`, `backup`, `schema` and `copy`: the verdict, what it rests on, what to type next."""

from __future__ import annotations

import pytest

from scripts.backup.documents import Backup, Restored, TableSum
from scripts.cli import prepare_text
from scripts.copy.documents import Copied, Copy, SequenceSet, TableCopied
from scripts.preflight.documents import Check, Preflight
from scripts.schema.documents import Difference, Left, SchemaApplied, SchemaDiff
from tests.unit.cli.shown import shown

SUMS = [
    TableSum(table="tasks", rows=1030000, checksum="6b03ea0024f7968d"),
    TableSum(table="scheduled_group_tasks", rows=50, checksum="80ec2a4f6904e6df"),
]
LOCATION = "s3://myteacher-backups/database/2026-11-23/myteacher_production-20261123T011244Z.dump"
BACKUP = Backup(
    created_at="2026-11-23T01:12:44+00:00",
    file="myteacher_production-20261123T011244Z.dump",
    restore_verified=True,
    inserts=False,
    database="myteacher_production",
    server_version="PostgreSQL 16.14",
    server_major=16,
    client_version=16,
    tables=SUMS,
    objects={"constraints": 30, "indexes": 23, "tables": 10},
    sha256="b30785edca3a55dd6c31467d66b7725ecc080f2633d3340ba9832208613e056a",
    bytes=2264924,
    location=LOCATION,
    seconds=7.12,
    manifest=f"{LOCATION}.manifest.json",
)
RESTORED = Restored(
    location=LOCATION, sha256=BACKUP.sha256, database="task_service_production", tables=SUMS, restored=True
)
GOOD = [Check("source: wal_level", "pass", "logical"), Check("target: wal_level", "pass", "logical")]
OLD = Check(
    "source: hours of WAL",
    "warn",
    "2487.5 MiB of WAL an hour; a stopped reader has 4.1 hours until 10.0 GiB are full, 12 are wanted",
    "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'",
)
BAD = Check("both: encoding", "fail", "source UTF8, target LATIN1", "CREATE DATABASE ... ENCODING 'UTF8'")
PREFLIGHT_FAILED = Preflight(checks=[*GOOD, OLD, BAD], passed=False, largest_rows=[])
PREFLIGHT_PASSED = Preflight(checks=[*GOOD, OLD], passed=True, largest_rows=[])
TITLE = Difference(
    table="tasks",
    kind="column",
    name="title",
    source='"title" character varying(255) NOT NULL',
    target='"title" text NOT NULL',
    sql='ALTER TABLE "public"."tasks" ALTER COLUMN "title" TYPE character varying(255)',
)
INDEX = Difference(
    table="tasks", kind="index", name="tasks_span", source="CREATE INDEX", target=None, sql="CREATE INDEX tasks_span"
)
LONG = 'ALTER TABLE "public"."scheduled_group_tasks" ADD COLUMN "due_duration_hours" integer DEFAULT 0 NOT NULL;'
BEHIND = [Left(table="tasks", kind="trigger", name="audit", why="not in carryTriggers")]
DIFF = SchemaDiff(match=False, differences=[TITLE], pending=[], left=[], text="", mend=f"{TITLE.sql};\n{LONG}\n")
AGREED = SchemaDiff(match=True, differences=[], pending=[INDEX], left=BEHIND, text="", mend="")
COMMENT = Difference(
    table="tasks", kind="comment", name="table", source="new", target=None, sql="COMMENT ON TABLE tasks", of_rows=False
)
BESIDES = SchemaDiff(
    match=False, differences=[COMMENT], pending=[], left=[], text="", mend="COMMENT ON TABLE tasks IS 'new';\n"
)
APPLIED = SchemaApplied(
    created=["tasks", "task_images"],
    statements=['CREATE TABLE "public"."tasks" ()', 'CREATE TABLE "public"."task_images" ()'],
    role="task_service_user",
    role_changed="created",
    warnings=[],
    **dict(AGREED),
)
ROLELESS = APPLIED.model_copy(
    update={
        "created": [],
        "role": None,
        "role_changed": None,
        "warnings": ["the role task_service_user does not exist on the target; export TARGET_ROLE_PASSWORD"],
        **dict(DIFF),
    }
)
COPIED = Copied(
    slot="task_service_sub",
    lsn="0/28B37A40",
    snapshot="00000004-00000034-1",
    tables=[
        TableCopied(table="tasks", rows=1030000, bytes=200716571, seconds=47.6068),
        TableCopied(table="scheduled_group_tasks", rows=50, bytes=708726, seconds=0.05),
    ],
    sequences=[SequenceSet(sequence="tasks_id_seq", value=1000000000)],
    seconds=26.06,
)
COPY = Copy(**dict(COPIED), found="nothing of an earlier copy", status="complete")
AGAIN = Copy(
    **dict(COPIED),
    found="a copy complete since 2026-11-23T01:14:03+00:00; its slot waits for `task-migration replicate start`; nothing was changed",
    status="already-complete",
)
TRIED = COPY.model_copy(update={"status": "dry-run", "lsn": None, "snapshot": None, "sequences": [], "seconds": 0.0})


GOLDEN = {
    "preflight failed": (
        prepare_text.preflight(PREFLIGHT_FAILED),
        """\
Preflight failed: 1 check of 4 must be mended first; 1 warning

checks of  passed  warnings  failed
source          1         1       0
target          1         0       0
both            0         0       1

FAIL  both: encoding: source UTF8, target LATIN1
      remedy: CREATE DATABASE ... ENCODING 'UTF8'

warn  source: hours of WAL: 2487.5 MiB of WAL an hour; a stopped reader has 4.1
      hours until 10.0 GiB are full, 12 are wanted
      remedy: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'
Next: task-migration preflight, once that is mended""",
    ),
    "preflight passed": (
        prepare_text.preflight(PREFLIGHT_PASSED),
        """\
Preflight passed: 3 checks, none failed; 1 warning

checks of  passed  warnings  failed
source          1         1       0
target          1         0       0

warn  source: hours of WAL: 2487.5 MiB of WAL an hour; a stopped reader has 4.1
      hours until 10.0 GiB are full, 12 are wanted
      remedy: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'
Next: task-migration backup --output s3://BUCKET/PREFIX""",
    ),
    "backup": (
        prepare_text.backup(BACKUP),
        """\
The backup is verified: restored and compared, 2 tables, every row equal

database  myteacher_production (PostgreSQL 16)
backup    s3://myteacher-backups/database/2026-11-23/myteacher_production-202611
          23T011244Z.dump
SHA-256   b30785edca3a55dd6c31467d66b7725ecc080f2633d3340ba9832208613e056a
size      2.16 MiB
took      7.12 s
objects   30 constraints, 23 indexes, 10 tables

table                       rows  checksum
tasks                  1,030,000  6b03ea0024f7968d
scheduled_group_tasks         50  80ec2a4f6904e6df

To put it back: task-migration backup restore s3://myteacher-backups/database/2026-11-23/myteacher_production-20261123T011244Z.dump.manifest.json
Next: task-migration schema apply""",
    ),
    "restored": (
        prepare_text.restored(RESTORED),
        """\
Restored into task_service_production and compared: every row equal

backup   s3://myteacher-backups/database/2026-11-23/myteacher_production-2026112
         3T011244Z.dump
SHA-256  b30785edca3a55dd6c31467d66b7725ecc080f2633d3340ba9832208613e056a

table                       rows  checksum
tasks                  1,030,000  6b03ea0024f7968d
scheduled_group_tasks         50  80ec2a4f6904e6df
Next: task-migration status""",
    ),
    "schema applied": (
        prepare_text.schema_applied(APPLIED, dry_run=False),
        """\
2 tables made on the target; the two schemas agree

tables       tasks, task_images
role         task_service_user, which was made
later        1 object, which `copy` makes after the rows
left behind  trigger tasks.audit (not in carryTriggers)
Next: task-migration copy""",
    ),
    "schema tried": (
        prepare_text.schema_applied(APPLIED, dry_run=True),
        """\
Dry run, nothing was changed: 2 tables to be made by 2 statements

tables       tasks, task_images
role         task_service_user, which would be made
later        1 object, which `copy` makes after the rows
left behind  trigger tasks.audit (not in carryTriggers)

CREATE TABLE "public"."tasks" ();
CREATE TABLE "public"."task_images" ();
Next: task-migration schema apply""",
    ),
    "schema without its role": (
        prepare_text.schema_applied(ROLELESS, dry_run=False),
        """\
Every table is there; the two schemas differ

tables  none; those that are there are left as they are
role    does not exist

warn  the role task_service_user does not exist on the target; export
      TARGET_ROLE_PASSWORD

FAIL  tasks: column title
      source  "title" character varying(255) NOT NULL
      target  "title" text NOT NULL
Next: task-migration schema diff""",
    ),
    "schema differs": (
        prepare_text.schema_diff(DIFF),
        """\
The two schemas differ: 1 difference in 1 table

FAIL  tasks: column title
      source  "title" character varying(255) NOT NULL
      target  "title" text NOT NULL

Run on the target, in this order:

ALTER TABLE "public"."tasks" ALTER COLUMN "title" TYPE character varying(255);
ALTER TABLE "public"."scheduled_group_tasks" ADD COLUMN "due_duration_hours" integer DEFAULT 0 NOT NULL;
Next: task-migration schema diff, once that SQL was run""",
    ),
    "schema agrees": (
        prepare_text.schema_diff(AGREED),
        """\
The two schemas agree

later        1 object, which `copy` makes after the rows
left behind  trigger tasks.audit (not in carryTriggers)
Next: task-migration copy""",
    ),
    "schema differs beside the rows": (
        prepare_text.schema_diff(BESIDES),
        """\
The two schemas differ: 1 difference in 1 table, none of which is about rows:
`copy` and the canary go on all the same

warn  tasks: comment table
      source  new
      target  has none

Run on the target, in this order:

COMMENT ON TABLE tasks IS 'new';
Next: task-migration schema diff, once that SQL was run""",
    ),
    "copied": (
        prepare_text.copied(COPY),
        """\
Copied: 1,030,050 rows, 192 MiB in 26.06 s, under the slot's snapshot

found  nothing of an earlier copy
slot   task_service_sub, which begins at 0/28B37A40

table                       rows  size MiB  seconds
tasks                  1,030,000       191    47.61
scheduled_group_tasks         50      0.68     0.05

sequence of the target    next number
tasks_id_seq            1,000,000,000
Next: task-migration replicate start""",
    ),
    "copied before": (
        prepare_text.copied(AGAIN),
        """\
Nothing to do: 1,030,050 rows, 192 MiB were copied before

found  a copy complete since 2026-11-23T01:14:03+00:00; its slot waits for
       `task-migration replicate start`; nothing was changed
slot   task_service_sub, which begins at 0/28B37A40

table                       rows  size MiB  seconds
tasks                  1,030,000       191    47.61
scheduled_group_tasks         50      0.68     0.05

sequence of the target    next number
tasks_id_seq            1,000,000,000
Next: task-migration replicate start""",
    ),
    "copy tried": (
        prepare_text.copied(TRIED),
        """\
Dry run, nothing was copied: about 1,030,050 rows, 192 MiB to go

found  nothing of an earlier copy
slot   task_service_sub, not made yet

table                       rows  size MiB  seconds
tasks                  1,030,000       191    47.61
scheduled_group_tasks         50      0.68     0.05
Next: task-migration copy""",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_a_person_reads(name: str) -> None:
    """Prevents a verdict that is not in the first line, a fact that the text leaves out, and a last line that is no command."""
    view, text = GOLDEN[name]
    assert shown(view) == text
    assert text.splitlines()[-1].startswith("Next: task-migration ")


def test_sql_is_copied_out_as_it_is() -> None:
    """Prevents a statement that breaks where the terminal ends."""
    assert LONG in shown(prepare_text.schema_diff(DIFF)).splitlines()
