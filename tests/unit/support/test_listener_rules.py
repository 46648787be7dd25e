"""Rules of a load balancer's listener: what is decided on the API's own dicts."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from scripts.support.errors import MigrationError
from scripts.support.listener_rules import (
    LAST,
    FixedResponse,
    Request,
    Rule,
    choose,
    find_rule,
    group_name,
    parse_rule,
    patterns_of,
    possible,
    read_rules,
    witnesses,
)

MONOLITH, TASK = "arn:tg:targetgroup/monolith/1", "arn:tg:targetgroup/task-service/2"


def _rule(priority: str, action: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "RuleArn": f"rule-{priority}",
        "Priority": priority,
        "IsDefault": priority == "default",
        "Conditions": list(conditions),
        "Actions": [action],
    }


def _forward(**weights: int) -> dict[str, Any]:
    arns = {"monolith": MONOLITH, "task": TASK}
    groups = [{"TargetGroupArn": arns[name], "Weight": weight} for name, weight in weights.items()]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}


def _path(*values: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}


def _header(name: str, *values: str) -> dict[str, Any]:
    return {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": list(values)}}


RULES = [
    parse_rule(item)
    for item in (
        _rule("default", {"Type": "forward", "TargetGroupArn": MONOLITH}),
        _rule("110", _forward(monolith=95, task=5), _path("/api/tasks", "/api/tasks/*")),
        _rule(
            "109", _forward(task=100), _header("X-Task-Service-Smoke", "s3cret"), _path("/api/tasks", "/api/tasks/*")
        ),
    )
]


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/api/tasks", {}, "rule-110"),
        ("/api/tasks/7/complete", {}, "rule-110"),
        ("/api/tasksmith", {}, "rule-default"),
        ("/API/tasks", {}, "rule-default"),
        ("/health", {"x-task-service-smoke": "s3cret"}, "rule-default"),
        ("/api/tasks", {"x-task-service-smoke": "s3cret"}, "rule-109"),
        ("/api/tasks", {"x-task-service-smoke": "guess"}, "rule-110"),
    ],
)
def test_the_first_rule_by_priority_whose_conditions_all_hold_decides(
    path: str, headers: dict[str, str], expected: str
) -> None:
    """Prevents a smoke check that reaches the monolith, and live traffic that reaches the Task Service by the smoke rule."""
    rule = find_rule(RULES, Request("GET", "", path, headers))
    assert rule is not None
    assert rule.arn == expected


def test_requests_are_split_by_the_weights() -> None:
    """Prevents a canary of another size than the rule says."""
    random = Random(1)
    rule = RULES[1]
    chosen = Counter(choose(rule.weights, random.random) for _ in range(20_000))
    assert chosen[TASK] / chosen.total() == pytest.approx(0.05, abs=0.005)
    assert choose(rule.weights, lambda: 0.0) == MONOLITH
    assert choose(rule.weights, lambda: 0.9499) == MONOLITH
    assert choose(rule.weights, lambda: 0.95) == TASK
    assert choose(rule.weights, lambda: 0.999999) == TASK


def test_weight_zero_gets_nothing_and_all_zero_leads_nowhere() -> None:
    """Prevents a request to a side that was taken out."""
    only = parse_rule(_rule("1", _forward(monolith=100, task=0)))
    assert {choose(only.weights, Random(seed).random) for seed in range(500)} == {MONOLITH}
    assert choose(parse_rule(_rule("1", _forward(monolith=0, task=0))).weights, lambda: 0.0) is None


def _query(*pairs: tuple[str, str]) -> dict[str, Any]:
    values = [{"Key": key, "Value": value} if key else {"Value": value} for key, value in pairs]
    return {"Field": "query-string", "QueryStringConfig": {"Values": values}}


def _source(*blocks: str) -> dict[str, Any]:
    return {"Field": "source-ip", "SourceIpConfig": {"Values": list(blocks)}}


#: A condition, whether it holds for the request below, and whether that is known without headers, query and address.
CONDITIONS: list[tuple[dict[str, Any], bool, bool]] = [
    (_path("/a?c"), True, True),
    (_path("/a"), False, True),
    ({"Field": "path-pattern", "Values": ["/abc"]}, True, True),
    ({"Field": "host-header", "HostHeaderConfig": {"Values": ["*.EXAMPLE.com"]}}, True, True),
    ({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["POST"]}}, False, True),
    (_header("X-A", "b*"), True, False),
    (_header("x-other", "*"), False, False),
    (_query(("Version", "v?")), True, False),
    (_query(("", "*2")), True, False),
    (_query(("other", "v2")), False, False),
    (_source("10.0.0.0/8", "192.0.2.7/32"), True, False),
    (_source("2001:db8::/32"), False, False),
    # A block that is written by a host in it.
    (_source("192.0.2.130/24"), True, False),
]


@pytest.mark.parametrize(("condition", "holds", "known"), CONDITIONS)
def test_conditions_hold_as_the_load_balancer_reads_them(condition: dict[str, Any], holds: bool, known: bool) -> None:
    """Prevents a pattern that is read as a regular expression, case that matters where it does not, and a guess."""
    rule = parse_rule(_rule("1", _forward(task=1), condition))
    whole = Request("GET", "api.example.com", "/abc", {"x-a": "Better"}, [("version", "V2")], "192.0.2.7")
    assert rule.matches(whole) is holds
    assert rule.matches(Request("GET", "api.example.com", "/abc")) is (holds if known else None)


@pytest.mark.parametrize(
    "condition",
    [
        {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": ["^/api"]}},
        {"Field": "host-header", "HostHeaderConfig": {"RegexValues": ["^api"]}},
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "RegexValues": ["^b"]}},
        {"Field": "something-new"},
    ],
)
def test_what_cannot_be_judged_is_an_error_not_a_guess(condition: dict[str, Any]) -> None:
    """Prevents a rehearsal that passes because a condition or an action was ignored."""
    strange = parse_rule(_rule("1", _forward(task=1), condition))
    with pytest.raises(
        MigrationError, match=f"rule rule-1 has a condition on {condition['Field']} that cannot be judged"
    ):
        find_rule([strange], Request("GET", "", "/", {}, (), "10.0.0.1"))
    # Where another condition fails, it does not matter.
    assert parse_rule(_rule("1", _forward(task=1), condition, _path("/x"))).matches(Request("GET", "", "/y")) is False
    with pytest.raises(MigrationError, match="'something-else', which is not known here"):
        parse_rule(_rule("1", {"Type": "something-else"}))
    # An action without an order comes first.
    with pytest.raises(MigrationError, match="'authenticate-oidc'"):
        parse_rule({**_rule("1", LOGIN), "Actions": [LOGIN, REDIRECT]})


def _sticky(enabled: object) -> dict[str, Any]:
    action = _forward(monolith=1, task=3)
    action["ForwardConfig"]["TargetGroupStickinessConfig"] = {"Enabled": enabled, "DurationSeconds": "60"}
    return action


def _answer(**more: str) -> dict[str, Any]:
    return {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "410", **more}}


GROUPS = {"ForwardConfig": {"TargetGroups": [{"TargetGroupArn": TASK}, {"TargetGroupArn": MONOLITH, "Weight": "0"}]}}
LOGIN = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {}}
REDIRECT = {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}
REWRITE = {"Type": "url-rewrite"}


@pytest.mark.parametrize(
    ("described", "read"),
    [
        (_rule("7", _forward(monolith=95, task=5)), Rule("rule-7", 7, (), {MONOLITH: 95, TASK: 5})),
        (_rule("default", {"Type": "forward", "TargetGroupArn": TASK}), Rule("rule-default", LAST, (), {TASK: 1})),
        (_rule("7", {"Type": "forward", **GROUPS}, _path("/a")), Rule("rule-7", 7, (_path("/a"),), {TASK: 1, MONOLITH: 0})),
        (_rule("7", _sticky(True)), Rule("rule-7", 7, (), {MONOLITH: 1, TASK: 3}, sticky=60)),
        (_rule("7", _sticky("true")), Rule("rule-7", 7, (), {MONOLITH: 1, TASK: 3}, sticky=60)),
        (_rule("7", _sticky(False)), Rule("rule-7", 7, (), {MONOLITH: 1, TASK: 3}, sticky=0)),
        (_rule("7", _answer()), Rule("rule-7", 7, (), fixed=FixedResponse(410, "", "text/plain"))),
        (_rule("7", _answer(MessageBody="gone", ContentType="text/html")), Rule("rule-7", 7, (), fixed=FixedResponse(410, "gone", "text/html"))),
        (_rule("7", REDIRECT), Rule("rule-7", 7, (), redirect={"StatusCode": "HTTP_301"})),
        # A login is no plain way to the monolith, wherever it stands in the answer.
        ({**_rule("7", {**_forward(task=1), "Order": 2}), "Actions": [{**_forward(task=1), "Order": 2}, LOGIN]},
         Rule("rule-7", 7, (), {TASK: 1}, before=(LOGIN,))),
        ({**_rule("7", _forward(task=1)), "Transforms": [REWRITE]}, Rule("rule-7", 7, (), {TASK: 1}, before=(REWRITE,))),
    ],
)  # fmt: skip
def test_a_rule_is_read_whole(described: dict[str, Any], read: Rule) -> None:
    """Prevents a weight, a cookie, an answer or a login that the load balancer has, and nobody here."""
    assert parse_rule(described) == read


@pytest.mark.parametrize(
    ("weights", "share"),
    [({TASK: 5, MONOLITH: 95}, 0.05), ({TASK: 3, MONOLITH: 1}, 0.75), ({MONOLITH: 100}, 0.0), ({TASK: 7}, 1.0), ({TASK: 0}, 0.0)],
)  # fmt: skip
def test_a_groups_share_is_its_weight_among_all(weights: dict[str, int], share: float) -> None:
    """Prevents a canary that is told as another than the load balancer's."""
    assert Rule("r", 1, (), weights).share(TASK) == share


