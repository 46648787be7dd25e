"""The one way to connect to PostgreSQL: timeouts, an application name, pinned settings, errors without the DSN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import TupleRow

from scripts.database import reach
from scripts.database.error_text import remedy, told
from scripts.database.tls import secured
from scripts.support.errors import DatabaseError, Refused, UsageError
from scripts.support.redact import remember_secret

Connection = psycopg.Connection[TupleRow]

#: The session with which a worker of `copy` fills the target; what a killed copy left is found, and ended, by this name.
COPY_WRITER = "copy write"

#: What the program's own checksums and dumps of values depend on, so it is pinned on every session. With nothing but pg_catalog in
#: the path no function, operator or type that somebody else made is ever looked up, and names in definitions come out with their
#: schemas (PostgreSQL, 'search_path': a pg_temp that is not named is looked into first). A policy is never asked, as its expression
#: would run with our rights: rows that one would hide are an error. Texts come out as the record of writes has them (scripts/writes/capture.sql).
PINNED_SETTINGS = {
    "search_path": "pg_catalog,pg_temp",
    "row_security": "off",
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
}

#: Of them what libpq asks for after the options, so that it counts, when PGCLIENTENCODING, PGDATESTYLE or PGTZ is set or the URL says it
#: (PostgreSQL, 'libpq', Environment Variables); by the name by which the server tells what is in force.
_ASKED_LATER = {"client_encoding": "client_encoding", "datestyle": "DateStyle", "timezone": "TimeZone"}
#: A database of this encoding takes any bytes and converts none. As LATIN1 each byte is one character, there and back; as UTF8 the
#: server would refuse to send what is none, and without an encoding psycopg would give bytes in the place of text.
_NO_ENCODING, _BYTE_BY_BYTE = "SQL_ASCII", "LATIN1"

#: With it a view or a foreign table is an error, whoever put it in the place of a table that we read: what it computes would run with
#: our rights (PostgreSQL, 'restrict_nonsystem_relation_kind', for CVE-2024-7348). By major version, the minor one that brought it.
NO_VIEWS = "SET restrict_nonsystem_relation_kind = 'view, foreign-table'"
_NO_VIEWS_SINCE = {12: 20, 13: 16, 14: 13, 15: 8, 16: 4}


def keeps_views_out(connection: Connection) -> bool:
    """Whether the server knows :data:`NO_VIEWS`."""
    major, minor = divmod(connection.info.server_version, 10_000)
    return major > max(_NO_VIEWS_SINCE) or minor >= _NO_VIEWS_SINCE.get(major, 10_000)


def session_name(step: str) -> str:
    """The application_name of our sessions for ``step``, by which they are told from all others."""
    return f"task-migration {step}"


def parameters(url: str, name: str) -> dict[str, Any]:
    """The connection parameters of a libpq URL or keyword string; the password is remembered for redaction. What leaves this
    machine checks the server's certificate, see :mod:`scripts.database.tls`.

    Raises:
        UsageError: naming the variable ``name``, never the value, when it cannot be read or asks for less than that.
        Refused: there is nothing to check the certificate by.
    """
    try:
        values = conninfo.conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeError):  # bytes that are no text, as they are or percent-encoded
        raise UsageError(
            f"{name} is not a PostgreSQL connection string; write postgresql://user:password@host:5432/database with "
            "special characters of the password percent-encoded"
        ) from None
    password = values.get("password")
    remember_secret(str(password) if password is not None else None)
    if wrong := _misread(url, values):
        raise UsageError(f"{name}: {wrong}")
    return secured(values, name)


def _misread(url: str, values: Mapping[str, Any]) -> str | None:
    """What libpq reads otherwise than it is meant; never a part of it that may be one of the password."""
    if not url.strip():
        return "nothing but spaces; write postgresql://user:password@host:5432/database, or unset it"
    # libpq takes the first @ for the login's end, and looks for it before the first / alone (its `conninfo_uri_parse_options`).
    authority, _, rest = url.partition("://")[2].partition("/") if re.match(r"\w+://", url) else ("", "", "")
    if authority.count("@") > 1 or "@" in rest.partition("?")[0]:
        return "a special character of the password ends it too early; percent-encode it: @ is %40, / is %2F, % is %25"
    for port in str(values.get("port") or "5432").split(","):
        if not port.isdecimal():
            return "the port is no number; limit: 1 to 65535. Percent-encode special characters of the password (/ is %2F), or correct it"
        if not 0 < int(port) < 65536:
            return f"port {port}; limit: 1 to 65535. Correct it, 5432 is PostgreSQL's"
    return None


def connect(
    url: str,
    *,
    step: str,
    name: str = "the database URL",
    autocommit: bool = True,
    replication: bool = False,
    lock_timeout_ms: int = 0,
    statement_timeout_ms: int | None = 0,
    connect_timeout: int = 10,
) -> Connection:
    """Open a connection named ``task-migration <step>``, with TCP keepalives that notice a cut line within 20 s.

    Text comes and goes as UTF8, from and to a database of SQL_ASCII byte by byte: a character for each byte.

    Args:
        replication: open it for replication commands (``replication=database``).
        statement_timeout_ms: None leaves it as the role has it.

    Raises:
        NotConnected: the server cannot be reached or refuses; without host secrets.
        UsageError: the URL cannot be read.
    """
    values = parameters(url, name)
    settings = {**PINNED_SETTINGS, "lock_timeout": str(lock_timeout_ms)}
    if statement_timeout_ms is not None:
        settings["statement_timeout"] = str(statement_timeout_ms)
    values.setdefault("connect_timeout", str(connect_timeout))
    values["application_name"] = session_name(step)
    values |= {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2"}
    # Keepalives rest while sent data waits for its receipt; without this a writer would hang on a dead line for 15 minutes.
    values.setdefault("tcp_user_timeout", "120000")
    if replication:
        values["replication"] = "database"
    # Behind what the URL asks for: of two that set the same, the last one counts.
    pinned = " ".join(f"-c {key}={value.replace(' ', chr(92) + ' ')}" for key, value in settings.items())
    values["options"] = f"{values.get('options', '')} {pinned}".strip()
    try:
        connection = psycopg.connect(conninfo.make_conninfo("", **values), autocommit=True)
        _pin_again(connection)
        if not replication and keeps_views_out(connection):
            connection.execute(NO_VIEWS)
        connection.autocommit = autocommit
        return connection
    except psycopg.ProgrammingError as error:
        raise UsageError(f"{name} has a parameter that cannot be used: {told(error)}; correct it there") from None
    except psycopg.OperationalError as error:
        found = reach.kind(error)
        cause = f"cannot connect for {step} with {name}: {told(error)}"
        raise NotConnected(cause, found, reach.remedy(found, name, values)) from None


def _pin_again(connection: Connection) -> None:
    """Pin what libpq or the database has otherwise than it is meant; nothing is sent where all is as it should be."""
    status = connection.info.parameter_status
    for name, shown in _ASKED_LATER.items():
        value = PINNED_SETTINGS[name]
        if name == "client_encoding" and status("server_encoding") == _NO_ENCODING:
            value = _BYTE_BY_BYTE
        if status(shown) != value:
            connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))


class NotConnected(DatabaseError):
    """No session came about: the cause in the server's or libpq's words, which kind that is, and what mends it."""

    def __init__(self, cause: str, kind: reach.Kind, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.cause, self.kind, self.remedy = cause, kind, remedy
        if kind in reach.GIVEN or kind == "replication":
            self.exit_status = Refused.exit_status if kind == "replication" else UsageError.exit_status


def scalar(connection: Connection, query: sql.Composed | sql.SQL | str, values: Any = None) -> Any:
    """The first column of the first row; None without a row."""
    row = connection.execute(sql.SQL(query) if isinstance(query, str) else query, values).fetchone()
    return row[0] if row else None


@contextmanager
def domain_errors(what: str) -> Iterator[None]:
    """Turn a psycopg error inside into a DatabaseError with its SQLSTATE, without any connection string or value of a row."""
    try:
        yield
    except psycopg.Error as error:
        raise refusal(what, error) from error
    except UnicodeEncodeError as error:
        # Of what comes from such a database each character is a byte; so it is a name of the configuration.
        raise Refused(
            f"{what}: {error.object[error.start : error.end]!r} of a name of the configuration cannot be said to a database of "
            f"{_NO_ENCODING}, of which nobody knows the encoding: rename what has it in ASCII there, or move that database to UTF8 first"
        ) from None


def refusal(what: str, error: psycopg.Error) -> DatabaseError:
    """A server's error with what to do; a right that is lacking is a precondition (exit 10), all else the server's (exit 1)."""
    made = DatabaseError(f"{what}: {told(error)}; {remedy(error.sqlstate or '')}")
    if error.sqlstate == "42501":
        made.exit_status = Refused.exit_status
    return made
