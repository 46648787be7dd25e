"""URLs, servers and rights that do not do."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.errors.case import Case, Given, State

_HOST = "postgresql://app:Hidden-pw1@"


_GRANTS = "task-migration preflight names each with its GRANT"
#: What a remedy that was carried out made: other cases begin without it.
_UNMADE = (
    "target: DROP SCHEMA IF EXISTS task_migration CASCADE",
    "target: DROP TABLE IF EXISTS tasks, task_tag CASCADE",
)
_UNCOPIED = (
    "target: DELETE FROM task_migration.settings WHERE name = 'copy'",
    "target: TRUNCATE tasks, task_tag",
    "source: SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'",
)


def _url(
    name: str, url: str, exits: int, *says: str, command: str = "schema diff", side: str = "SOURCE", mended: bool = True
) -> Case:
    """One side's URL, which is then mended."""
    variable = f"{side}_DATABASE_URL"
    # Of one kind the remedy is carried out once, by what is quick.
    mend = (
        Given(env={variable: "{" + side.lower() + "}"})
        if mended and command in ("schema diff", "copy --dry-run")
        else None
    )
    return Case(name, Given(command, env={variable: url}), exits, says, mend, state="schema")


def _right(
    name: str, taken: str, given: str, command: str, *says: str, state: State = "apart", undo: Sequence[str] = ()
) -> Case:
    """A right that the operator lacks; the remedy gives it. What was begun without it stays begun."""
    return Case(
        name, Given(command, sql=[taken]), 10, says, Given(sql=[given]), state=state, undo=[given, *undo], changes=True
    )