PATTERNS = st.text(alphabet="ab*?", min_size=1, max_size=5)


@given(st.lists(PATTERNS, max_size=5), st.text(alphabet="abz", max_size=6))
def test_every_way_in_which_patterns_can_match_has_a_witness(patterns: list[str], value: str) -> None:
    """Prevents a host or a path that the rules tell apart and that nobody tried."""

    def vector(text: str) -> tuple[bool, ...]:
        request = Request("GET", "", text)
        return tuple(
            bool(parse_rule(_rule("1", _forward(task=1), _path(pattern))).matches(request)) for pattern in patterns
        )

    found = [vector(text) for text in witnesses(patterns)]
    assert vector(value) in found
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("patterns", "one_each"),
    [
        ([], {""}),
        (["a"], {"", "a"}),
        # `**` says what `*` says; what is in no pattern stands for all that is in none.
        (["a**"], {"", "a"}),
        (["*"], {""}),
        (["a?", "ab"], {"", "aa", "ab"}),
        (["ab", "ab*"], {"", "ab", "aba"}),
        (["*.b", "a.*"], {"", ".b", "a.", "a.b"}),
        (["*?", "b"], {"", "a", "b"}),
    ],
)
@pytest.mark.timeout(10)
def test_patterns_have_one_witness_for_each_way(patterns: list[str], one_each: set[str]) -> None:
    """Prevents a walk without an end, and one host that is asked about twice."""
    found = witnesses(patterns)
    assert len(found) == len(one_each)
    assert not {"*", "?"} & set("".join(found)), "it is shown to people beside patterns"
    rules = [parse_rule(_rule("1", _forward(task=1), _path(one))) for one in patterns]

    def ways(texts: Any) -> set[tuple[bool | None, ...]]:
        return {tuple(rule.matches(Request("GET", "", text)) for rule in rules) for text in texts}

    assert ways(found) == ways(one_each)


