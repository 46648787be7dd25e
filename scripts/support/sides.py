"""The two databases."""

from typing import Literal

#: ``source`` is the monolith's, ``target`` the Task Service's.
Side = Literal["source", "target"]
BOTH: tuple[Side, Side] = ("source", "target")


def other(side: Side) -> Side:
    """The peer of a side."""
    return "target" if side == "source" else "source"
