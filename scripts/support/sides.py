"""The two databases."""

from typing import Literal

#: ``source`` is the monolith's, ``target`` the Task Service's.
Side = Literal["source", "target"]
BOTH: tuple[Side, Side] = ("source", "target")
