"""The load balancer's group cookie: whom it binds, for how long, and to what."""

from __future__ import annotations

from http.cookies import SimpleCookie

from hypothesis import example, given
from hypothesis import strategies as st

from scripts.rehearsal.gateway.stickiness import NAME, TWIN, bound_group, cookies_for
from scripts.support.listener_rules import Rule

MONOLITH, TASK = "arn:aws:elb:r:1:targetgroup/monolith/1", "arn:aws:elb:r:1:targetgroup/task/2"
RULE = Rule("live", 110, (), {MONOLITH: 95, TASK: 5}, sticky=600)


def _kept(rule: Rule, group: str, at: float) -> dict[str, str]:
    """What a browser keeps of such an answer: the Cookie header's parts by name."""
    jar: SimpleCookie = SimpleCookie()
    for name, value in cookies_for(rule, group, at):
        assert name == b"set-cookie"
        jar.load(value.decode())
    return {name: f"{name}={morsel.value}" for name, morsel in jar.items()}


@given(st.sampled_from([MONOLITH, TASK]), st.floats(0, 1e10), st.floats(0, 1200), st.sampled_from([NAME, TWIN]))
def test_a_cookie_binds_to_its_group_for_the_rules_seconds(group: str, at: float, later: float, name: str) -> None:
    """Prevents users who change sides too early, or never: the twin alone says the same, other cookies beside it nothing."""
    header = f"theme=dark; {_kept(RULE, group, at)[name]}; lang=ja"
    if abs(later - RULE.sticky) > 0.01:  # the cookie's time has milliseconds
        assert bound_group(RULE, header, at + later) == (group if later < RULE.sticky else None)


def test_each_answer_begins_the_seconds_anew() -> None:
    """Prevents a rehearsal in which active users follow a higher weight: on AWS they do not, as each answer renews the cookie."""
    header = _kept(RULE, MONOLITH, 0.0)[NAME]
    for at in range(500, 5000, 500):
        group = bound_group(RULE, header, at)
        assert group == MONOLITH
        header = _kept(RULE, group, at)[NAME]


def test_a_weight_of_zero_still_binds_and_a_group_that_is_named_no_more_does_not() -> None:
    """Prevents a promotion or rollback that leaves users behind: at 0 and 100 % the rule names one group."""
    header = _kept(RULE, TASK, 0.0)[NAME]
    assert bound_group(Rule("live", 110, (), {MONOLITH: 100, TASK: 0}, sticky=600), header, 1.0) == TASK
    assert bound_group(Rule("live", 110, (), {MONOLITH: 100}, sticky=600), header, 1.0) is None


def test_a_rule_without_stickiness_gives_and_takes_no_cookie() -> None:
    """Prevents users who are still bound after `canaryStickySeconds` was taken away."""
    plain = Rule("live", 110, (), {MONOLITH: 50, TASK: 50})
    assert cookies_for(plain, TASK, 0.0) == []
    assert bound_group(plain, _kept(RULE, TASK, 0.0)[NAME], 0.0) is None


@given(st.text())
@example(f"{NAME}=bm9uc2Vuc2U=")
@example(f"{NAME}=%3D; {NAME}")
def test_a_cookie_that_nobody_can_read_leaves_the_choice_to_the_weights(text: str) -> None:
    """Prevents a gateway that falls over what a client sends."""
    assert bound_group(RULE, text, 0.0) is None
    assert bound_group(RULE, f"{NAME}={text}", 0.0) is None


def test_the_twin_is_for_pages_of_other_origins_over_tls() -> None:
    """Prevents a browser that keeps neither: it wants SameSite=None and Secure of a cookie that another origin's page sends."""
    first, second = (value.decode() for _, value in cookies_for(RULE, TASK, 0.0))
    assert first.endswith("; Expires=Thu, 08 Jan 1970 00:00:00 GMT; Path=/")
    assert second == first.replace(NAME, TWIN) + "; SameSite=None; Secure"
