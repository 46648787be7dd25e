"""What a person reads of `verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.text import Text

from scripts.cli.view import Column, View, finding, table
from scripts.support import commands
from scripts.support.figure import counted
from scripts.verify.documents import ComparedTable, Orphans, RowDifference, Verification

#: Rows that differ which are named; the JSON document has more of them.
NAMED = 20
KINDS = {
    "missing_on_target": "missing on the target",
    "missing_on_source": "missing on the source",
    "different": "different",
}


def verification(document: Verification) -> View:
    """Whether both sides are equal, table by table, which rows are not, and what else spoils the match."""
    return View(_verdict(document), "good" if document.match else "bad", list(_parts(document)), _next(document))


def _verdict(document: Verification) -> str:
    repaired = sum(entry.repaired for entry in document.tables)
    if document.match:
        rows = counted(sum(entry.source_rows for entry in document.tables), "row")
        if document.written is not None:
            written = counted(document.written, "row")
            return f"No difference in {written} written since the last match, nor in {rows} compared beside; the others were not looked at."
        after = f", {repaired:,} of them repaired" if repaired else ""
        return f"Both sides are equal: {rows} in {counted(len(document.tables), 'table')}{after}."
    tables = [entry for entry in document.tables if not entry.match]
    rows = counted(sum(entry.differences_total for entry in tables), "row") + " in " if not repaired else ""
    lost, places, failed = (
        sum(e.count for e in document.orphans if not e.known),
        len(document.schema_differences),
        _failed(document),
    )
    spoilt = [
        rows + counted(len(tables), "table") if tables else "",
        counted(lost, "reference") + " to no row" if lost else "",
        f"the schema in {counted(places, 'place')}" if places else "",
        f"{counted(len(failed), 'sequence')} outside the band" if failed else "",
    ]
    if not any(spoilt):
        return f"The sides are equal, and may not stay so: {counted(len(document.recording), 'thing')} of ours is not as it was made."
    return f"The sides {'still ' if repaired else ''}differ: {', '.join(filter(None, spoilt))}."


def _failed(document: Verification) -> list[str]:
    return [entry.table for entry in document.sequences if entry.status == "fail"]


def _parts(document: Verification) -> Iterator[RenderableType]:
    yield _tables(document.tables)
    named = [(entry.table, difference) for entry in document.tables for difference in entry.differences]
    if named:
        title = "Rows that differ" + (", before the repair" if any(e.repaired for e in document.tables) else "")
        yield table(
            ("table", "key", "what", "columns"),
            [(name, _key(one), KINDS[one.kind], ", ".join(one.columns)) for name, one in named[:NAMED]],
            title,
        )
        more = sum(entry.differences_total for entry in document.tables) - min(len(named), NAMED)
        if more:
            yield Text(f"and {more:,} more; --json lists the first 1,000 of each table")
    if any(one.values for _, one in named):
        yield table(("row", "column", "source", "target"), _values(named[:NAMED]), "Their values")
    for text in document.undecided:
        yield finding("bad", text, None)
    for text in document.followed:
        yield finding("warning", text, None)
    yield from map(_orphans, document.orphans)
    for text in document.recording:
        yield finding("bad", text, "task-migration replicate start puts ours back; then verify again")
    for item in document.schema_differences:
        yield finding(
            "bad",
            f"{item.table}: {item.kind} {item.name}: source {item.source or 'none'}, target {item.target or 'none'}",
            "task-migration schema diff prints the SQL that mends it",
        )
    for band in document.sequences:
        if band.status != "ok":
            yield finding(
                "bad" if band.status == "fail" else "warning",
                f"sequence {band.sequence}: source at {band.source_last:,}, target at "
                f"{'none' if band.target_last is None else format(band.target_last, ',')}; the target's band begins at {band.band_start:,} "
                f"({band.used_percent:g} % of the way is used)",
                "set the target's sequence above the band's begin" if band.status == "fail" else None,
            )
    if not document.live:
        yield finding(
            "warning",
            "replication does not run both ways: a row that only one side has yet counts as a difference",
            "task-migration replicate status says why",
        )


def _orphans(found: Orphans) -> RenderableType:
    whose = "both sides" if found.side == "both" else f"the {found.side}"
    text = f"{found.table}.{', '.join(found.columns)} of {whose} has {counted(found.count, 'value')} that no row of {found.references} has"
    samples = "; ".join(_pairs(sample) for sample in found.samples)
    if found.known:
        text = f"{text}, as the key {found.constraint} is NOT VALID on the source: {samples}"
        return finding("warning", text, "nothing, or mend them on the source and validate the key there")
    return finding(
        "bad", f"{text}, the limit is 0: {samples}", "bring those rows back, or change the rows that refer to them"
    )


def _tables(tables: list[ComparedTable]) -> RenderableType:
    repaired, moving = (any(entry.repaired for entry in tables), any(entry.unsettled for entry in tables))
    columns: list[str | Column] = [
        "table",
        Column("source rows", number=True),
        Column("target rows", number=True),
        "checksums",
        Column("differ", number=True),
    ]
    columns += [Column("repaired", number=True)] if repaired else []
    columns += [Column("kept changing", number=True)] if moving else []
    return table(
        columns,
        [
            (
                entry.table,
                entry.source_rows,
                entry.target_rows,
                "equal" if entry.source_checksum == entry.target_checksum else "not equal",
                entry.differences_total,
                *((entry.repaired,) if repaired else ()),
                *((entry.unsettled,) if moving else ()),
            )
            for entry in tables
        ],
    )


def _pairs(values: Mapping[str, str | int | None]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _key(difference: RowDifference) -> str:
    return _pairs(difference.key)


def _values(named: list[tuple[str, RowDifference]]) -> Iterator[tuple[str, str, str | None, str | None]]:
    for name, one in named:
        if one.values is None:
            continue
        source, target = one.values.source, one.values.target
        row = f"{name} {_key(one)}"
        for column in one.columns or {**(source or {}), **(target or {})}:
            yield row, column, _shown(source, column), _shown(target, column)
            row = ""


def _shown(values: dict[str, str | None] | None, column: str) -> str | None:
    if values is None:
        return None
    return "NULL" if values[column] is None else f"'{values[column]}'"


def _next(document: Verification) -> str:
    if document.match:
        return commands.STATUS
    if document.recording:
        return f"{commands.START}, then {commands.VERIFY}"
    if document.schema_differences:
        return "task-migration schema diff"
    if not document.undecided and any(entry.differences_total > entry.repaired for entry in document.tables):
        return "task-migration verify --repair newest"
    if any(entry.unsettled for entry in document.tables):
        return "task-migration verify, when less is written to these rows"
    return "mend what is said above, then: task-migration verify"