CASES: list[Case] = [
    Case(
        "no URL",
        Given("preflight", env={"SOURCE_DATABASE_URL": "", "PULUMI_STACK": None}),
        2,
        ("SOURCE_DATABASE_URL is not set and no stack is selected; export SOURCE_DATABASE_URL=postgresql://",),
        Given(env={"SOURCE_DATABASE_URL": "{source}"}),
        state="new",
    ),
    _url("a URL of spaces", " ", 2, "SOURCE_DATABASE_URL: nothing but spaces; write postgresql://"),
    _url(
        "a URL without its scheme",
        "app:Hidden-pw1@127.0.0.1/x",
        2,
        "SOURCE_DATABASE_URL is not a PostgreSQL connection string; write postgresql://",
    ),
    _url(
        "a URL of another server",
        "mysql://app:Hidden-pw1@127.0.0.1/x",
        2,
        "TARGET_DATABASE_URL is not a PostgreSQL connection string",
        side="TARGET",
        command="verify",
    ),
    _url(
        "a URL in quotes",
        "'" + _HOST + "127.0.0.1/x'",
        2,
        "is not a PostgreSQL connection string",
        command="copy --dry-run",
    ),
    _url(
        "a password with an @",
        "postgresql://app:Hidden-pw1@more@127.0.0.1/x",
        2,
        "SOURCE_DATABASE_URL: a special character of the password ends it too early; percent-encode it: @ is %40",
        command="replicate status",
    ),
    _url(
        "a password with a slash",
        "postgresql://app:Hidden/pw1@127.0.0.1:5432/x",
        2,
        "SOURCE_DATABASE_URL: a special character of the password ends it too early",
        "/ is %2F",
    ),
    _url(
        "a port that is none",
        _HOST + "127.0.0.1:99999/x",
        2,
        "SOURCE_DATABASE_URL: port 99999; limit: 1 to 65535. Correct it",
    ),
    _url(
        "a port that is a word",
        _HOST + "127.0.0.1:five/x",
        2,
        "SOURCE_DATABASE_URL: the port is no number; limit: 1 to 65535",
        command="finalize --dry-run",
    ),
    _url(
        "a port that nobody listens on",
        _HOST + "127.0.0.1:1/x",
        1,
        "cannot connect for schema with SOURCE_DATABASE_URL",
        "127.0.0.1:1 is reached and nothing takes connections there: compare the port",
    ),
    _url(
        "a parameter that is none",
        "{source}?colour=red",
        2,
        "SOURCE_DATABASE_URL is not a PostgreSQL connection string",
    ),
    _url(
        "an sslmode that is none",
        _HOST + "127.0.0.1:{port}/x?sslmode=always",
        2,
        'invalid sslmode value: "always"',
        "correct that parameter in SOURCE_DATABASE_URL",
    ),
    _url(
        "a timeout that is none",
        _HOST + "127.0.0.1:{port}/x?connect_timeout=soon",
        2,
        "SOURCE_DATABASE_URL has a parameter that cannot be used: bad value for connect_timeout: 'soon'",
    ),
    _url(
        "a service for a URL",
        "postgresql:///x?service=prod",
        2,
        "SOURCE_DATABASE_URL names a service",
        "write host, port and database out",
    ),
    _url(
        "a weaker sslmode",
        _HOST + "db.example.com/x?sslmode=require",
        2,
        "SOURCE_DATABASE_URL says sslmode=require, the limit is verify-full",
        "Leave it out, or write verify-full",
    ),
    _url(
        "no authorities",
        _HOST + "db.example.com/x",
        10,
        "SOURCE_DATABASE_URL leads to db.example.com, and there are no certificates of authorities",
        "export PGSSLROOTCERT=",
    ),
    _url(
        "a socket that is not there",
        "postgresql://app@/x?host=/nowhere",
        2,
        "SOURCE_DATABASE_URL names no host, or a directory for one",
        "write the host and the port",
    ),
    _url(
        "a wrong password",
        "postgresql://operator_at_night:Hidden-pw1@127.0.0.1:{port}/{quoted}",
        2,
        "127.0.0.1:{port} answered and does not take this password: compare it with the secret's",
    ),
    _url(
        "no password",
        "postgresql://operator_at_night@127.0.0.1:{port}/{quoted}",
        2,
        "asks for a password, and none was given: put it into the URL of SOURCE_DATABASE_URL",
        command="verify",
    ),
    _url(
        "a role that is not there",
        "postgresql://nobody_at_all:Hidden-pw1@127.0.0.1:{port}/{quoted}",
        2,
        "127.0.0.1:{port} answered",
        "password",
        command="copy --dry-run",
    ),
    _url(
        "a database that is not there",
        "{source}x",
        2,
        "lets this role into no such database: compare the database's name in the URL",
    ),
    _url(
        "the source for the target",
        "{source}",
        10,
        "lead to the same database, {database}",
        "correct the URL that is not",
        side="TARGET",
    ),
    _url(
        "the source for the target, verified",
        "{source}",
        10,
        "lead to the same database, {database}",
        side="TARGET",
        command="verify",
    ),
    Case(
        "the source for the target, before a copy",
        Given("copy", env={"TARGET_DATABASE_URL": "{source}"}),
        10,
        ("lead to the same database, {database}; nothing was changed", "correct the URL that is not"),
        state="new",
    ),
    Case(
        "the source for the target, before the schema",
        Given("schema apply", env={"TARGET_DATABASE_URL": "{source}"}),
        10,
        ("lead to the same database, {database}; nothing was changed", "correct the URL that is not"),
        Given("schema apply --dry-run", env={"TARGET_DATABASE_URL": "{target}"}),
        state="new",
    ),
    Case(
        "source and target exchanged",
        Given("schema apply", env={"TARGET_DATABASE_URL": "{source}", "SOURCE_DATABASE_URL": "{target}"}),
        10,
        ("tasks",),
        state="new",
    ),
    Case(
        "source and target exchanged, before a copy",
        Given("copy", env={"TARGET_DATABASE_URL": "{source}", "SOURCE_DATABASE_URL": "{target}"}),
        10,
        ("tasks",),
        state="schema",
        changes=True,
    ),
    Case(
        "preflight of a server that is away",
        Given("preflight --json", env={"TARGET_DATABASE_URL": _HOST + "127.0.0.1:1/x"}),
        10,
        ("nothing takes connections there: compare the port", "target: connection"),
        Given(env={"TARGET_DATABASE_URL": "{target}"}),
        state="new",
        printed=True,
    ),
    _right(
        "no right to make tables",
        "target: REVOKE ALL ON SCHEMA public FROM operator_at_night, PUBLIC CASCADE",
        "target: GRANT USAGE, CREATE ON SCHEMA public TO operator_at_night WITH GRANT OPTION",
        "schema apply",
        "permission denied for schema public (SQLSTATE 42501)",
        _GRANTS,
        state="new",
        undo=_UNMADE,
    ),
    _right(
        "no right to make a schema",
        "target: REVOKE CREATE ON DATABASE {identifier} FROM operator_at_night",
        "target: GRANT CREATE ON DATABASE {identifier} TO operator_at_night",
        "schema apply",
        "permission denied for database {database} (SQLSTATE 42501)",
        _GRANTS,
        state="new",
        undo=_UNMADE,
    ),
    _right(
        "no right to keep triggers off",
        "target: REVOKE SET ON PARAMETER session_replication_role FROM operator_at_night CASCADE",
        "target: GRANT SET ON PARAMETER session_replication_role TO operator_at_night WITH GRANT OPTION",
        "copy",
        'permission denied to set parameter "session_replication_role" (SQLSTATE 42501)',
        _GRANTS,
        undo=_UNCOPIED,
    ),
    _right(
        "a role without REPLICATION",
        "source: ALTER ROLE operator_at_night NOREPLICATION",
        "source: ALTER ROLE operator_at_night REPLICATION",
        "copy",
        "permission denied to start WAL sender",
        "this role may not replicate: ALTER ROLE ... REPLICATION",
        undo=_UNCOPIED,
    ),
    Case(
        "a wait before the start",
        Given("replicate wait", commands=["copy"]),
        12,
        ("it cannot come through: the subscription {slot} does not exist; run `task-migration replicate start`",),
        state="apart",
        undo=_UNCOPIED,
    ),
    _right(
        "no right to make roles",
        "target: ALTER ROLE operator_at_night NOCREATEROLE",
        "target: ALTER ROLE operator_at_night CREATEROLE",
        "replicate start",
        "may not make the role {role} on the target: ALTER ROLE",
        "CREATEROLE REPLICATION",
        state="copied",
    ),
]
