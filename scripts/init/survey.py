"""What is known of each key while the account is looked through: a person's word first, then the file's, then what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.init.documents import Candidate, InitKey
from scripts.preflight.account.asking import Clients, tried

#: Asks a person for a key's value, with its candidates; None when he leaves it open.
Ask = Callable[[InitKey], Any]


class Survey:
    """Collects the keys. An ambiguous find is asked, or stays open with its candidates: nothing is guessed.

    Args:
        aws: clients of the account.
        given: values of the command line.
        file: values that the stack's file has.
        defaults: values of the template; one that the file only repeats is nobody's word.
        force: what is found replaces what the file has.
        ask: asks a person; None where there is none.
    """

    def __init__(
        self,
        aws: Clients,
        given: Mapping[str, Any],
        file: Mapping[str, Any],
        defaults: Mapping[str, Any],
        force: bool,
        ask: Ask | None,
    ) -> None:
        self.aws = aws
        self.keys: dict[str, InitKey] = {}
        self._given, self._force, self._ask, self._values = given, force, ask, {**defaults, **file}
        self._file = {key: value for key, value in file.items() if value != defaults.get(key)}

    def value(self, key: str) -> Any:
        """What a key has by now: settled, else given, else the file's; None when nothing."""
        known = self.keys.get(key)
        return known.value if known else self._given.get(key, self._values.get(key))

    def one(self, key: str, how: str, candidates: Sequence[tuple[Any, str]], remedy: str | None = None) -> Any:
        """Settle a key that names one of ``candidates`` (value, what it is); its value, or None while it is open."""
        found = candidates[0][0] if len(candidates) == 1 else None
        if found is None:
            how = f"{how}: {len(candidates) or 'none'}"
        elif str(found) != candidates[0][1]:
            how = f"{how}: {candidates[0][1]}"
        choice = tuple(Candidate(value=value, what=what) for value, what in candidates) if found is None else ()
        return self._settle(InitKey(key=key, state="open", value=found, how=how, candidates=choice, remedy=remedy))

    def all(self, key: str, how: str, value: Sequence[Any], candidates: Sequence[tuple[Any, str]] = ()) -> Any:
        """Settle a key that takes a list: ``value``, or, where that is empty, some of ``candidates``."""
        choice = tuple(Candidate(value=one, what=what) for one, what in candidates)
        return self._settle(InitKey(key=key, state="open", value=list(value) or None, how=how, candidates=choice))

    def attempt(self, keys: Sequence[str], what: str, act: Callable[[], None]) -> None:
        """Look; where AWS refuses, ``keys`` that are not settled yet stay open, and say so."""

        def look() -> tuple[()]:
            act()
            return ()

        for failed in tried(what, look):
            for key in keys:
                if key not in self.keys:
                    self._settle(InitKey(key=key, state="open", how=f"{what}: {failed.detail}", remedy=failed.remedy))

    def rest(self, key: str, how: str, required: bool) -> None:
        """A key that nothing in the account says."""
        if key not in self.keys:
            self._settle(InitKey(key=key, state="open", how=how, required=required))

    def blocked(self, key: str, how: str, remedy: str) -> None:
        """A key whose value cannot stay as it is, whoever said it."""
        self.keys[key] = InitKey(key=key, state="open", value=self.value(key), how=how, remedy=remedy, required=True)

    def _settle(self, look: InitKey) -> Any:
        key, found = look.key, look.value
        if key in self._given:
            settled = look.model_copy(update={"state": "given", "value": self._given[key], "how": "the command line"})
        elif key in self._file and not (self._force and found is not None):
            other = f"; {look.how} ({found}): --force takes it" if found not in (None, self._file[key]) else ""
            settled = look.model_copy(
                update={"state": "kept", "value": self._file[key], "how": f"the file has it{other}"}
            )
        elif found is not None:
            settled = look.model_copy(update={"state": "found"})
        else:
            answer = self._ask(look) if self._ask else None
            if answer is not None:
                settled = look.model_copy(update={"state": "given", "value": answer, "how": "your answer"})
            else:
                settled = look.model_copy(update={"remedy": look.remedy or f"--set {key}=..."})
        if settled.state != "open":
            settled = settled.model_copy(update={"candidates": (), "remedy": None})
        self.keys[key] = settled
        return settled.value
