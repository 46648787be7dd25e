"""preflight, backup, schema, copy: what happens before a change is replicated."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scripts import backup as backing_up
from scripts import copy as copying
from scripts import preflight as preflighting
from scripts import schema as schemas
from scripts.commands.options import DIFFER, REFUSED, DryRun, Json, Stack
from scripts.support.console import emit
from scripts.support.errors import UsageError
from scripts.support.settings import load_settings

app = typer.Typer()
schema_app = typer.Typer(help="The target's schema, from the source's catalog.", no_args_is_help=True)
backup_app = typer.Typer(help="A backup that has been restored and compared.", invoke_without_command=True)
app.add_typer(backup_app, name="backup")
app.add_typer(schema_app, name="schema")


@app.command()
def preflight(stack: Stack = None, json: Json = False) -> int:
    """Check both databases before anything is changed; exit 10 when a check fails."""
    document = preflighting.run(load_settings(stack))
    lines = [f"{c['status']:4}  {c['name']}: {c['detail']}" + _remedy(c) for c in document["checks"]]
    emit(document, as_json=json, text="\n".join(lines))
    return REFUSED if any(check["status"] == "fail" for check in document["checks"]) else 0


def _remedy(check: dict[str, Any]) -> str:
    return f"\n      remedy: {check['remedy']}" if check["status"] != "pass" and check.get("remedy") else ""


@backup_app.callback()
def backup(
    context: typer.Context,
    output: Annotated[str | None, typer.Option("--output", help="A folder, or s3://bucket/prefix.")] = None,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Dump the whole source, restore the dump into a scratch server and compare; exit 11 when they differ."""
    if context.invoked_subcommand is not None:
        return 0
    if output is None:
        raise UsageError("--output is not given; name a folder or s3://bucket/prefix")
    document = backing_up.run(load_settings(stack), output)
    emit(document, as_json=json)
    return 0 if document["restore_verified"] else DIFFER


@schema_app.command("apply")
def schema_apply(stack: Stack = None, json: Json = False, dry_run: DryRun = False) -> int:
    """Make the moved tables on the target, without the foreign keys that cross the border."""
    emit(schemas.apply(load_settings(stack), dry_run), as_json=json)
    return 0


@schema_app.command("diff")
def schema_diff(stack: Stack = None, json: Json = False) -> int:
    """Compare the two catalogs; exit 11 when they differ."""
    document = schemas.diff(load_settings(stack))
    emit(document, as_json=json)
    return 0 if document["match"] else DIFFER


@app.command()
def copy(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Parallel connections on each side.")] = 2,
) -> int:
    """Copy the rows under the snapshot of the replication slot, so that replication starts without a hole."""
    emit(copying.run(load_settings(stack), jobs=jobs, dry_run=dry_run), as_json=json)
    return 0
