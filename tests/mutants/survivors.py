"""The mutants that no test can notice, as they change nothing: survivors.txt, which says for each why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LIST = Path(__file__).with_name("survivors.txt")


@dataclass(frozen=True)
class Survivor:
    """One change of one function; ``change`` is its lines taken out (-) and put in (+)."""

    file: str
    function: str
    change: tuple[str, ...]
    #: Why no test notices it: in the list a reason, in a run mutmut's word.
    why: str = field(compare=False)

    @property
    def text(self) -> str:
        """As it stands in the list, without its reason."""
        return "\n".join([f"{self.file} {self.function}", *self.change])


def listed() -> list[Survivor]:
    """Those of the list.

    Raises:
        ValueError: an entry is not a file and function, lines with - and +, and a reason.
    """
    return [_entry(block.splitlines()) for block in LIST.read_text().split("\n\n") if block.strip() and block[0] != "#"]


def _entry(lines: list[str]) -> Survivor:
    file, _, function = lines[0].partition(" ")
    change = tuple(line for line in lines[1:] if line[:2] in ("- ", "+ "))
    reasons = [line.removeprefix("= ") for line in lines if line.startswith("= ")]
    if not function or not change or not reasons or len(lines) != 1 + len(change) + len(reasons):
        raise ValueError(
            f"{LIST.name}: {lines}; wanted are a file and its function, lines with - and +, and one with =, the reason"
        )
    return Survivor(file, function, change, " ".join(reasons))
