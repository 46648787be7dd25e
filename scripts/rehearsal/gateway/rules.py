"""What an HTTP API's routes and a load balancer's listener rules decide for a request; pure, on the APIs' dicts."""

from __future__ import annotations

import random as random_module
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.support.errors import MigrationError

_LAST = 1 << 30

#: Before a path: the load balancer itself, beside the API Gateway, as who is in the VPC reaches it.
BALANCER = "/__balancer"


@dataclass(frozen=True)
class Route:
    """One route of the HTTP API: what it matches, whose tokens it asks for, and where it leads."""

    key: str
    authorizer_id: str | None
    integration_id: str

    @property
    def _method_and_path(self) -> tuple[str, str]:
        method, _, path = self.key.partition(" ")
        return method, path

    def rank(self, method: str, path: str) -> tuple[int, ...] | None:
        """How well the route matches (smaller is better), or None.

        API Gateway, 'Create routes for HTTP APIs': a full match goes before a greedy ``{proxy+}``, that before
        ``$default``; a method goes before ANY.
        """
        if self.key == "$default":
            return (2, 0, 0)
        wanted_method, wanted = self._method_and_path
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


@dataclass(frozen=True)
class FixedResponse:
    """An answer that the load balancer gives itself."""

    status: int
    body: str
    content_type: str


@dataclass(frozen=True)
class Rule:
    """One listener rule. ``weights`` maps target group ARN to weight when the action forwards."""

    arn: str
    priority: int
    conditions: tuple[Mapping[str, Any], ...]
    weights: Mapping[str, int]
    fixed: FixedResponse | None

    def matches(self, method: str, host: str, path: str, headers: Mapping[str, str]) -> bool:
        """Whether all conditions hold; ``headers`` has lower-case names."""
        return all(_holds(condition, method, host, path, headers) for condition in self.conditions)


def _pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    # ELB, 'Condition types for listener rules': * stands for 0 or more characters, ? for exactly 1.
    translated = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.compile(translated, flags | re.DOTALL)


def _any(patterns: Sequence[str], value: str, flags: int = 0) -> bool:
    return any(_pattern(pattern, flags).fullmatch(value) for pattern in patterns)


def _holds(condition: Mapping[str, Any], method: str, host: str, path: str, headers: Mapping[str, str]) -> bool:
    field = condition["Field"]
    values = condition.get("Values") or ()
    match field:
        case "path-pattern":  # case matters in a path, nowhere else
            return _any(condition.get("PathPatternConfig", {}).get("Values") or values, path)
        case "host-header":
            return _any(condition.get("HostHeaderConfig", {}).get("Values") or values, host, re.IGNORECASE)
        case "http-request-method":
            return method in condition["HttpRequestMethodConfig"]["Values"]
        case "http-header":
            config = condition["HttpHeaderConfig"]
            given = headers.get(config["HttpHeaderName"].lower())
            return given is not None and _any(config["Values"], given, re.IGNORECASE)
    raise MigrationError(
        f"the listener rule has a condition on '{field}', which the local gateway does not know; use path-pattern, "
        "host-header, http-request-method or http-header"
    )


def parse_rule(described: Mapping[str, Any]) -> Rule:
    """A rule as ``DescribeRules`` gives it.

    Raises:
        MigrationError: the action neither forwards nor is a fixed response.
    """
    priority = _LAST if described.get("IsDefault") else int(described["Priority"])
    weights: dict[str, int] = {}
    fixed = None
    for action in described["Actions"]:
        if action["Type"] == "forward":
            groups = action.get("ForwardConfig", {}).get("TargetGroups") or ()
            weights = {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
            if not weights:
                weights = {action["TargetGroupArn"]: 1}
        elif action["Type"] == "fixed-response":
            config = action["FixedResponseConfig"]
            body, kind = config.get("MessageBody", ""), config.get("ContentType", "text/plain")
            fixed = FixedResponse(int(config["StatusCode"]), body, kind)
        else:
            raise MigrationError(
                f"rule {described['RuleArn']} has the action '{action['Type']}', which the gateway does not know; "
                "use forward or fixed-response"
            )
    return Rule(described["RuleArn"], priority, tuple(described.get("Conditions") or ()), weights, fixed)


def find_rule(
    rules: Sequence[Rule], method: str, host: str, path: str, headers: Mapping[str, str] | None = None
) -> Rule | None:
    """The first matching rule in the order of priority, the default rule last."""
    for rule in sorted(rules, key=lambda item: item.priority):
        if rule.matches(method, host, path, headers or {}):
            return rule
    return None


def choose_target(rule: Rule, draw: Callable[[], float] = random_module.random) -> str | None:
    """A target group of the rule, at random by weight; None when all weights are 0.

    Args:
        draw: gives a number from 0 (included) to 1 (excluded).
    """
    total = sum(rule.weights.values())
    position = draw() * total
    for arn, weight in rule.weights.items():
        if position < weight:
            return arn
        position -= weight
    return None


def group_name(arn: str) -> str:
    """The name in a target group's ARN: ``...:targetgroup/<name>/<id>``."""
    parts = arn.split("/")
    return parts[1] if len(parts) == 3 else arn
