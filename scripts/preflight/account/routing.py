"""Who answers a request before the two rules stand in the listener and after, at weight 0 and at 100; pure.

What cannot be known of a request (headers, query, where it comes from) leaves a rule possible. Hosts and paths are not
samples: of all that the rules can tell apart, one of each kind is tried (:func:`scripts.support.listener_rules.witnesses`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from components.naming import HEALTH_ROUTE, TASK_PATHS, TASK_ROUTES
from scripts.support.listener_rules import Request, Rule, group_name, patterns_of, possible, witnesses

#: The methods that a rule can name and a browser or an application sends (RFC 9110, 9.3; RFC 5789).
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Numbers of tasks are numbers: what the routes of the API lead to.
SAMPLES = {key: tuple(key.replace("{id}", "1").split(" ")) for key in (*TASK_ROUTES.values(), HEALTH_ROUTE)}


@dataclass(frozen=True)
class Plan:
    """What the stack's file asks for: the live rule's place, the hosts that it takes (none: every host), and the monolith's group."""

    priority: int
    hosts: tuple[str, ...]
    monolith: str

    def live(self, group: str) -> Rule:
        """The live rule, with all requests to one group."""
        conditions = [{"Field": "path-pattern", "PathPatternConfig": {"Values": list(TASK_PATHS)}}]
        if self.hosts:
            conditions.append({"Field": "host-header", "HostHeaderConfig": {"Values": list(self.hosts)}})
        return Rule("live", self.priority, tuple(conditions), {group: 100})


@dataclass
class Touched:
    """A rule of others, and the requests with which it is met."""

    rule: Rule
    #: Whether it takes one of them for certain, or only where headers, query or the client's address fit.
    certain: bool = False
    hosts: dict[str, None] = field(default_factory=dict)
    requests: dict[str, None] = field(default_factory=dict)

    def where(self) -> str:
        """The requests in words."""
        requests = list(self.requests)
        shown = f"{', '.join(requests[:4])}{f' and {len(requests) - 4} more' if len(requests) > 4 else ''}"
        return f"{shown} for {', '.join(self.hosts)}"


def changed_at_zero(others: Sequence[Rule], plan: Plan) -> list[Touched]:
    """The rules whose requests the live rule would take to the monolith, and that do something else with them today.

    Args:
        others: the listener's rules without ours.
    """
    live = plan.live(plan.monolith)
    touched: dict[str, Touched] = {}
    for host in _hosts(others, plan):
        for path in witnesses({*TASK_PATHS, *patterns_of(others, "path-pattern")}):
            for method in METHODS:
                request = Request(method, host, path)
                if live.matches(request):
                    for rule in possible(others, request):
                        if rule.priority > plan.priority and (rule.sticky or not only_to(rule, plan.monolith)):
                            _note(touched, rule, request, others, plan)
    return list(touched.values())


def kept_away(others: Sequence[Rule], plan: Plan) -> list[Touched]:
    """The rules in front of ours that take requests of the API's routes, for the hosts that the live rule takes."""
    live = plan.live(plan.monolith)
    touched: dict[str, Touched] = {}
    for host in _hosts(others, plan):
        for method, path in SAMPLES.values():
            request = Request(method, host, path)
            if live.matches(request):
                _note_front(touched, request, others, plan)
    return list(touched.values())


def before_the_smoke_rule(others: Sequence[Rule], plan: Plan) -> list[Touched]:
    """The rules in front of ours that take ``GET /health``, which the smoke rule leads to the Task Service."""
    touched: dict[str, Touched] = {}
    for host in plan.hosts[:1] or _hosts(others, plan):
        method, path = SAMPLES[HEALTH_ROUTE]
        _note_front(touched, Request(method, host, path), others, plan)
    return list(touched.values())


def _note_front(touched: dict[str, Touched], request: Request, others: Sequence[Rule], plan: Plan) -> None:
    for rule in possible(others, request):
        if rule.priority < plan.priority:
            _note(touched, rule, request, others, plan)


def only_to(rule: Rule, group: str) -> bool:
    """Whether a rule does no more than to send everything to one target group."""
    return not rule.before and rule.share(group) == 1


def _hosts(others: Sequence[Rule], plan: Plan) -> list[str]:
    return witnesses({pattern.lower() for pattern in (*plan.hosts, *patterns_of(others, "host-header"))})


def _note(touched: dict[str, Touched], rule: Rule, request: Request, others: Sequence[Rule], plan: Plan) -> None:
    found = touched.setdefault(rule.arn, Touched(rule))
    found.certain = found.certain or rule.matches(request) is True
    found.hosts[named_host(request.host, others, plan)] = None
    found.requests[f"{request.method} {request.path}"] = None


def named_host(host: str, others: Sequence[Rule], plan: Plan) -> str:
    """The patterns that a witness stands for."""
    fitting = [
        pattern
        for pattern in dict.fromkeys((*plan.hosts, *patterns_of(others, "host-header")))
        if Rule("", 0, ({"Field": "host-header", "Values": [pattern]},)).matches(Request("GET", host, "/"))
    ]
    return " and ".join(fitting) or "any other host"


def who_answers(others: Sequence[Rule], plan: Plan, task_group: str) -> Iterator[tuple[str, list[str]]]:
    """Each way in which requests of the API's routes are answered before and after, and the routes of which it is so.

    Yields:
        for example ``("before the default action (myteacher-monolith), at 0 % the live rule ...", ["GET /api/tasks"])``.
    """
    ways: dict[str, dict[str, dict[str, None]]] = {}
    for route, (method, path) in SAMPLES.items():
        for host in _hosts(others, plan):
            request = Request(method, host, path)
            before, zero, whole = (
                " or ".join(words(rule) for rule in possible([*others, *ours], request)) or "nobody"
                for ours in ((), (plan.live(plan.monolith),), (plan.live(task_group),))
            )
            told = f"before {before}, at 0 % {zero}, at 100 % {whole}"
            ways.setdefault(told, {}).setdefault(route, {})[named_host(host, others, plan)] = None
    for told, routes in ways.items():
        hosts = dict.fromkeys(host for found in routes.values() for host in found)
        yield f"{told} ({', '.join(hosts)})", list(routes)


def words(rule: Rule) -> str:
    """A rule and what it does, for example ``rule 200 (authenticate-oidc, then myteacher-monolith)``."""
    if rule.fixed is not None:
        does = f"answers {rule.fixed.status}"
    elif rule.redirect is not None:
        does = "redirects"
    else:
        shares = [
            f"{group_name(arn)}{f' {weight}' if len(rule.weights) > 1 else ''}" for arn, weight in rule.weights.items()
        ]
        does = f"{', '.join(shares)}{', sticky' if rule.sticky else ''}"
    steps = "".join(f"{action['Type']}, then " for action in rule.before)
    name = (
        "the live rule" if rule.arn == "live" else "the default action" if rule.is_default else f"rule {rule.priority}"
    )
    return f"{name} ({steps}{does})"
