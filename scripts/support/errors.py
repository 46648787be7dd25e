"""One exception tree. Each error carries the exit status of the command contract (docs/decisions.md, 'Exit statuses')."""

from __future__ import annotations

import errno
from typing import Self


class MigrationError(Exception):
    """Something this program knows how to name. The text states what was found, the limit and the remedy."""

    #: Of the kind; one error may have another, where only its cause tells whose the mistake is.
    exit_status: int = 1

    def reworded(self, text: str) -> Self:
        """The same error, of its kind and with its fields, that says ``text`` instead."""
        other = type(self).__new__(type(self), text)  # not by its constructor, which may ask for more than a text
        other.__dict__.update(self.__dict__)
        return other


class UsageError(MigrationError):
    """The command line or the configuration is wrong (exit 2)."""

    exit_status = 2


class Refused(MigrationError):
    """A precondition or a gate does not hold; nothing was changed (exit 10)."""

    exit_status = 10


#: What a disk says that takes no more, or is broken.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def failure(error: OSError) -> MigrationError:
    """What this machine's files refused: a full or broken disk (exit 1), else a name, a kind or a right that is wrong (exit 2)."""
    full = error.errno in FULL
    remedy = "free space there, or name another place" if full else "mend it, or name another place"
    where = f"{error.filename}: " if error.filename else ""
    return (MigrationError if full else UsageError)(f"{where}{error.strerror or error}; {remedy}")


class DataDiffer(MigrationError):
    """The two databases do not hold the same rows (exit 11)."""

    exit_status = 11


class TimedOut(MigrationError):
    """A wait reached its deadline; the text has the last observation (exit 12)."""

    exit_status = 12


class NotJudged(MigrationError):
    """The machine was too busy for a verdict: neither passed nor failed (exit 13)."""

    exit_status = 13


class DatabaseError(MigrationError):
    """PostgreSQL refused or could not be reached; the text never holds a connection string."""
