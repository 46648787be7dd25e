"""The entry point: turns errors into the exit statuses of the command contract. Only it exits."""

from __future__ import annotations

import os
import sys

import typer

from scripts.cli.app import app
from scripts.support.errors import DatabaseError, MigrationError

#: 128 + SIGINT, as shells report a command that Ctrl-C ended.
INTERRUPTED = 130


def main() -> None:
    """Run one command and exit: 0 done; 1 crash; 2 usage; 10 refused; 11 the data differ; 12 timed out."""
    # What libraries and client programs write is the operator's alone too (`support/private.py` has what we write).
    os.umask(0o077)
    sys.exit(_run())


def _say(message: str, style: str) -> None:
    from scripts.support.console import say  # rich is needed only where something is said

    say(message, style)


def _stopped() -> int:
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
        _say(str(error), "red")
        return error.exit_status
    except Exception as error:
        # psycopg is imported by what needs a database, and by nothing before it.
        psycopg = sys.modules.get("psycopg")
        if psycopg is None:
            raise
        from scripts.database import error_text

        if not isinstance(error, psycopg.Error):
            # The traceback has the errors that this one came of.
            error_text.scrub(error)
            raise
        _say(f"PostgreSQL: {error_text.told(error)}; mend its cause and run the command again", "red")
        return DatabaseError.exit_status
    return 0


if __name__ == "__main__":
    main()
