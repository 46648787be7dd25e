"""Step 0.3: the target's schema from the source's catalog, and the comparison of the two catalogs."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema, strangers
from scripts.database.catalog import Table
from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import both, session
from scripts.schema import choice, compare, ownership, role, statements
from scripts.schema.documents import SchemaApplied, SchemaDiff
from scripts.support.errors import Refused
from scripts.support.events import SchemaEvent, Step
from scripts.support.settings import Settings

LOCK_TIMEOUT_MS = 2000


def apply(
    settings: Settings, dry_run: bool = False, role_password: SecretStr | None = None, force: bool = False
) -> SchemaApplied:
    """Make on the target what of the configured tables is missing there; tables that exist are left as they are.

    Keys, indexes and foreign keys of a table made here come after the rows, by ``copy``. Foreign keys that lead out of the
    moved tables are left out. All of it belongs to this session's role, tables that are there too where it may take them. The target
    role is made when it is missing and ``role_password`` is given. It may read; to write it gets its rights with `replicate start`,
    when there is a way back.
    Safe to run again: what is there, the role's password included, is not touched.

    Args:
        role_password: the target role's; a role that exists and cannot log in with it gets it.
        force: also where the server would show the password to others (see :mod:`scripts.database.secrecy`).

    Returns:
        what was made, and the comparison afterwards; with ``dry_run`` what would be, and ``match`` is about the present.

    Raises:
        Refused: a table is missing on the source, or is of a kind that cannot be moved; code of others is on the target, or
            a table that this session's role may not take.
        DatabaseError: PostgreSQL refused a statement.
    """
    config = settings.config
    with both(settings, "schema", "schema apply") as (source, _):
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        types = catalog.types(source, tables.values())
        behind = choice.left(tables, config)
        tables = choice.chosen(tables, config, "source")
    unmovable = [f"{t.name} (relkind {t.kind})" for t in tables.values() if t.kind != "r"]
    if unmovable:
        raise Refused(f"{', '.join(unmovable)}: only ordinary tables can be moved; take them out of `tables`")
    with session(settings, "target", "schema", "schema apply on the target", LOCK_TIMEOUT_MS) as target:
        strangers.refuse(target, config, "target", ["owner"] if ownership.may_take_all(target, config) else [])
        there = catalog.existing(target, config.db_schema, config.tables)
        missing = [table for table in tables.values() if table.name not in there]
        todo: list[sql.Composed | sql.SQL] = []
        if missing:
            todo += statements.pre_data(missing, types, statements.types_there(target, types))
        service = role.ensure(settings, target, config.target_role, role_password, dry_run, force)
        if service.name:
            todo += role.grants(tables.values(), service.name, statements.schemas(tables.values(), types))
        elif not dry_run:
            _refuse_roleless(missing, config)
        taken = ownership.take_over(settings, dry_run)
        texts = [statement.as_string(target) for statement in (*taken, *todo)]
        if not dry_run:
            with target.transaction():
                for statement in todo:
                    target.execute(statement)
            helper_schema.install(target)
    created = [table.name for table in missing]
    if dry_run:
        found = SchemaDiff(match=not missing, differences=[], pending=[], left=behind, text="", mend="")
    else:
        settings.journal.record(Step.SCHEMA, SchemaEvent.APPLIED, created=created, role=service.changed)
        found = diff(settings)
    return SchemaApplied(
        created=created,
        statements=texts,
        role=service.name,
        role_changed=service.changed,
        warnings=service.warnings,
        **dict(found),
    )


def _refuse_roleless(missing: Sequence[Table], config: MigrationConfig) -> None:
    """Raises Refused where a policy is for the Task Service's role, which is not there."""
    for table in missing:
        names = [policy.name for policy in table.policies if config.target_role in policy.roles]
        if names:
            raise Refused(
                f"{table.name}: the policy {', '.join(names)} is for {config.target_role}, a role that the target lacks; export "
                "TARGET_ROLE_PASSWORD, or run with --stack where its secret has a value, and run it again"
            )


def diff(settings: Settings) -> SchemaDiff:
    """Compare the two catalogs of the configured tables; see :func:`between`.

    DDL that is under way holds its table, and the catalog's functions wait for it: that ends as a DatabaseError after
    :data:`LOCK_TIMEOUT_MS`, so that no watch hangs behind it.
    """
    with both(settings, "schema", "comparing the two schemas", LOCK_TIMEOUT_MS) as (source, target):
        return between(settings.config, source, target)


def between(config: MigrationConfig, source: Connection, target: Connection) -> SchemaDiff:
    """Compare the two catalogs of the configured tables, over two open sessions; reads catalogs only.

    This is the tripwire against DDL while rows move. Compared is all that `apply` and `copy` make of the moved tables, and what nobody
    made there; what is about rows is told apart (``Difference.of_rows``). Other tables, rights and our own triggers are no difference.

    Raises:
        Refused: the source lacks one of the tables.
        DatabaseError: a catalog cannot be read.
    """
    with domain_errors("comparing the two schemas"):
        wanted = catalog.read(source, config.db_schema, config.tables, "source")
        types = catalog.types(source, wanted.values())
        behind = choice.left(wanted, config)
        wanted = choice.chosen(wanted, config, "source")
        there = catalog.existing(target, config.db_schema, config.tables)
        found = catalog.read(target, config.db_schema, there, "target")
        theirs = compare.Types(types, catalog.types(target, found.values()), statements.types_there(target, types))
        found = choice.chosen(found, config, "target")
        state = helper_schema.get(target, helper_schema.COPY)
        for name, table in list(found.items()):
            if _checks(wanted[name]) != _checks(table):
                wanted[name] = statements.with_canonical_checks(target, wanted[name], table)
                found[name] = statements.with_canonical_checks(target, table, table)
    copied = bool(state and state.get("status") == "complete")
    everything = compare.compare(wanted, found, theirs, config.sequence_band_start)
    differences = [item for item in everything if copied or not item.after_rows]
    return SchemaDiff(
        match=not differences,
        differences=[item.document() for item in differences],
        pending=[item.document() for item in everything if item.after_rows and not copied],
        left=behind,
        text="\n".join(item.line() for item in differences),
        mend="".join(f"{statement};\n" for item in differences for statement in item.sql),
    )


def _checks(table: catalog.Table) -> set[str]:
    return {statements.normal(c.definition) for c in table.constraints if c.kind == "c"}
