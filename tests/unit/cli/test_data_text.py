"""What a person reads of `verify`: the verdict, each table, which rows differ, what else spoils the match, what to type."""

from __future__ import annotations

from typing import Any

from scripts.cli.data_text import NAMED, verification
from scripts.replication.documents import SequenceBand
from scripts.schema.documents import Difference
from scripts.verify.documents import ComparedTable, Orphans, RowDifference, ShownValues, Verification
from tests.unit.cli.shown import shown


def compared(name: str, rows: int, **changes: Any) -> ComparedTable:
    values: dict[str, Any] = {
        "table": name,
        "source_rows": rows,
        "target_rows": rows,
        "source_checksum": "00000000000000aa",
        "target_checksum": "00000000000000aa",
        "match": True,
        "differences": [],
        "differences_total": 0,
        "differences_by_kind": {},
        "repaired": 0,
        "unsettled": 0,
    }
    return ComparedTable.model_validate(values | changes)


def document(*tables: ComparedTable, **changes: Any) -> Verification:
    values: dict[str, Any] = {
        "match": all(entry.match for entry in tables) and not changes,
        "tables": list(tables),
        "sequences": [],
        "orphans": [],
        "schema_match": True,
        "schema_differences": [],
        "live": True,
        "algorithm": "hash",
        "recording": [],
    }
    return Verification.model_validate(values | changes)


EXECUTIONS = compared("scheduled_task_executions", 200)
LOST = RowDifference(key={"id": 1234}, kind="missing_on_target", columns=[], values=None)
TITLE = RowDifference(key={"id": 5}, kind="different", columns=["title", "updated_at"], values=None)
SPOILT = compared(
    "tasks",
    1_000_000,
    target_rows=999_999,
    target_checksum="00000000000000ab",
    match=False,
    differences=[LOST, TITLE],
    differences_total=2,
    differences_by_kind={"different": 1, "missing_on_target": 1},
)


def test_equal_sides() -> None:
    text = shown(verification(document(compared("tasks", 1_000_000), EXECUTIONS)))
    assert (
        text
        == """\
Both sides are equal: 1,000,200 rows in 2 tables.

table                      source rows  target rows  checksums  differ
tasks                        1,000,000    1,000,000  equal           0
scheduled_task_executions          200          200  equal           0
Next: task-migration status"""
    )


def test_a_part_does_not_say_that_both_sides_are_equal() -> None:
    """Prevents a person from taking an incremental match for one of every row."""
    text = shown(verification(document(compared("tasks", 62_500), EXECUTIONS, written=17, match=True)))
    first = "No difference in 17 rows written since the last match, nor in 62,700 rows compared beside; the others were not looked at."
    assert " ".join(text.split()).startswith(first)


def test_rows_that_differ_are_named() -> None:
    view = verification(document(SPOILT, EXECUTIONS))
    assert view.state == "bad"
    assert (
        shown(view)
        == """\
The sides differ: 2 rows in 1 table.

table                      source rows  target rows  checksums  differ
tasks                        1,000,000      999,999  not equal       2
scheduled_task_executions          200          200  equal           0

Rows that differ
table  key      what                   columns
tasks  id=1234  missing on the target
tasks  id=5     different              title, updated_at
Next: task-migration verify --repair newest"""
    )


def test_values_that_were_asked_for() -> None:
    """Prevents values that are asked for and not shown, and NULL taken for a row that is not there."""
    values = ShownValues(source={"title": "買う", "updated_at": None}, target={"title": "買う!", "updated_at": "2026"})
    there = ShownValues(source={"id": "1234", "title": None}, target=None)
    one, other = TITLE.model_copy(update={"values": values}), LOST.model_copy(update={"values": there})
    text = shown(verification(document(SPOILT.model_copy(update={"differences": [other, one]}))))
    assert (
        text.partition("Their values\n")[2]
        == """\
row            column      source  target
tasks id=1234  id          '1234'  -
               title       NULL    -
tasks id=5     title       '買う'  '買う!'
               updated_at  NULL    '2026'
Next: task-migration verify --repair newest"""
    )


