"""What is told of an error of PostgreSQL: what names tables, columns and constraints, never what may quote a row.

DETAIL has the failing row, CONTEXT the line that COPY read or the statement that a function ran, HINT what an extension likes,
and the primary message of some kinds quotes the value itself ('invalid input syntax for type integer: "..."').
"""

from __future__ import annotations

import re

import psycopg

from scripts.support.redact import redact

#: SQLSTATE classes whose primary message PostgreSQL itself makes of names and numbers (PostgreSQL 16, 'PostgreSQL Error Codes').
_NAMES = frozenset(
    ("08", "0A", "0B", "23", "24", "25", "26", "28", "2B", "2D", "34", "3D", "3F", "40", "42", "53", "54", "55", "57", "58")
)  # fmt: skip
#: Of classes whose messages may quote a value, those that never do: too long, division by zero, corrupted data or index.
_NAMES_TOO = frozenset(("22001", "22012", "XX001", "XX002"))
#: Where a message of the other classes may begin to quote: a quotation mark, a colon, bytes.
_QUOTES = re.compile(r"""["'`“”„«»「:：]|\b0x""")
#: Functions of PL/pgSQL that raise what their author wrote (PostgreSQL's src/pl/plpgsql/src/pl_exec.c), other languages' files.
_RAISES, _LANGUAGES = ("exec_stmt_raise", "exec_stmt_assert"), ("plperl", "plpy", "pltcl", "plv8")
_OURS = re.compile(r"\btask_migration\.\w+\(")
#: A function's name with its types, as CONTEXT has it.
_FUNCTION = re.compile(r'(?:(?:"[^"]+"|[\w$]+)\.)?(?:"[^"]+"|[\w$]+)\([^()]*\)')
LEFT_OUT = "(more is left out, as it may quote the row: see --show-values)"

#: In other programs' texts there is no SQLSTATE to go by. These beginnings are those of messages, PostgreSQL's and of our own
#: functions, that go on with names alone; a server that speaks another language is not quoted.
_KNOWN = re.compile(
    r"duplicate key value violates|new row for relation|null value in column|(?:insert or )?update (?:or delete )?on table"
    r"|conflicting key value violates|could not (?:create unique index|extend|write|read|open|access|load)"
    r"|(?:\w+ )?constraint \"|(?:relation|schema|type|function|extension|role|database|table|column|index|sequence|language|replication slot) [\w\"']"
    r"|permission denied|must be |value too long for type|canceling |terminating |deadlock |out of |unrecognized configuration"
    r"|unsupported |\d+ rows affected|a write of the table \w+ arrived|\w+ of \w+ came with columns"
)
#: How a message begins that goes on with a value.
_BEGINNING = re.compile(r"invalid input (?:syntax|value) for (?:type|enum) [\w ]+|invalid byte sequence for encoding")
#: What stands before the server's message: libpq writes its severity, in the server's language, a colon and two spaces.
_SEVERITY = re.compile(r".*?\b(?:[^\W\d_]+:  |ERROR: )(?=\S)", re.DOTALL)
_AFTER_MESSAGE = re.compile(r"\s*;?\s*\b(?:DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LOCATION|LINE \d+|Command was):")

_shown = False


def show_values(shown: bool) -> None:
    """Whether errors are told whole from now on, with the values of rows (``--show-values``)."""
    global _shown
    _shown = shown


def primary(error: psycopg.Error) -> str:
    """The server's message as far as it cannot quote a row, without the SQLSTATE and without passwords.

    An error that psycopg or libpq raised by itself has no fields; of those only what speaks of data may quote it.
    """
    if _shown:
        return redact(str(error)).strip()
    diagnostic, state = error.diag, error.sqlstate or ""
    text = diagnostic.message_primary or _AFTER_MESSAGE.split(str(error), maxsplit=1)[0].strip()
    theirs = _raised_by_function(error)
    if theirs is False or (theirs is None and _holds_names(error, state)):
        return redact(text)
    begin = _raiser(error) if theirs else _QUOTES.split(text, maxsplit=1)[0].strip()
    return redact(" ".join(part for part in (f"{type(error).__name__}:", begin, LEFT_OUT) if part))


