"""A rehearsal whose account is as the plan does not want it ends before the first `up`, with the right sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config_values import read_stack_file
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.testbed import Testbed as Bed
from scripts.support.errors import MigrationError


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A rehearsal's account and stack file; nothing is deployed, and no database runs."""
    output: Path = tmp_path_factory.mktemp("rehearsal") / "run"
    with Bed(Plan(rows=1, users=1, rate=1.0, watch=6.0, seed=1, engine="embedded", output=output)) as made:
        made.aws.start()
        made.configure()
        yield made


def test_the_account_of_a_rehearsal_is_as_the_plan_wants_it(bed: Bed) -> None:
    assert bed.look_at_account() > 5


LOGIN = {
    **{"Issuer": "https://id.example.com", "AuthorizationEndpoint": "https://id.example.com/a", "ClientId": "x"},
    **{
        "TokenEndpoint": "https://id.example.com/t",
        "UserInfoEndpoint": "https://id.example.com/u",
        "ClientSecret": "y",
    },
}
#: A rule's priority, its path, what stands before its way to the monolith, and what is said.
RULES: dict[str, tuple[int, str, list[dict[str, Any]], str]] = {
    "in front": (40, "/api/*", [], r"weight 100 and rule 40: .*the monolith would go on answering.*liveRulePriority"),
    "behind": (
        300,
        "/api/tasks*",
        [{"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": LOGIN}],
        r"weight 0 and rule 300: .*authenticate-oidc, then myteacher-monolith.*set hostHeaders",
    ),
}


@pytest.mark.parametrize("where", RULES)
def test_a_rule_of_others_in_front_or_behind_ends_it(bed: Bed, where: str) -> None:
    """Fails when a rehearsal goes well though weight 0 would end logins, or weight 100 would move nothing."""
    priority, path, steps, said = RULES[where]
    config = read_stack_file(bed.stack_file)
    elb = bed.aws.client("elbv2")
    rule = elb.create_rule(
        ListenerArn=config["listenerArn"],
        Priority=priority,
        Conditions=[{"Field": "path-pattern", "Values": [path]}],
        Actions=[*steps, {"Type": "forward", "Order": 2, "TargetGroupArn": config["monolithTargetGroupArn"]}],
    )["Rules"][0]["RuleArn"]
    try:
        with pytest.raises(MigrationError, match=said):
            bed.look_at_account()
    finally:
        elb.delete_rule(RuleArn=rule)
