"""Who answers before the two rules and after: against an evaluator that tries every request of a small world."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.preflight.account.listener import judge
from scripts.preflight.account.routing import SAMPLES, Plan, changed_at_zero, kept_away
from scripts.preflight.documents import Check
from scripts.support.listener_rules import Request, Rule, find_rule, parse_rule

MONOLITH, OTHER = "arn:tg:targetgroup/monolith/1", "arn:tg:targetgroup/other/2"
OIDC = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {}}
PLAN = Plan(110, (), MONOLITH)


def forward(*groups: str, sticky: bool = False) -> dict[str, Any]:
    config: dict[str, Any] = {"TargetGroups": [{"TargetGroupArn": group, "Weight": 1} for group in groups]}
    if sticky:
        config["TargetGroupStickinessConfig"] = {"Enabled": True, "DurationSeconds": 60}
    return {"Type": "forward", "Order": 9, "ForwardConfig": config}


FIXED = {"Type": "fixed-response", "Order": 9, "FixedResponseConfig": {"StatusCode": "404"}}
REDIRECT = {"Type": "redirect", "Order": 9, "RedirectConfig": {"StatusCode": "HTTP_301"}}


REWRITE = {"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/api/", "Replace": "/"}]}}


def rule(
    priority: int | None, actions: list[dict[str, Any]], transforms: tuple[object, ...] = (), **conditions: list[str]
) -> Rule:
    """A rule with conditions ``path``, ``host`` and ``method``; without priority the default action."""
    fields = {
        "path": ("path-pattern", "PathPatternConfig"),
        "host": ("host-header", "HostHeaderConfig"),
        "method": ("http-request-method", "HttpRequestMethodConfig"),
    }
    return parse_rule(
        {
            "RuleArn": f"arn:{priority}",
            "Priority": str(priority),
            "IsDefault": priority is None,
            "Actions": actions,
            "Transforms": transforms,
            "Conditions": [
                {"Field": fields[key][0], fields[key][1]: {"Values": values}} for key, values in conditions.items()
            ],
        }
    )


DEFAULT = rule(None, [forward(MONOLITH)])


def found(others: list[Rule], plan: Plan = PLAN) -> list[Check]:
    return [check for check in judge(others, plan, "task-service") if check.status != "pass"]


def one(others: list[Rule], plan: Plan = PLAN) -> Check:
    (check,) = found(others, plan)
    return check


def test_a_listener_with_the_monolith_behind_it_changes_for_nobody() -> None:
    """Fails when a sound listener is refused; other paths and other applications' hosts are left alone."""
    others = [
        rule(5, [FIXED], host=["admin.example.com"]),
        rule(6, [forward(OTHER)], path=["/api/users/*"]),
        rule(200, [forward(MONOLITH)], host=["api.example.com"], path=["/api/*"]),
        rule(300, [forward(OTHER)], path=["/reports/*"]),
        DEFAULT,
    ]
    assert found(others) == []
    told = {check.name: check.detail for check in judge(others, PLAN, "task-service")}
    assert "before rule 200 (monolith), at 0 % the live rule (monolith), at 100 % the live rule (task-service)" in str(
        told
    )


