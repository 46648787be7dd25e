"""preflight, backup, schema, copy: what happens before a change is replicated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.cli.group import Commands
from scripts.cli.options import DIFFER, REFUSED, TIMED_OUT, DryRun, ForceShown, Json, MaxLoad, ShowValues, Stack, prints
from scripts.cli.output import display, emit
from scripts.cli.settings import load_settings, quote_values, stage_of
from scripts.support.errors import UsageError

if TYPE_CHECKING:  # nothing is imported for `--help`
    from scripts.preflight.documents import Check

app = typer.Typer()
schema_app = typer.Typer(
    cls=Commands, help="Make the target's schema from the source's catalog, and compare the two.", no_args_is_help=True
)
backup_app = typer.Typer(cls=Commands, invoke_without_command=True)
app.add_typer(backup_app, name="backup")
app.add_typer(schema_app, name="schema")


@app.command()
@prints("scripts.preflight.documents:Preflight", exits={REFUSED: "a check failed"})
def preflight(
    account: Annotated[
        bool, typer.Option("--account", help="Look at the AWS account too, or alone where no database URL is set.")
    ] = False,
    stack: Stack = None,
    json: Json = False,
    show_values: ShowValues = False,
) -> int:
    """Check both databases, the roles and the tables before anything is changed.

    With --account also what the stack's file names in AWS, before the first `pulumi up` as after it.
    """
    from scripts.cli import prepare_text
    from scripts.preflight.run import run

    document = run(load_settings(stack, show_values), account=_account(stack) if account else None)
    emit(document, as_json=json, text=prepare_text.preflight)
    return 0 if document.passed else REFUSED


def _account(stack: str | None) -> Callable[[], list[Check]]:
    from scripts.preflight.account.asking import clients
    from scripts.preflight.account.run import checks
    from scripts.support.settings import stack_config

    config = stack_config(stack)
    return lambda: checks(config, clients(config.region))


@backup_app.callback()
@prints(
    "scripts.backup.documents:Backup",
    exits={
        REFUSED: "no pg_dump is new enough, or the scratch database is not empty",
        DIFFER: "the restored tables differ",
        TIMED_OUT: "the load stayed too high",
    },
)
def backup(
    context: typer.Context,
    output: Annotated[str | None, typer.Option("--output", help="A folder, or s3://bucket/prefix.")] = None,
    inserts: Annotated[bool, typer.Option("--inserts", help="Rows as INSERT statements instead of COPY.")] = False,
    max_load: MaxLoad = None,
    stack: Stack = None,
    json: Json = False,
    show_values: ShowValues = False,
) -> int:
    """Dump the whole source, restore the dump into a scratch server and compare every row.

    SCRATCH_DATABASE_URL names an empty database to restore into, for a source with extensions; else a server of the
    installed wheel is started for it.
    """
    if context.invoked_subcommand is not None:
        return 0
    if output is None:
        raise UsageError("--output is not given; name a folder or s3://bucket/prefix")
    from scripts.backup.run import run
    from scripts.cli import prepare_text
    from scripts.support.settings import Environment

    scratch = Environment().scratch_database_url
    url = scratch.get_secret_value() if scratch else None
    document = run(load_settings(stack, show_values), output, url, inserts, display(), max_load)
    emit(document, as_json=json, text=prepare_text.backup)
    return 0


@backup_app.command("restore")
@prints(
    "scripts.backup.documents:Restored",
    exits={
        REFUSED: "the database is not empty and --force was not given, or the journal and the manifest disagree about the dump",
        DIFFER: "the file is not the one that was backed up, or the restored tables differ",
    },
)
def backup_restore(
    manifest: Annotated[str, typer.Argument(help="The backup's manifest: a path, or s3://bucket/key.")],
    database: Annotated[
        str | None, typer.Option("--database", help="Into this database of the server, not the URL's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what the database holds of the backup.")] = False,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="The dump's, as backup printed it; else the journal's.")
    ] = None,
    stack: Stack = None,
    json: Json = False,
    show_values: ShowValues = False,
) -> int:
    """Put a verified backup back into an empty database, whole or not at all, and compare.

    The server is RESTORE_DATABASE_URL, else the target. A database that is not empty is refused without --force. The dump must be the
    one whose SHA-256 --sha256 or the journal has: its manifest lies beside it, and is not believed about it.
    """
    from scripts.backup.run import restore
    from scripts.cli import prepare_text
    from scripts.support.settings import Environment

    quote_values(show_values)
    given = Environment().restore_database_url
    settings = load_settings(stack)
    url = given.get_secret_value() if given else settings.target()
    document = restore(settings, manifest, url, force, database, sha256, display())
    emit(document, as_json=json, text=prepare_text.restored)
    return 0


@schema_app.command("apply")
@prints("scripts.schema.documents:SchemaApplied", exits={REFUSED: "the source lacks a table, or one cannot be moved"})
def schema_apply(stack: Stack = None, json: Json = False, dry_run: DryRun = False, force: ForceShown = False) -> int:
    """Make the moved tables on the target, without the foreign keys that cross the border, and the Task Service's role.

    The role's password is TARGET_ROLE_PASSWORD, else the secret task-service/db-password of the selected stack.
    """
    from scripts.cli import prepare_text
    from scripts.schema import password
    from scripts.schema.run import apply

    settings = load_settings(stack)
    document = apply(settings, dry_run, password.find(settings), force)
    emit(document, as_json=json, text=partial(prepare_text.schema_applied, dry_run=dry_run))
    return 0


@schema_app.command("role")
@prints(
    "scripts.replication.documents:ReplicationRoles",
    "scripts.schema.documents:OperatorRole",
    exits={
        REFUSED: "a role of that name may do more, or the operator may not make it; or a password would be shown to others"
    },
)
def schema_role(
    replication: Annotated[
        bool, typer.Option("--replication", help="The role that replication logs in with, on both sides.")
    ] = False,
    operator: Annotated[
        bool, typer.Option("--operator", help="The role that commands log in with on the target, by its master.")
    ] = False,
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    force: ForceShown = False,
) -> int:
    """Make a role: --replication, which reads the record of writes on both sides and nothing else, or --operator, on the target.

    Replication's password is random and made by `replicate start`; with AWS DMS it is that of the endpoints' two secrets, of
    which the target's is filled where it has no value. The operator's is random too, and kept in the secret task-service/operator of the selected stack; RDS changes the master's every
    seven days, so no command but this one uses it. The master is TARGET_MASTER_DATABASE_URL, else the stack's.
    """
    if replication == operator:
        raise UsageError(
            "which role is not said; write --replication or --operator (the Task Service's is made by `schema apply`)"
        )
    if operator:
        from scripts.cli import prepare_text
        from scripts.schema.operator import appoint
        from scripts.support.settings import Environment

        settings = load_settings(stack)
        outputs, master = stage_of(settings).deployer.outputs(), Environment().target_master_database_url
        document = appoint(settings, outputs, master, dry_run=dry_run, force=force)
        emit(document, as_json=json, text=partial(prepare_text.operator_role, dry_run=dry_run))
        return 0
    from scripts.cli.replicate_text import roles
    from scripts.replication.run import make_roles

    emit(make_roles(load_settings(stack), dry_run, force), as_json=json, text=partial(roles, dry_run=dry_run))
    return 0


@schema_app.command("diff")
@prints("scripts.schema.documents:SchemaDiff", exits={DIFFER: "the two schemas differ"})
def schema_diff(stack: Stack = None, json: Json = False) -> int:
    """Compare the two catalogs and print what differs with the SQL that mends it."""
    from scripts.cli import prepare_text
    from scripts.schema.run import diff

    document = diff(load_settings(stack))
    emit(document, as_json=json, text=prepare_text.schema_diff)
    return 0 if document.match else DIFFER


@app.command()
@prints(
    "scripts.copy.documents:Copy",
    exits={
        REFUSED: "the schemas differ, the target holds rows of others, or another copy or replication runs",
        TIMED_OUT: "the load stayed too high; run it again, it starts anew",
    },
)
def copy(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    show_values: ShowValues = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Parallel connections on each side.")] = 2,
    max_load: MaxLoad = None,
) -> int:
    """Copy the rows under the snapshot of the replication slot, so that replication starts without a hole."""
    from scripts.cli import prepare_text
    from scripts.copy.run import run

    document = run(load_settings(stack, show_values), jobs, dry_run, display(), max_load)
    emit(document, as_json=json, text=prepare_text.copied)
    return 0
