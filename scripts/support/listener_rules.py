"""What the rules of a load balancer's listener decide for a request; but for :func:`read_rules` pure, on the dicts of ``DescribeRules``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

from scripts.support.errors import MigrationError

#: Priority of the default action.
LAST = 1 << 30
#: Most states that :func:`witnesses` goes through; a listener of 100 rules has some hundred.
_MOST_STATES = 50_000


@dataclass(frozen=True)
class Request:
    """A request as conditions see it. What is None is not known: a condition on it may hold, or not."""

    method: str
    host: str
    path: str
    #: Names in lower case.
    headers: Mapping[str, str] | None = None
    #: Decoded pairs, in their order.
    query: Sequence[tuple[str, str]] | None = None
    source: str | None = None


@dataclass(frozen=True)
class FixedResponse:
    """An answer that the load balancer gives itself."""

    status: int
    body: str
    content_type: str


@dataclass(frozen=True)
class Rule:
    """One listener rule: its conditions, and what its actions do."""

    arn: str
    priority: int
    conditions: tuple[Mapping[str, Any], ...]
    #: Weight by target group ARN when the last action forwards.
    weights: Mapping[str, int] = field(default_factory=dict)
    fixed: FixedResponse | None = None
    #: The last action's configuration when it redirects.
    redirect: Mapping[str, Any] | None = None
    #: What comes before the last action, as the API has it: transforms (``url-rewrite``) and actions (``authenticate-oidc``).
    before: tuple[Mapping[str, Any], ...] = ()
    #: Seconds for which a cookie binds a client to the target group that it met; 0: not at all.
    sticky: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it is the listener's default action."""
        return self.priority == LAST

    def share(self, group: str) -> float:
        """The part of the requests, 0 to 1, that a target group gets."""
        total = sum(self.weights.values())
        return self.weights.get(group, 0) / total if total else 0.0

    def matches(self, request: Request) -> bool | None:
        """Whether all conditions hold; None when that depends on what is not known of the request."""
        held = [_holds(condition, request) for condition in self.conditions]
        return False if False in held else None if None in held else True


def read_rules(elb: Any, listener: str) -> list[Mapping[str, Any]]:
    """All rules of a listener, as ``DescribeRules`` has them."""
    return [
        rule for page in elb.get_paginator("describe_rules").paginate(ListenerArn=listener) for rule in page["Rules"]
    ]


def parse_rule(described: Mapping[str, Any]) -> Rule:
    """A rule as ``DescribeRules`` gives it.

    Raises:
        MigrationError: the last action neither forwards nor redirects nor is a fixed response.
    """
    priority = LAST if described.get("IsDefault") else int(described["Priority"])
    *actions, last = sorted(described["Actions"], key=lambda action: int(action.get("Order") or 0))
    before = (*described.get("Transforms", ()), *actions)
    arn, conditions = str(described["RuleArn"]), tuple(described.get("Conditions") or ())
    weights: dict[str, int] = {}
    fixed = redirect = None
    sticky = 0
    match last["Type"]:
        case "forward":
            config = last.get("ForwardConfig") or {}
            groups = config.get("TargetGroups") or [{"TargetGroupArn": last["TargetGroupArn"]}]
            weights = {str(group["TargetGroupArn"]): int(group.get("Weight", 1)) for group in groups}
            stickiness = config.get("TargetGroupStickinessConfig") or {}
            sticky = int(stickiness["DurationSeconds"]) if stickiness.get("Enabled") in (True, "true") else 0
        case "fixed-response":
            config = last["FixedResponseConfig"]
            kind = config.get("ContentType", "text/plain")
            fixed = FixedResponse(int(config["StatusCode"]), config.get("MessageBody", ""), kind)
        case "redirect":
            redirect = last["RedirectConfig"]
        case other:
            raise MigrationError(
                f"rule {arn} has the action '{other}', which is not known here; use forward, fixed-response or redirect"
            )
    return Rule(arn, priority, conditions, weights, fixed, redirect, before, sticky)


def possible(rules: Sequence[Rule], request: Request) -> list[Rule]:
    """The rules of which the first one answers: all that may hold, down to the first one that does for certain."""
    found = []
    for rule in sorted(rules, key=lambda item: item.priority):
        held = rule.matches(request)
        if held is not False:
            found.append(rule)
        if held:
            break
    return found


def patterns_of(rules: Iterable[Rule], kind: str) -> list[str]:
    """The values of all conditions of a kind, ``host-header`` or ``path-pattern``; regular expressions are left out."""
    member = "PathPatternConfig" if kind == "path-pattern" else "HostHeaderConfig"
    return [
        str(value)
        for rule in rules
        for condition in rule.conditions
        if condition["Field"] == kind
        for value in (condition.get(member) or {}).get("Values") or condition.get("Values") or ()
    ]


