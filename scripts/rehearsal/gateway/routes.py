"""What an HTTP API's routes decide for a request; pure. What a listener's rules decide: :mod:`scripts.support.listener_rules`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Before a path: the load balancer itself, beside the API Gateway, as who is in the VPC reaches it.
BALANCER = "/__balancer"


@dataclass(frozen=True)
class Route:
    """One route of the HTTP API: what it matches, whose tokens it asks for, and where it leads."""

    key: str
    authorizer_id: str | None
    integration_id: str

    def rank(self, method: str, path: str) -> tuple[int, ...] | None:
        """How well the route matches (smaller is better), or None.

        API Gateway, 'Create routes for HTTP APIs': a full match goes before a greedy ``{proxy+}``, that before
        ``$default``; a method goes before ANY.
        """
        if self.key == "$default":
            return (2, 0, 0)
        wanted_method, _, wanted = self.key.partition(" ")
        if wanted_method not in (method, "ANY"):
            return None
        any_method = int(wanted_method == "ANY")
        parts, given = wanted.split("/")[1:], path.split("/")[1:]
        variables = 0
        for index, part in enumerate(parts):
            if part.startswith("{") and part.endswith("+}"):
                return (1, -index, any_method) if len(given) > index and given[index] else None
            if index >= len(given):
                return None
            if part.startswith("{"):
                if not given[index]:
                    return None
                variables += 1
            elif part != given[index]:
                return None
        return (0, variables, any_method) if len(parts) == len(given) else None


def find_route(routes: Sequence[Route], method: str, path: str) -> Route | None:
    """The route that serves the request, or None (the API answers 404 then)."""
    ranked = [(rank, route) for route in routes if (rank := route.rank(method, path)) is not None]
    return min(ranked, key=lambda item: item[0])[1] if ranked else None