def test_patterns_that_are_too_many_to_judge_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a check that takes all memory: `a` read, or not yet, or something else, is three states."""
    monkeypatch.setattr("scripts.support.listener_rules._MOST_STATES", 3)
    assert len(witnesses(["a"])) == 2
    monkeypatch.setattr("scripts.support.listener_rules._MOST_STATES", 2)
    with pytest.raises(MigrationError, match="^the listener's patterns are more than can be judged: over 2 states$"):
        witnesses(["a"])


@pytest.mark.timeout(20)
def test_a_hundred_hosts_are_gone_through_quickly() -> None:
    """Prevents a check that never ends on a listener that is full."""
    hosts = [f"app-{number}.tenant-{number % 7}.example.com" for number in range(90)] + [
        "*.example.com",
        "*.tenant-?.*",
    ]
    assert len(witnesses(hosts)) >= 92


ANY_HOST = {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com", "a"]}}


def test_who_may_answer_is_every_rule_down_to_the_first_that_does() -> None:
    """Prevents a rule that takes the tasks' requests by a header, and nobody is told of."""
    sealed = _rule("1", _forward(task=1), _path("/x"))
    hidden = _rule("2", _forward(task=1), _header("x-a", "b"), _path("/a"))
    plain, after, last = (
        _rule("5", _forward(task=1), _path("/a")),
        _rule("7", _forward(task=1)),
        _rule("default", _forward(task=1)),
    )
    rules = [parse_rule(one) for one in (last, after, plain, hidden, sealed)]
    assert [one.arn for one in possible(rules, Request("GET", "", "/a"))] == ["rule-2", "rule-5"]
    assert [one.arn for one in possible(rules, Request("GET", "", "/a", {"x-a": "b"}))] == ["rule-2"]
    assert [one.arn for one in possible(rules, Request("GET", "", "/b"))] == ["rule-7"]
    assert possible(rules[-1:], Request("GET", "", "/b")) == []
    assert find_rule(rules[-1:], Request("GET", "", "/b")) is None


