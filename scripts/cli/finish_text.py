"""What a person reads of the ends: `finalize`, `rollback --abandon`, `rollback --scenario copy|data`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scripts.cli.view import Column, View, finding, table
from scripts.finish.documents import Abandonment, Finalization, StartOver
from scripts.support import commands
from scripts.support.figure import counted
from scripts.support.sides import other
from scripts.verify.documents import WritesProof

#: Lost writes that are named; the document has more.
LISTED = 5


def finalization(document: Finalization) -> View:
    """Whether the old tables are read-only and replication is gone, each table's rows and rights, what to watch."""
    dry = document.status == "dry-run"
    verdict = {
        "finalized": "Finalized: the old tables are read-only, replication is gone from both sides.",
        "already-finalized": "Finalized before: the old tables are read-only, nothing of replication is left.",
        "dry-run": "Nothing was changed; finalize would close the old tables and end replication.",
    }[document.status]
    rows = {entry.table: entry.rows for entry in document.rows}
    parts: list[RenderableType] = [
        table(
            ("table", *([Column("rows", number=True)] if rows else []), "select", "insert", "update", "delete"),
            [
                (one.table, *([rows.get(one.table)] if rows else []), one.select, one.insert, one.update, one.delete)
                for one in document.privileges
            ],
            f"What the monolith's role may do in the old tables{' today' if dry else ''}",
        )
    ]
    if dry:
        sql = [Padding(Text(f"{text};"), (0, 0, 0, 2)) for text in document.statements]
        parts.append(Group(Text("SQL that would run on the source"), *sql))
    parts += _gone(document.removed, dry)
    parts += proof(document.proof) if document.proof else []
    if document.handed_over:
        parts.append(Text(f"handed over to the service's role: {', '.join(document.handed_over)}"))
    parts += [finding("warning", warning) for warning in document.warnings]
    return View(verdict, "plain" if dry else "good", parts, commands.FINALIZE if dry else commands.END)


def abandonment(document: Abandonment) -> View:
    """What was removed of the attempt, and whether the Task Service's writes were brought back first."""
    dry = document.status == "dry-run"
    verdict = {
        "abandoned": "Given up: replication and everything of this migration is gone from both sides.",
        "nothing-there": "Nothing of this migration is on either side.",
        "dry-run": f"Nothing was changed: {counted(len(document.removed), 'thing')} of this migration would be removed."
        if document.removed
        else "Nothing was changed: nothing of this migration is on either side.",
    }[document.status]
    parts = _gone(document.removed, dry)
    if document.status == "abandoned":
        parts.append(_drained(document.drained))
    if document.lost:
        given_up = ", ".join(f"{table} {writes:,}" for table, writes in document.lost.items())
        parts.append(finding("bad", f"given up: writes of the target that the source lacks: {given_up}"))
    follows = {
        "abandoned": commands.ANEW,
        "nothing-there": commands.STATUS,
        "dry-run": commands.ABANDON,
    }[document.status]
    return View(verdict, "plain" if dry else "good", parts, follows)


def start_over(document: StartOver) -> View:
    """Whether the target was emptied, and which of its rows the source is not proven to have."""
    dry = document.status == "dry-run"
    tables = f"{len(document.truncated)} tables of the target are empty"
    verdict = (
        "Nothing was changed: replication would end, the target's tables be emptied."
        if dry
        else f"Emptied: {tables}, replication is gone from both sides."
    )
    only = {name: rows for name, rows in document.only_on_target.items() if rows}
    parts: list[RenderableType] = []
    if only:
        parts.append(
            table(("table", Column("rows", number=True)), only.items(), "Rows that the source is not proven to have")
        )
    parts += _gone(document.removed, dry)
    parts.append(_drained(document.drained))
    again = f"task-migration rollback --scenario {document.scenario}" + (" --force --reason TEXT" if only else "")
    return View(verdict, "warning" if only else "plain" if dry else "good", parts, again if dry else document.next)


def proof(document: WritesProof) -> list[RenderableType]:
    """What was proven of a side that is left, and which of all writes lost to others."""
    stays = other(document.side)
    kinds = document.writes
    earlier = f", {document.pruned:,} of them proven earlier" if document.pruned else ""
    found = [
        finding(
            "good",
            f"every write of the {document.side} is on the {stays}: {kinds.insert:,} inserts, {kinds.update:,} updates, "
            f"{kinds.delete:,} deletes{earlier}; {counted(document.checked, 'row')} compared, all equal",
        )
    ]
    if document.told:
        found.append(finding("plain", f"{counted(document.told, 'write')} lost to others, told in the conflict logs"))
    for one in document.losses[:LISTED]:
        columns = f": {', '.join(one.columns)}" if one.columns else ""
        found.append(finding("plain", f"{one.kind} of {one.table} {'/'.join(one.key)}{columns}"))
    return found


def _drained(drained: bool) -> RenderableType:
    if drained:
        return finding("good", "what the Task Service wrote was brought back to the monolith first")
    return finding("warning", "nothing was brought back from the target: replication did not run both ways")


def _gone(removed: list[str], dry: bool) -> list[RenderableType]:
    """What is gone, or would be, by side: each is written ``side: what``."""
    if not removed:
        return []
    sides: dict[str, list[str]] = {}
    for thing in removed:
        side, _, what = thing.partition(": ")
        sides.setdefault(side, []).append(what)
    return [
        table(
            ("side", "would be removed" if dry else "removed"),
            [(side, ", ".join(all_)) for side, all_ in sides.items()],
        )
    ]