#: Rules of others, what is said of which, and a way that the remedy names.
FAULTS: dict[str, tuple[list[Rule], str, str, str]] = {
    "another application's host behind": (
        [rule(200, [forward(OTHER)], host=["shop.example.com"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (other) answers GET /api/tasks, HEAD /api/tasks, POST /api/tasks, PUT /api/tasks and",
        "set hostHeaders to the hosts whose task requests the monolith answers today, or liveRulePriority to a free one behind 200",
    ),
    "a login behind": (
        [rule(200, [OIDC, forward(MONOLITH)], path=["/api/*"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (authenticate-oidc, then monolith) answers",
        "set hostHeaders",
    ),
    "a path that is rewritten behind": (
        [rule(200, [forward(MONOLITH)], (REWRITE,), path=["/api/*"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (url-rewrite, then monolith) answers",
        "set hostHeaders",
    ),
    "clients bound to one of two groups behind": (
        [rule(200, [forward(MONOLITH, OTHER, sticky=True)], path=["/api/*"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (monolith 1, other 1, sticky) answers",
        "set hostHeaders",
    ),
    "one path under /api/tasks/ of another application": (
        [rule(200, [forward(OTHER)], path=["/api/tasks/export"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (other) answers GET /api/tasks/export",
        "set hostHeaders",
    ),
    "nobody answers by default": (
        [rule(200, [forward(MONOLITH)], host=["api.example.com"]), rule(None, [FIXED])],
        "listener: weight 0 and the default action",
        "the default action (answers 404) answers",
        "set hostHeaders to the hosts whose task requests the monolith answers today",
    ),
    "a redirect of one method behind": (
        [rule(200, [REDIRECT], method=["HEAD"]), DEFAULT],
        "listener: weight 0 and rule 200",
        "rule 200 (redirects) answers HEAD /api/tasks",
        "set hostHeaders",
    ),
    "a path of everything in front": (
        [rule(20, [forward(OTHER)], path=["/api/*"]), DEFAULT],
        "listener: weight 100 and rule 20",
        "rule 20 (other) stands in front and takes GET /api/tasks, POST /api/tasks, GET /api/tasks/1, PUT /api/tasks/1 and",
        "set liveRulePriority to a free one in front of 20",
    ),
    "the monolith's host in front": (
        [rule(20, [forward(MONOLITH)], host=["api.example.com"]), DEFAULT],
        "listener: weight 100 and rule 20",
        "for api.example.com: they would not reach the Task Service, and the monolith would go on answering",
        "hostHeaders to hosts that this rule leaves alone",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_of_others_that_a_move_would_meet_is_refused_by_name(fault: str) -> None:
    """Fails when weight 0 takes somebody's requests away, or weight 100 moves nothing, without a word before."""
    others, name, detail, remedy = FAULTS[fault]
    check = one(others)
    assert (check.name, check.status) == (name, "fail")
    assert detail in check.detail
    assert remedy in check.remedy


def test_hosts_in_the_file_leave_other_applications_alone() -> None:
    """Fails when the remedy that the check names does not mend it."""
    others = [
        rule(20, [forward(MONOLITH)], host=["old.example.com"]),
        rule(200, [forward(OTHER)], host=["shop.example.com"]),
        rule(300, [forward(MONOLITH)], host=["api.example.com"]),
        rule(None, [FIXED]),
    ]
    assert {check.name for check in found(others)} == {
        "listener: weight 100 and rule 20",
        "listener: weight 0 and rule 200",
        "listener: weight 0 and the default action",
    }
    assert found(others, Plan(110, ("api.example.com",), MONOLITH)) == []


def test_what_depends_on_a_header_is_said_with_may() -> None:
    """Fails when a rule on a header is taken for one that never, or always, answers."""
    header = {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Beta", "Values": ["1"]}}
    base = {"RuleArn": "arn:200", "Conditions": [header], "Actions": [forward(OTHER)]}
    behind, front = parse_rule({**base, "Priority": "200"}), parse_rule({**base, "Priority": "20"})
    check = one([behind, DEFAULT])
    assert (check.status, "rule 200 (other) may answer" in check.detail) == ("fail", True)
    check, smoke = found([front, DEFAULT])
    assert (check.status, "may take GET /api/tasks" in check.detail) == ("warn", True)
    assert (smoke.name, smoke.status) == ("listener: smoke rule and rule 20", "warn")


def test_clients_bound_to_the_only_group_are_a_warning() -> None:
    assert one([rule(None, [forward(MONOLITH, sticky=True)])]).status == "warn"


def test_an_answer_to_health_in_front_is_told() -> None:
    """Fails when the smoke check of /health would look at something else, and nobody says so."""
    check = one([rule(20, [FIXED], path=["/health"]), DEFAULT])
    assert (check.name, check.status) == ("listener: smoke rule and rule 20", "warn")
    told = {check.name for check in judge([DEFAULT], PLAN, "task-service")}
    assert told == {"listener: who answers all eight task routes", "listener: who answers GET /health"}


HOSTS = ["a.x", "b.x", "ab.x", "c.y"]
PATHS = ["/api/tasks", "/api/tasks/1", "/api/tasks/e", "/api/tasks/1/complete", "/api/x", "/"]
ACTIONS = [[forward(MONOLITH)], [forward(OTHER)], [FIXED], [OIDC, forward(MONOLITH)], [forward(MONOLITH, OTHER)]]
RULES = st.builds(
    lambda actions, conditions: (actions, {key: value for key, value in conditions.items() if value}),
    st.sampled_from(ACTIONS),
    st.fixed_dictionaries(
        {
            "host": st.lists(st.sampled_from(["a.x", "*.x", "?.x", "a*", "*.y"]), max_size=2, unique=True),
            "path": st.lists(
                st.sampled_from(["/api/*", "/api/tasks", "/api/tasks/*", "*/e", "/*/complete"]), max_size=2, unique=True
            ),
            "method": st.lists(st.sampled_from(["GET", "POST"]), max_size=1),
        }
    ),
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from([10, 20, 30, 200, 210, 220]), RULES), max_size=5, unique_by=lambda item: item[0]
    ),
    st.sampled_from(ACTIONS),
    st.sampled_from([(), ("a.x",), ("a.x", "*.y")]),
)
def test_every_request_of_a_small_world_that_changes_is_found_and_no_other(
    drawn: list[tuple[int, tuple[Any, Any]]], default: list[dict[str, Any]], hosts: tuple[str, ...]
) -> None:
    """Fails when the judgement of the rules and what they do to requests, tried one by one, ever disagree."""
    others = [rule(priority, actions, **conditions) for priority, (actions, conditions) in drawn]
    others.append(rule(None, default))
    plan = Plan(110, hosts, MONOLITH)
    live, plain = plan.live(MONOLITH), rule(None, [forward(MONOLITH)])
    changed, kept = set(), set()
    for method, host, path in product(["GET", "POST", "PUT"], HOSTS, PATHS):
        request = Request(method, host, path, {}, (), "10.0.0.1")
        before, after = find_rule(others, request), find_rule([*others, live], request)
        assert before is not None
        if after is live and (before.weights, before.fixed, before.before) != (plain.weights, None, ()):
            changed.add(before.arn)
        if live.matches(request) and after is not live and (method, path) in set(SAMPLES.values()):
            kept.add(before.arn)
    # The world has the hosts and paths that the patterns tell apart but for a few that nothing here stands for.
    judged = {touched.rule.arn for touched in changed_at_zero(others, plan)}
    assert changed <= judged
    assert kept <= {touched.rule.arn for touched in kept_away(others, plan)}
    for arn in judged - changed:
        assert _somebody(others, live, arn), arn


def _somebody(others: list[Rule], live: Rule, arn: str) -> bool:
    """Whether there is a request in a larger world that the live rule takes and that this rule answered before."""
    hosts = [*HOSTS, "", "z", "x.x", ".x", ".y", "a.y", "a", "ab", "a.x.y", "a.z", "z.x.y"]
    paths = ["/api/tasks", *(f"/api/tasks/{rest}" for rest in ("", "z", "e", "/e", "z/e", "/complete", "z/complete"))]
    for method, host, path in product(["GET", "POST", "PUT", "HEAD"], hosts, paths):
        request = Request(method, host, path, {}, (), "10.0.0.1")
        before = find_rule(others, request)
        if before is not None and before.arn == arn and find_rule([*others, live], request) is live:
            return True
    return False