def told(error: Exception) -> str:
    """As :func:`primary`, with the SQLSTATE where there is one; another error than PostgreSQL's as it is."""
    if not isinstance(error, psycopg.Error):
        return redact(str(error))
    return f"{primary(error)} (SQLSTATE {error.sqlstate})" if error.sqlstate else primary(error)


#: By SQLSTATE, or its class: what a person does (PostgreSQL 16, 'PostgreSQL Error Codes').
_REMEDIES = {
    "42501": "the role of the URL lacks this right: task-migration preflight names each with its GRANT",
    "25006": "the session may only read: name the writer's endpoint (not a standby's or a reader's), or ALTER DATABASE ... RESET default_transaction_read_only",
    "53100": "the server's disk is full: give it storage, then run the command again",
    "53": "the server is short of something: free it, then run the command again",
    "57P": "the server ended the session: see that it is up, then run the command again",
    "08": "the line to the server broke: see that it is up, then run the command again",
    "55P03": "another session holds the lock: let it end (task-migration preflight names long transactions), then run the command again",
    "57014": "it took longer than it may: see what holds it up, then run the command again",
    "42883": "it is not there as this program left it, or in this version of the server: task-migration preflight, schema diff",
    "42P01": "it is not there: compare the stack's `schema` and `tables` with the database, or make it: task-migration schema apply",
    "3F000": "it is not there: compare the stack's `schema` with the database",
}


def remedy(state: str) -> str:
    """What mends an error of this SQLSTATE."""
    known = (_REMEDIES.get(state[:length]) for length in (5, 3, 2))
    return next(filter(None, known), "mend its cause and run the command again")


def passed_on(text: str, *, own: bool) -> str:
    """What another program says of a server's error, such as AWS DMS in its table, as far as it cannot quote a row.

    Args:
        own: what stands before a server's message, or without one, are the program's words, which quote no row; else the text
            is the server's where no severity says where that begins.
    """
    if _shown:
        return redact(text).strip()
    first = _AFTER_MESSAGE.split(text, maxsplit=1)[0].strip()
    severity = _SEVERITY.match(first)
    if severity is None and own:
        return redact(first)
    head = severity[0] if severity else ""
    message = first[len(head) :]
    if not _KNOWN.match(message):
        begin = _BEGINNING.match(message)
        message = f"{begin[0]} {LEFT_OUT}" if begin else LEFT_OUT
    return redact(head + message)


def of_client(text: str, program: str) -> str:
    """What pg_dump or pg_restore (``program``) said on standard error, likewise: after the first line that its name begins,
    those that it does not begin go on quoting the server."""
    if _shown:
        return redact(text).strip()
    lines = text.strip().splitlines()
    kept = [line.startswith(f"{program}:") for line in lines]
    return "\n".join(passed_on(line, own=True) for at, line in enumerate(lines) if kept[at] or not any(kept[:at]))


def scrub(error: BaseException) -> None:
    """Take what may quote a row out of the PostgreSQL errors that a traceback of ``error`` would print."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__, *getattr(found, "exceptions", ())]
        if isinstance(found, psycopg.Error):
            found.args = (told(found),)


def _holds_names(error: psycopg.Error, state: str) -> bool:
    if state:
        # A file that cannot grow comes as an internal error where the system's reason is a rare one.
        files = (error.diag.message_primary or "").startswith(("could not extend file", "could not write to file"))
        return state[:2] in _NAMES or state in _NAMES_TOO or (state == "XX000" and files)
    return not isinstance(error, psycopg.DataError)


def _raiser(error: psycopg.Error) -> str:
    found = _FUNCTION.search((error.diag.context or "").split("\n", 1)[0])
    return f"raised by {found[0]}" if found and error.diag.source_function in _RAISES else ""


def _raised_by_function(error: psycopg.Error) -> bool | None:
    """Whether a function raised it in its author's words: False where the function is ours, None where PostgreSQL did."""
    function, file = error.diag.source_function or "", error.diag.source_file or ""
    if function in _RAISES:
        return _OURS.search((error.diag.context or "").split("\n", 1)[0]) is None
    if file.startswith(_LANGUAGES) or (error.sqlstate or "")[:2] in ("P0", "38", "39"):
        return True
    return None
