"""What a wrong input is, as data: a command line, what is given to it, how it must end, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

#: What there is before a command runs: nothing that answers; source with rows and an empty target; schema made; rows copied;
#: replication running both ways. `apart` is as `schema`, for what copies and takes it back.
State = Literal["nothing", "new", "schema", "apart", "copied", "running"]
#: A file's text or bytes; None for a directory of that name.
Files = Mapping[str, str | bytes | None]


@dataclass(frozen=True)
class Given:
    """In every text ``{name}`` is a value of the world, such as ``{source}``, ``{target}``, ``{port}`` or ``{slot}``."""

    #: The command line; None: the case's own.
    line: str | None = None
    #: Variables; None takes one away.
    env: Mapping[str, str | None] = field(default_factory=dict)
    files: Files = field(default_factory=dict)
    #: ``side: statement``, by a superuser.
    sql: Sequence[str] = ()
    #: Commands of ours that run before, which must end with 0.
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Case:
    """One wrong input or state.

    Args:
        says: what the message must hold, spaces and line ends being alike: the value, the limit, the remedy.
        exits: the command's status.
        mend: what the remedy says, carried out; the same command then says nothing of it. None where a test cannot.
        undo: statements that put the databases back, always carried out at the end.
        printed: it is a document's finding, on standard output; else the one message is on standard error.
        changes: the command changes something by right before it is refused.
    """

    name: str
    given: Given
    exits: int
    says: Sequence[str]
    mend: Given | None = None
    state: State = "nothing"
    undo: Sequence[str] = ()
    printed: bool = False
    changes: bool = False
    #: What a command may take at most, on a machine that others keep busy too.
    seconds: float = 60.0


def usage(line: str, *says: str, **more: object) -> Case:
    """A command line that cannot be read: nothing else is looked at."""
    return Case(line, Given(line), 2, says, **more)  # type: ignore[arg-type]
