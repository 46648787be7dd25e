"""The entry point: turns errors into the exit statuses of the command contract. Only it exits."""

from __future__ import annotations

import io
import os
import sys

import typer

from scripts.cli.app import app
from scripts.support.errors import FULL, MigrationError, UsageError, failure
from scripts.support.process import ignore_interrupts

#: 128 + SIGINT, as shells report a command that Ctrl-C ended.
INTERRUPTED = 130


def main() -> None:
    """Run one command and exit: 0 done; 1 crash; 2 usage; 10 refused; 11 the data differ; 12 timed out."""
    # What libraries and client programs write is the operator's alone too (`support/private.py` has what we write).
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding gets escapes, not a crash at the end of the work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _say(message: str, style: str) -> None:
    from scripts.support.console import say  # rich is needed only where something is said

    say(message, style)


def _stopped() -> int:
    # Python ends by the signal itself, whatever the status, where a second one comes now, and where the first came while a text
    # of code was carried out, as dataclasses do: CPython keeps that until the next text (Python/pythonrun.c, run_eval_code_obj).
    ignore_interrupts()
    eval("None")
    _say("stopped by the operator; the command is safe to run again", "yellow")
    return INTERRUPTED


def _run() -> int:
    try:
        typer.main.get_command(app).main(prog_name="task-migration")
    except SystemExit as ended:
        # typer ends this way always: with a command's status, with 2 for a usage error, with 130 for Ctrl-C.
        return _stopped() if ended.code == INTERRUPTED else int(ended.code or 0)
    except KeyboardInterrupt:
        return _stopped()
    except MigrationError as error:
        return _failed(error)
    except Exception as error:
        if (named := _outside(error)) is not None:
            return _failed(named)
        # psycopg is imported by what needs a database, and by nothing before it.
        psycopg = sys.modules.get("psycopg")
        if psycopg is None:
            raise
        from scripts.database import connections, error_text

        if not isinstance(error, psycopg.Error):
            # The traceback has the errors that this one came of.
            error_text.scrub(error)
            raise
        return _failed(connections.refusal("PostgreSQL", error))
    return 0


def _failed(error: MigrationError) -> int:
    _say(str(error), "red")
    return error.exit_status


def _outside(error: Exception) -> MigrationError | None:
    """What this machine's files, the stack's configuration or AWS refused, where no step named it; None for a crash."""
    config = sys.modules.get("components.config")
    if config is not None and isinstance(error, config.ConfigError):
        return UsageError(str(error))
    if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        return failure(error)
    botocore = sys.modules.get("botocore.exceptions")
    if botocore is not None and isinstance(error, (botocore.ClientError, botocore.BotoCoreError)):
        from scripts.support.aws import refusal

        return refusal("AWS refused", error, "check it, then run the command again")
    return None


if __name__ == "__main__":
    main()
