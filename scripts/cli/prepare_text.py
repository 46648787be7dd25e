"""preflight, backup, schema and copy in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from scripts.backup.documents import Backup, Restored, TableSum
from scripts.cli.view import Column, State, View, cell, facts, finding, mebibytes, table, verbatim
from scripts.copy.documents import Copy
from scripts.preflight.documents import Check, Preflight, Status
from scripts.schema.documents import Difference, OperatorRole, SchemaApplied, SchemaDiff
from scripts.support import commands
from scripts.support.figure import counted

STATES: dict[Status, State] = {"pass": "good", "warn": "warning", "fail": "bad"}


def preflight(document: Preflight) -> View:
    """What failed with its remedy, then what warns; what passed is only counted."""
    found = Counter(check.status for check in document.checks)
    state: State = "bad" if found["fail"] else "warning" if found["warn"] else "good"
    verdict = (
        f"Preflight failed: {counted(found['fail'], 'check')} of {len(document.checks)} must be mended first"
        if found["fail"]
        else f"Preflight passed: {counted(len(document.checks), 'check')}, none failed"
    )
    if found["warn"]:
        verdict += f"; {counted(found['warn'], 'warning')}"
    wrong = sorted(
        (check for check in document.checks if check.status != "pass"), key=lambda check: check.status == "warn"
    )
    sides = Counter((_side(check), check.status) for check in document.checks)
    names = dict.fromkeys(_side(check) for check in document.checks)
    return View(
        verdict,
        state,
        (
            table(
                ["checks of", Column("passed", True), Column("warnings", True), Column("failed", True)],
                [(side, *(sides[side, status] for status in ("pass", "warn", "fail"))) for side in names],
            ),
            *(finding(STATES[check.status], f"{check.name}: {check.detail}", check.remedy) for check in wrong),
        ),
        f"{commands.PREFLIGHT}, once that is mended"
        if found["fail"]
        else commands.BACKUP
        if names.keys() & {"source", "target"}
        else "pulumi preview",
    )


def _side(check: Check) -> str:
    return check.name.partition(":")[0]


def backup(document: Backup) -> View:
    """Where it lies and what was compared."""
    return View(
        f"The backup is verified: restored and compared, {counted(len(document.tables), 'table')}, every row equal",
        "good",
        (
            facts(
                ("database", f"{document.database} (PostgreSQL {document.server_major})"),
                ("backup", document.location),
                ("SHA-256", document.sha256),
                ("size", f"{cell(mebibytes(document.bytes))} MiB"),
                ("took", f"{cell(document.seconds)} s"),
                ("objects", ", ".join(f"{number:,} {kind}" for kind, number in document.objects.items() if number)),
            ),
            _sums(document.tables),
            verbatim(f"To put it back: task-migration backup restore {document.manifest}"),
        ),
        commands.SCHEMA,
    )


def restored(document: Restored) -> View:
    """What a database holds again."""
    return View(
        f"Restored into {document.database} and compared: every row equal",
        "good",
        (
            facts(("backup", document.location), ("SHA-256", document.sha256)),
            _sums(document.tables),
        ),
        commands.STATUS,
    )


def _sums(tables: Iterable[TableSum]) -> RenderableType:
    return table(
        ["table", Column("rows", True), "checksum"], [(entry.table, entry.rows, entry.checksum) for entry in tables]
    )


def schema_applied(document: SchemaApplied, dry_run: bool) -> View:
    """What was made, or with ``dry_run`` the SQL that would make it."""
    made = (
        f"{counted(len(document.created), 'table')} made on the target" if document.created else "Every table is there"
    )
    if dry_run:
        tables, statements = len(document.created), len(document.statements)
        verdict = (
            f"Dry run, nothing was changed: {counted(tables, 'table')} to be made by {counted(statements, 'statement')}"
        )
        state: State = "plain"
    elif document.match:
        verdict, state = f"{made}; the two schemas agree", "good"
    elif not document.drift:
        verdict, state = f"{made}; the two schemas differ in nothing that is about rows", "warning"
    else:
        verdict, state = f"{made}; the two schemas differ", "bad"
    role = {"created": "was made" if not dry_run else "would be made", "password": "got its password"}
    return View(
        verdict,
        state,
        (
            facts(
                ("tables", ", ".join(document.created) or "none; those that are there are left as they are"),
                (
                    "role",
                    f"{document.role}{f', which {role[document.role_changed]}' if document.role_changed else ''}"
                    if document.role
                    else "does not exist",
                ),
                *_later(document),
            ),
            *(finding("warning", warning) for warning in document.warnings),
            *_differences(document.differences),
            *([verbatim("".join(f"{statement};\n" for statement in document.statements))] if dry_run else []),
        ),
        commands.SCHEMA if dry_run else commands.COPY if not document.drift else "task-migration schema diff",
    )


def operator_role(document: OperatorRole, dry_run: bool) -> View:
    """Of `schema role --operator`."""
    said = {"created": "made", "there": "was there", "password": "got the password of its secret"}
    return View(
        verdict="Nothing was changed."
        if dry_run
        else "Commands log in on the target with a role of the operator's own.",
        state="good",
        parts=[
            f"{document.role} {said[document.status]}",
            *(finding("warning", warning) for warning in document.warnings),
        ],
        next=commands.PREFLIGHT,
    )


def schema_diff(document: SchemaDiff) -> View:
    """Each difference, then all the SQL for the target, in the order in which it can be run."""
    later = [facts(*pairs)] if (pairs := list(_later(document))) else []
    if document.match:
        return View("The two schemas agree", "good", later, commands.COPY)
    tables = len({item.table for item in document.differences})
    rows = "" if document.drift else ", none of which is about rows: `copy` and the canary go on all the same"
    return View(
        f"The two schemas differ: {counted(len(document.differences), 'difference')} in {counted(tables, 'table')}{rows}",
        "bad" if document.drift else "warning",
        (
            *_differences(document.differences),
            *later,
            Text("\nRun on the target, in this order:"),
            verbatim(document.mend),
        ),
        "task-migration schema diff, once that SQL was run",
    )


def _later(document: SchemaDiff) -> Iterable[tuple[str, str]]:
    if document.pending:
        yield "later", f"{counted(len(document.pending), 'object')}, which `copy` makes after the rows"
    if document.left:
        yield "left behind", "; ".join(f"{one.kind} {one.table}.{one.name} ({one.why})" for one in document.left)


def _differences(items: Sequence[Difference]) -> Iterable[RenderableType]:
    for item in items:
        sides = facts(("source", item.source or "has none"), ("target", item.target or "has none"), indent=6)
        state: State = "bad" if item.of_rows else "warning"
        yield Group(finding(state, f"{item.table}: {item.kind} {item.name}"), sides)


def copied(document: Copy) -> View:
    """Rows and bytes of each table, and where the slot stands."""
    rows = sum(entry.rows for entry in document.tables)
    size = sum(entry.bytes for entry in document.tables)
    amount = f"{rows:,} rows, {cell(mebibytes(size))} MiB"
    follows = commands.START
    state: State = "good"
    if document.status == "dry-run":
        verdict, state, follows = f"Dry run, nothing was copied: about {amount} to go", "plain", commands.COPY
    elif document.status == "complete":
        verdict = f"Copied: {amount} in {cell(document.seconds)} s, under the slot's snapshot"
    else:
        verdict = f"Nothing to do: {amount} were copied before"
    return View(
        verdict,
        state,
        (
            facts(
                ("found", document.found),
                ("slot", document.slot + (f", which begins at {document.lsn}" if document.lsn else ", not made yet")),
            ),
            table(
                ["table", Column("rows", True), Column("size MiB", True), Column("seconds", True)],
                [(entry.table, entry.rows, mebibytes(entry.bytes), entry.seconds) for entry in document.tables],
            ),
            *(
                [
                    table(
                        ["sequence of the target", Column("next number", True)],
                        [(entry.sequence, entry.value) for entry in document.sequences],
                    )
                ]
                if document.sequences
                else []
            ),
        ),
        follows,
    )
