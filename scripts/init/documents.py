"""What `init` found, key by key."""

from __future__ import annotations

from typing import Any, Literal

from scripts.support.document import Document


class Candidate(Document):
    """One of several things that a key could name, and how a person knows it."""

    value: Any
    what: str


class InitKey(Document):
    """A key of the stack's file: its value, where that is from, and what to do where there is none.

    ``given``: by the command line or a person's answer. ``found``: in the account. ``kept``: the file had it. ``open``: nobody says.
    """

    key: str
    state: Literal["given", "found", "kept", "open"]
    value: Any = None
    #: What was asked, and what it said.
    how: str
    candidates: tuple[Candidate, ...] = ()
    remedy: str | None = None
    #: Whether the program does not run without it.
    required: bool = False


class Init(Document):
    """A stack's file, filled."""

    file: str
    #: Whether it was written; not with `--dry-run`, and not where nothing changed.
    written: bool
    keys: list[InitKey]
    #: Secret keys of the file, and whether each has a value there, encrypted.
    secrets: dict[str, bool]
    #: What has to be done by hand for them.
    secrets_remedy: str | None = None

    @property
    def open(self) -> list[InitKey]:
        """What is still to be filled in, and has to be."""
        return [one for one in self.keys if one.state == "open" and one.required]

    @property
    def complete(self) -> bool:
        """Whether a preview can run."""
        return not self.open and all(self.secrets.values())
