"""preflight, backup, schema, copy: what happens before a change is replicated."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from psycopg import conninfo

from scripts.backup import run as backing_up
from scripts.cli.group import Commands
from scripts.cli.options import DIFFER, REFUSED, DryRun, Json, Stack
from scripts.cli.output import emit_plain as emit
from scripts.cli.settings import load_settings
from scripts.copy import progress as copy_progress
from scripts.copy import run as copying
from scripts.database.connections import parameters
from scripts.preflight import run as preflighting
from scripts.schema import password as schema_password
from scripts.schema import run as schemas
from scripts.support.errors import UsageError
from scripts.support.settings import Environment

app = typer.Typer()
schema_app = typer.Typer(cls=Commands, help="The target's schema, from the source's catalog.", no_args_is_help=True)
backup_app = typer.Typer(
    cls=Commands, help="A backup that has been restored and compared.", invoke_without_command=True
)
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
    inserts: Annotated[bool, typer.Option("--inserts", help="Rows as INSERT statements instead of COPY.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Dump the whole source, restore the dump into a scratch server and compare; exit 11 when they differ.

    SCRATCH_DATABASE_URL names an empty database to restore into, for a source with extensions; else a server of the
    installed wheel is started for it.
    """
    if context.invoked_subcommand is not None:
        return 0
    if output is None:
        raise UsageError("--output is not given; name a folder or s3://bucket/prefix")
    scratch = Environment().scratch_database_url
    document = backing_up.run(
        load_settings(stack), output, scratch.get_secret_value() if scratch else None, plain_inserts=inserts
    )
    emit(document, as_json=json)
    return 0 if document["restore_verified"] else DIFFER


@backup_app.command("restore")
def backup_restore(
    manifest: Annotated[str, typer.Argument(help="The backup's manifest: a path, or s3://bucket/key.")],
    database: Annotated[
        str | None, typer.Option("--database", help="Into this database of the server, not the URL's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what the database holds of the backup.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Put a verified backup back into an empty database, whole or not at all, and compare; exit 11 when it differs.

    The server is RESTORE_DATABASE_URL, else the target. A database that is not empty is refused without --force.
    """
    given = Environment().restore_database_url
    url = given.get_secret_value() if given else load_settings(stack).target()
    if database is not None:
        url = conninfo.make_conninfo("", **(parameters(url, "RESTORE_DATABASE_URL") | {"dbname": database}))
    emit(backing_up.restore(manifest, url, force), as_json=json)
    return 0


@schema_app.command("apply")
def schema_apply(stack: Stack = None, json: Json = False, dry_run: DryRun = False) -> int:
    """Make the moved tables on the target, without the foreign keys that cross the border, and the Task Service's role.

    The role's password is TARGET_ROLE_PASSWORD, else the secret task-service/db-password of the selected stack.
    """
    settings = load_settings(stack)
    emit(schemas.apply(settings, dry_run, schema_password.find(settings)), as_json=json)
    return 0


@schema_app.command("diff")
def schema_diff(stack: Stack = None, json: Json = False) -> int:
    """Compare the two catalogs; print what differs and the SQL that mends it; exit 11 when they differ."""
    document = schemas.diff(load_settings(stack))
    emit(document, as_json=json, text=schemas.script(document))
    return 0 if document["match"] else DIFFER


@app.command()
def copy(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Parallel connections on each side.")] = 2,
) -> int:
    """Copy the rows under the snapshot of the replication slot, so that replication starts without a hole."""
    progress = copy_progress.display()
    emit(copying.run(load_settings(stack), jobs=jobs, dry_run=dry_run, progress=progress), as_json=json)
    return 0