def test_the_patterns_of_rules_are_those_of_both_forms() -> None:
    """Prevents a path or a host of another rule that nobody tries."""
    old, regular = (
        {"Field": "path-pattern", "Values": ["/old"]},
        {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": ["^/"]}},
    )
    old_host = {"Field": "host-header", "Values": ["old"]}
    rules = [
        parse_rule(_rule("1", _forward(task=1), ANY_HOST, _path("/a", "/b"))),
        parse_rule(_rule("2", _forward(task=1), old, regular, old_host)),
    ]
    assert patterns_of(rules, "path-pattern") == ["/a", "/b", "/old"]
    assert patterns_of(rules, "host-header") == ["*.example.com", "a", "old"]


def test_every_page_of_rules_is_read() -> None:
    """Prevents a listener of which the rules after the first page are nobody's."""
    elb = boto3.client("elbv2", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(elb) as stub:
        stub.add_response(
            "describe_rules", {"Rules": [{"RuleArn": "a"}, {"RuleArn": "b"}], "NextMarker": "2"}, {"ListenerArn": "l"}
        )
        stub.add_response("describe_rules", {"Rules": [{"RuleArn": "c"}]}, {"ListenerArn": "l", "Marker": "2"})
        assert [one["RuleArn"] for one in read_rules(elb, "l")] == ["a", "b", "c"]


def test_a_target_group_has_its_name_in_its_arn() -> None:
    """Prevents targets that cannot be given by name before their ARN is known."""
    arn = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:targetgroup/task-service/73e2d6bc24d8a067"
    assert group_name(arn) == "task-service"
    assert group_name("a/name") == "a/name"