def test_a_repair_says_what_it_repaired_and_what_is_left() -> None:
    repaired = SPOILT.model_copy(update={"match": True, "repaired": 2, "target_checksum": "00000000000000aa"})
    text = shown(verification(document(repaired)))
    assert text.startswith("Both sides are equal: 1,000,000 rows in 1 table, 2 of them repaired.\n")
    assert "differ  repaired\n" in text
    assert "Rows that differ, before the repair" in text
    moving = SPOILT.model_copy(update={"repaired": 2, "unsettled": 3})
    text = shown(verification(document(moving)))
    assert text.startswith("The sides still differ: 1 table.\n")
    assert "kept changing\n" in text
    assert text.endswith("Next: task-migration verify, when less is written to these rows")


def test_many_rows_are_counted_and_not_listed() -> None:
    rows = [LOST.model_copy(update={"key": {"id": number}}) for number in range(1000)]
    many = SPOILT.model_copy(update={"differences": rows, "differences_total": 500_000})
    text = shown(verification(document(many)))
    assert text.count("missing on the target") == NAMED
    assert f"and {500_000 - NAMED:,} more; --json lists the first 1,000 of each table" in text


def test_what_else_spoils_the_match() -> None:
    """Prevents a verdict without its reason: orphans, the schema, a sequence outside of its band, replication that is off."""
    orphans = Orphans(
        constraint="task_tag_tag_id_foreign",
        table="task_tag",
        columns=["tag_id"],
        references="tags(id)",
        side="target",
        known=False,
        count=2,
        samples=[{"tag_id": "987654"}, {"tag_id": "987655"}],
    )
    column = Difference(
        table="tasks", kind="column", name="title", source="varchar(255)", target=None, sql="ALTER TABLE ..."
    )
    band = SequenceBand(
        table="tasks",
        column="id",
        sequence="tasks_id_seq",
        source_last=1204,
        target_last=17,
        band_start=1_000_000_000,
        used_percent=0.0,
        status="fail",
    )
    view = verification(
        document(
            EXECUTIONS,
            orphans=[orphans, orphans.model_copy(update={"known": True, "side": "both", "count": 9})],
            undecided=[
                "tags 1 of the source and tags 2 of the target both claim tags_name_key (name), which one row may: change one"
            ],
            followed=["task_tag 5/6 of both sides refers to tasks 5, which goes, and goes too"],
            schema_match=False,
            schema_differences=[column],
            sequences=[band],
            live=False,
        )
    )
    text = shown(view)
    verdict, _, rest = text.partition("\n\nFAIL")
    assert verdict.splitlines()[:2] == [
        "The sides differ: 2 references to no row, the schema in 1 place, 1 sequence",
        "outside the band.",
    ]
    assert (
        "FAIL" + rest
        == """\
FAIL  tags 1 of the source and tags 2 of the target both claim tags_name_key
      (name), which one row may: change one

warn  task_tag 5/6 of both sides refers to tasks 5, which goes, and goes too

FAIL  task_tag.tag_id of the target has 2 values that no row of tags(id) has,
      the limit is 0: tag_id=987654; tag_id=987655
      remedy: bring those rows back, or change the rows that refer to them

warn  task_tag.tag_id of both sides has 9 values that no row of tags(id) has, as
      the key task_tag_tag_id_foreign is NOT VALID on the source: tag_id=987654;
      tag_id=987655
      remedy: nothing, or mend them on the source and validate the key there

FAIL  tasks: column title: source varchar(255), target none
      remedy: task-migration schema diff prints the SQL that mends it

FAIL  sequence tasks_id_seq: source at 1,204, target at 17; the target's band
      begins at 1,000,000,000 (0 % of the way is used)
      remedy: set the target's sequence above the band's begin

warn  replication does not run both ways: a row that only one side has yet
      counts as a difference
      remedy: task-migration replicate status says why
Next: task-migration schema diff"""
    )
