"""A rehearsal whose security groups let nobody in ends as a night on AWS would: at the first command, with the key that opens the way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from components.config_stack import StackConfig
from components.config_values import parse
from scripts.database.connections import NotConnected, connect
from scripts.preflight.account import run as account
from scripts.preflight.account import ways
from scripts.rehearsal import wrong
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.testbed import Testbed as Bed
from scripts.support.redact import redact
from tests.engine_support import SMOKE_VALUE


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bed, EmbeddedDeployer, dict[str, Any]]]:
    """A rehearsal's account, deployed without a way for operators; no database runs."""
    output = tmp_path_factory.mktemp("rehearsal") / "run"
    plan = partial(Plan, rows=1, users=1, rate=1.0, watch=6.0, seed=1, engine="embedded", output=output)
    with Bed(plan(wrong="operator-way")) as made:
        made.aws.start()
        config = {**made.configure(), "smokeHeaderValue": SMOKE_VALUE}
        deployer = EmbeddedDeployer(output / "state.json", config, made.aws.environment())
        made.outputs = deployer.up({}).outputs
        yield made, deployer, config


class Without:
    """The account's EC2 without some rules."""

    def __init__(self, ec2: Any, *left_out: dict[str, Any]) -> None:
        self.describe_security_groups = ec2.describe_security_groups
        self._ec2, self._ids = ec2, {rule["SecurityGroupRuleId"] for rule in left_out}

    def get_paginator(self, operation: str) -> Any:
        paginate = self._ec2.get_paginator(operation).paginate

        def without(**more: Any) -> Iterator[dict[str, Any]]:
            for page in paginate(**more):
                rules = page["SecurityGroupRules"]
                yield {"SecurityGroupRules": [rule for rule in rules if rule["SecurityGroupRuleId"] not in self._ids]}

        return SimpleNamespace(paginate=without)


@pytest.mark.timeout(300)
def test_a_command_reaches_a_database_only_by_a_rule(bed: tuple[Bed, EmbeddedDeployer, dict[str, Any]]) -> None:
    """Fails when a stack without a way for operators rehearses well, and the first command of the night gets no answer."""
    made, deployer, _ = bed
    made.outputs = deployer.up({"operatorSecurityGroupIds": [], "operatorReachesSource": False}).outputs
    for name, key in (
        ("TARGET_DATABASE_URL", "into operatorSecurityGroupIds, then pulumi up"),
        ("SOURCE_DATABASE_URL", "into operatorSecurityGroupIds, with operatorReachesSource: true"),
    ):
        with pytest.raises(NotConnected) as caught:
            connect(made.environment()[name], step="preflight", name=name)
        assert caught.value.kind == "way"
        assert key in caught.value.remedy
    made.outputs = deployer.up(opened(made)).outputs
    urls = made.environment()
    assert urls["TARGET_DATABASE_URL"] == made.databases.target_url
    assert urls["SOURCE_DATABASE_URL"] == made.databases.source_url


def test_no_word_of_a_rehearsal_is_one_of_its_passwords(bed: tuple[Bed, EmbeddedDeployer, dict[str, Any]]) -> None:
    """Fails when a password of the account is a word, and `deployed on *** AWS` is what a person reads."""
    made, _, config = bed
    told = {key: value for key, value in config.items() if key != "smokeHeaderValue"}
    account.checks(parse(StackConfig, {**told, "replicationEngine": "dms"}), made.aws.client)
    said = "pulumi program deployed on emulated AWS (embedded engine); users have tokens of the emulated Cognito"
    assert redact(said) == said


def opened(bed: Bed) -> dict[str, Any]:
    by_name = [{"Name": "group-name", "Values": ["myteacher-operators"]}]
    groups = bed.aws.client("ec2").describe_security_groups(Filters=by_name)["SecurityGroups"]
    return {"operatorSecurityGroupIds": [groups[0]["GroupId"]], "operatorReachesSource": True}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["native", pytest.param("dms", marks=pytest.mark.last)])  # its tasks are protected
def test_each_rule_that_was_taken_away_is_missed(
    engine: str, bed: tuple[Bed, EmbeddedDeployer, dict[str, Any]]
) -> None:
    """Fails when the program declares a way that `preflight --account` does not know, or only one end of it is looked at."""
    made, deployer, before = bed
    told = {**before, **opened(made), "replicationEngine": engine}
    config = parse(StackConfig, {key: value for key, value in told.items() if key != "smokeHeaderValue"})
    deployer.up({"replicationEngine": engine, **opened(made)})
    ec2 = made.aws.client("ec2")
    (check,) = ways.checks(config, made.aws.client)
    assert check.status == "pass"
    rules = ec2.describe_security_group_rules()["SecurityGroupRules"]
    ours = [rule for rule in rules if {"Key": "ManagedBy", "Value": "pulumi"} in rule.get("Tags", [])]
    # Five ways of service, link and operators, two of the engine, each on two groups; and out to AWS.
    assert len(ours) == 2 * 7 + (2 if engine == "dms" else 1)
    # What AWS gives every group: out to anywhere. With it a way is open without the program's.
    given = [rule for rule in rules if rule["IsEgress"] and rule not in ours]
    for rule in ours:
        account = Without(ec2, rule, *given)
        (check,) = ways.checks(config, lambda service, account=account: account)  # type: ignore[misc]
        assert check.status == "fail", rule
        where = f"{'out of' if rule['IsEgress'] else 'into'} {rule['GroupId']}"
        assert f"no rule lets TCP {rule['FromPort']} {where}, for " in check.detail
        assert check.detail.count("no rule") == 1


@pytest.mark.last
def test_a_service_whose_rule_was_taken_away_gets_to_no_database(
    bed: tuple[Bed, EmbeddedDeployer, dict[str, Any]],
) -> None:
    """Fails when only preflight knows of the rules, and the rehearsal's service works without one."""
    made = bed[0]
    ec2, name = made.aws.client("ec2"), [{"Name": "group-name", "Values": ["task-service-staging-service"]}]
    service = [group["GroupId"] for group in ec2.describe_security_groups(Filters=name)["SecurityGroups"]]
    assert made.by_groups("target", made.databases.master_url, service) == made.databases.master_url
    wrong.after_up("service-way", made.aws, "staging")
    assert made.by_groups("target", made.databases.master_url, service) != made.databases.master_url