def find_rule(rules: Sequence[Rule], request: Request) -> Rule | None:
    """The rule that answers a request of which everything is known, the default rule last.

    Raises:
        MigrationError: a rule has a condition that cannot be judged.
    """
    for rule in sorted(rules, key=lambda item: item.priority):
        held = rule.matches(request)
        if held is None:
            fields = ", ".join(sorted({str(condition["Field"]) for condition in rule.conditions}))
            raise MigrationError(f"rule {rule.arn} has a condition on {fields} that cannot be judged here")
        if held:
            return rule
    return None


def _holds(condition: Mapping[str, Any], request: Request) -> bool | None:
    kind = condition["Field"]
    plain = condition.get("Values") or ()
    match kind:
        case "path-pattern":  # case matters in a path, nowhere else
            config = condition.get("PathPatternConfig") or {}
            return None if config.get("RegexValues") else _any(config.get("Values") or plain, request.path)
        case "host-header":
            config = condition.get("HostHeaderConfig") or {}
            return None if config.get("RegexValues") else _any(config.get("Values") or plain, request.host, fold=True)
        case "http-request-method":
            return request.method in condition["HttpRequestMethodConfig"]["Values"]
        case "http-header":
            config = condition["HttpHeaderConfig"]
            if request.headers is None or config.get("RegexValues"):
                return None
            given = request.headers.get(str(config["HttpHeaderName"]).lower())
            return given is not None and _any(config["Values"], given, fold=True)
        case "query-string":
            if request.query is None:
                return None
            return any(
                (not wanted.get("Key") or _any([wanted["Key"]], key, fold=True))
                and _any([wanted["Value"]], value, fold=True)
                for wanted in condition["QueryStringConfig"]["Values"]
                for key, value in request.query
            )
        case "source-ip":
            if request.source is None:
                return None
            address = ipaddress.ip_address(request.source)
            return any(
                address in ipaddress.ip_interface(block).network for block in condition["SourceIpConfig"]["Values"]
            )
    return None


@lru_cache(maxsize=4096)
def _pattern(pattern: str, fold: bool) -> re.Pattern[str]:
    # Elastic Load Balancing, 'Condition types for listener rules': * stands for 0 or more characters, ? for exactly 1.
    translated = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.compile(translated, re.DOTALL | (re.IGNORECASE if fold else 0))


def _any(patterns: Collection[str], value: str, *, fold: bool = False) -> bool:
    return any(_pattern(pattern, fold).fullmatch(value) for pattern in patterns)


def _positions(bits: int, text: str) -> Iterator[int]:
    """The places in a pattern that are to be read next."""
    return (at for at in range(len(text)) if bits >> at & 1)


def witnesses(patterns: Collection[str]) -> list[str]:
    """One text for each set of ``patterns`` that one text can match at once, also for none of them: all that a listener
    can tell apart. The patterns run side by side as automata, and every state of them together is visited.

    Raises:
        MigrationError: there are more states than can be gone through.
    """
    # `**` says what `*` says. One bit a position: at bit i the first i characters were read.
    texts = sorted({re.sub(r"\*+", "*", pattern) for pattern in patterns})
    stars = [sum(1 << i for i, char in enumerate(text) if char == "*") for text in texts]
    used = {char for text in texts for char in text}
    other = next(char for char in map(chr, count(ord("a"))) if char not in used)

    def closed(state: Sequence[int]) -> tuple[int, ...]:
        return tuple(bits | (bits & star) << 1 for bits, star in zip(state, stars, strict=True))

    def step(state: tuple[int, ...], char: str) -> tuple[int, ...]:
        moved = []
        for bits, text, star in zip(state, texts, stars, strict=True):
            read = sum(2 << i for i in _positions(bits, text) if text[i] in (char, "?"))
            moved.append(read | bits & star)
        return closed(moved)

    first = closed([1] * len(texts))
    seen, queue = {first: ""}, [first]
    found: dict[tuple[bool, ...], str] = {}
    for state in queue:
        if len(seen) > _MOST_STATES:
            raise MigrationError(f"the listener's patterns are more than can be judged: over {_MOST_STATES} states")
        ends = tuple(bool(bits >> len(text) & 1) for bits, text in zip(state, texts, strict=True))
        found.setdefault(ends, seen[state])
        # Any other character does what `other` does.
        wanted = {text[i] for bits, text in zip(state, texts, strict=True) for i in _positions(bits, text)}
        for char in [*sorted(wanted - {"*", "?"}), other]:
            after = step(state, char)
            if after not in seen:
                seen[after] = seen[state] + char
                queue.append(after)
    return list(found.values())


def choose(weights: Mapping[str, float], draw: Callable[[], float]) -> str | None:
    """One of the names, at random by weight; None when all weights are 0.

    Args:
        draw: gives a number from 0 (included) to 1 (excluded).
    """
    position = draw() * sum(weights.values())
    for name, weight in weights.items():
        if position < weight:
            return name
        position -= weight
    return None


def group_name(arn: str) -> str:
    """The name in a target group's ARN: ``...:targetgroup/<name>/<id>``."""
    parts = arn.split("/")
    return parts[1] if len(parts) == 3 else arn
