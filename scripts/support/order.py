"""The order in which things that need each other can be made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")


def in_order(needs: Mapping[T, Collection[T]]) -> list[T]:
    """The keys of ``needs``, each after those that it needs, else as given; a circle is begun at its first. What is no key needs nothing."""
    done: dict[T, None] = {}
    left = dict(needs)
    while left:
        ready = [one for one, others in left.items() if not (set(others) - {one}) & left.keys()] or [next(iter(left))]
        for one in ready:
            del left[one]
        done |= dict.fromkeys(ready)
    return list(done)
