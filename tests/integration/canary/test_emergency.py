"""Back to the monolith on the emulated AWS when Pulumi cannot run, for each cause; and the next `up` agrees with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import PROJECT
from components.config_values import read_stack_file
from scripts.canary import rollback
from scripts.canary.service_control import ServiceControl
from scripts.canary.stage import Emergency, Stage
from scripts.canary.traffic import LoadBalancer, find_rule, rule_of_outputs
from scripts.deployment.stack_file import StackFile
from scripts.rehearsal.emulated import registry
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.emulated.properties import plain
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.state import State, locked
from scripts.rehearsal.release import push_image, put_values
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import Refused
from scripts.support.listener_rules import parse_rule
from scripts.support.settings import PROJECT_ROOT, Settings
from tests.cloud import Cloud
from tests.conftest import Pair
from tests.engine_support import stack_config, weights
from tests.integration.test_chain import MakePair, running

#: What a CLI says in each case, and with which status (Pulumi, 'pulumi up'; a 409 of the service).
FAILING_CLI = """#!{python}
import sys
words = sys.argv[1:]
if "version" in words:
    print("v3.250.0")
    sys.exit(0)
sys.exit("error: " + {says!r})
"""
REGISTERED = {
    "ServiceNamespace": "ecs",
    "ScalableDimension": "ecs:service:DesiredCount",
    "ResourceId": "service/myteacher-cluster/task-service",
}
AWAY = "could not open backend: dial tcp 192.0.2.1:443: i/o timeout"
LOCKED = "[409] Conflict: Another update is currently in progress."


@dataclass
class World:
    """A deployed stack at 25 %, its databases, and its file as an operator has it."""

    aws: EmulatedAws
    deployer: EmbeddedDeployer
    outputs: dict[str, Any]
    pair: Pair
    directory: Path

    def weight(self) -> int:
        found = weights(self.aws, self.outputs["liveRuleArn"])
        return round(100 * found.get(self.outputs["taskTargetGroupArn"], 0) / sum(found.values()))

    def sticky(self) -> bool:
        (rule,) = self.aws.client("elbv2").describe_rules(RuleArns=[self.outputs["liveRuleArn"]])["Rules"]
        return bool(parse_rule(rule).sticky)

    def balancer(self) -> LoadBalancer:
        return LoadBalancer(self.aws.client("elbv2"), rule_of_outputs(self.outputs))

    def service(self) -> ServiceControl:
        ecs, scaling, balancer = (self.aws.client(name) for name in ("ecs", "application-autoscaling", "elbv2"))
        return ServiceControl(ecs, scaling, balancer, self.outputs)

    def declared(self) -> Any:
        return read_stack_file(self.directory / "Pulumi.night.yaml")["canaryWeight"]

    def raise_again(self) -> None:
        """25 % at the load balancer and in the file, as a step left them."""
        shares = ((self.outputs["monolithTargetGroupArn"], 75), (self.outputs["taskTargetGroupArn"], 25))
        groups = [{"TargetGroupArn": arn, "Weight": share} for arn, share in shares]
        self.aws.client("elbv2").modify_rule(
            RuleArn=self.outputs["liveRuleArn"],
            Actions=[
                {
                    "Type": "forward",
                    "ForwardConfig": {
                        "TargetGroups": groups,
                        "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60},
                    },
                }
            ],
        )
        StackFile("night", self.directory).keep({"canaryWeight": 25})

    def run(self, *words: str, cli: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command as an operator's shell runs it, with no `pulumi` on PATH, or one that fails and says ``cli``."""
        path = [str(Path(sys.executable).parent), "/usr/bin", "/bin"]
        if cli is not None:
            program = self.directory / "bin" / "pulumi"
            program.parent.mkdir(exist_ok=True)
            program.write_text(FAILING_CLI.format(python=sys.executable, says=cli))
            program.chmod(0o755)
            path.insert(0, str(program.parent))
        environment = {
            **self.aws.environment(),
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(PROJECT_ROOT),
            "HOME": str(self.directory),
            "PULUMI_STACK": "night",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "TASK_MIGRATION_STATE_DIR": str(self.pair.settings.state_dir),
            "SOURCE_DATABASE_URL": self.pair.settings.source(),
            "TARGET_DATABASE_URL": self.pair.settings.target(),
        }
        command = [sys.executable, "-m", "scripts", "rollback", *words, "--json"]
        return subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedAws, EmbeddedDeployer, dict[str, Any]]]:
    """The whole program, deployed once."""
    with EmulatedAws() as aws:
        config = stack_config(build_world(aws)) | {"serviceEnabled": True}
        state = tmp_path_factory.mktemp("engine") / "state.json"
        deployer = EmbeddedDeployer(state, config, aws.environment())
        deployer.up({})
        push_image(aws, str(config["serviceImageTag"]))
        put_values(aws, "secret-of-role", {})
        yield aws, deployer, config


@pytest.fixture
def world(account: tuple[EmulatedAws, EmbeddedDeployer, dict[str, Any]], make_pair: MakePair, tmp_path: Path) -> World:
    aws, deployer, config = account
    outputs = deployer.up({"canaryWeight": 25}).outputs
    pair = running(make_pair, drain_seconds=0.2)
    directory = tmp_path / "night"
    directory.mkdir()
    own = {key: value for key, value in config.items() if key != "smokeHeaderValue"}
    own |= {
        "canaryWeight": 25,
        "replicationEngine": "native",
        "publication": pair.settings.config.publication,
        "subscription": pair.settings.config.subscription,
        "drainSeconds": 0.2,
    }
    text = yaml.safe_dump({"config": {f"{PROJECT}:{key}": value for key, value in own.items()}}, allow_unicode=True)
    (directory / "Pulumi.night.yaml").write_text("# kept by a person\n" + text)
    (directory / "Pulumi.yaml").write_text("name: task-migration\nruntime: python\n")
    return World(aws, deployer, outputs, pair, directory)


@pytest.mark.timeout(400)
def test_routes_go_back_at_once_when_pulumi_cannot_run_and_the_next_up_agrees(world: World) -> None:
    """Prevents a night on which the rollback waits for a tool, and a morning on which the tool undoes the rollback."""
    for cause in (None, AWAY, LOCKED):  # no CLI at all, backend away, state locked
        world.raise_again()
        assert (world.weight(), world.declared(), world.sticky()) == (25, 25, True)
        refused = world.run("--reason", "errors", cli=cause)
        assert refused.returncode in (1, 10), refused.stderr
        assert "task-migration rollback --emergency" in refused.stderr
        assert cause is None or cause.split(":")[0] in refused.stderr
        assert world.weight() == 25

        done = world.run("--emergency", "--reason", "errors", cli=cause)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["from"], document["to"], document["by"]) == (25, 0, "load balancer API")
        assert document["rows"]["different"] == []
        assert document["within_limit"]
        assert (world.weight(), world.declared(), world.sticky()) == (0, 0, False)
        assert (world.directory / "Pulumi.night.yaml").read_text().startswith("# kept by a person\n")

    # The next deployment, with the configuration as the file now has it: said as an update, and no change of the rule.
    preview = world.deployer.preview({"canaryWeight": world.declared()})
    assert [(change.op, change.name) for change in preview] == [("update", "routes-live-rule")]
    world.deployer.up({"canaryWeight": world.declared()})
    assert world.weight() == 0
    assert world.deployer.preview({}) == ()


def refreshed(world: World) -> None:
    """What an `up --refresh` does first: the state says what the account has."""
    account = Aws(world.aws.region, world.aws.environment())
    state = State.load(world.deployer.state_path)
    for resource in state.resources.values():
        if resource.name.startswith("service-s"):
            found = registry.read(account, resource.type, resource.id, plain(resource.inputs))
            assert found is not None
            resource.inputs, resource.outputs = found.inputs, found.outputs
    state.save()


@pytest.mark.timeout(400)
def test_a_locked_state_of_the_rehearsals_engine_and_a_stopped_service(world: World) -> None:
    """Prevents an emergency that forgets the configuration of a locked state, and an `up` or autoscaling that starts a
    service again which an operator stopped."""
    cloud = Cloud()
    settings: Settings = world.pair.settings
    stage = Stage(settings, world.balancer(), world.deployer, world.service(), metrics=cloud)
    service, scaling = world.service(), world.aws.client("application-autoscaling")
    least = service.start(timeout=30.0).running
    assert least == 2
    listener, monolith = world.outputs["listenerArn"], world.outputs["monolithTargetGroupArn"]
    elb = world.aws.client("elbv2")
    assert find_rule(elb, listener, 110, monolith) == rule_of_outputs(world.outputs)

    def page(params: dict[str, Any], **_: object) -> None:
        params["PageSize"] = 1

    elb.meta.events.register("provide-client-params.elastic-load-balancing-v2.DescribeRules", page)
    try:
        assert find_rule(elb, listener, 110, monolith) == rule_of_outputs(world.outputs), "rules are given by pages"
    finally:
        elb.meta.events.unregister("provide-client-params.elastic-load-balancing-v2.DescribeRules", page)
    with pytest.raises(Refused, match="no live rule at priority 50 .*liveRulePriority"):
        find_rule(elb, listener, 50, monolith)
    with locked(world.deployer.state_path):
        with pytest.raises(Refused, match="locked by another operation .*--emergency"):
            rollback.run(stage)
        emergency = Emergency(settings, world.balancer(), world.deployer, service)
        document = rollback.emergency(emergency, stop_service=True)
        assert world.weight() == 0
        for what in ("canaryWeight could NOT be set to 0", "serviceEnabled could NOT be set to false"):
            assert f"{what} in the configuration" in str(document.drift)
    document = rollback.emergency(replace(emergency), stop_service=True)
    assert document.config_set is True
    assert document.drift is not None
    assert "NOT" not in document.drift
    config = world.deployer.config()
    assert (config["canaryWeight"], config["serviceEnabled"]) == (0, False)

    def held() -> tuple[int, bool]:
        """Tasks wanted, and whether autoscaling is suspended."""
        target = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"][0]
        return service.health().wanted, all(target["SuspendedState"].values())

    # Each registration brings a service into its range, whoever makes it: one that leaves the least number as it stands too.
    scaling.register_scalable_target(**REGISTERED, MaxCapacity=5)
    assert held() == (0, True), "a registration started what an operator stopped"
    changes = [change.name for change in world.deployer.preview({})]
    # Where nothing is to run, nothing has to be healthy.
    assert sorted(changes) == ["monitoring-alarm-no-healthy-target", "routes-live-rule", "service-scaling"]
    for change in ({}, {"serviceMaxTasks": 6}, {"serviceMinTasks": 3}):
        world.deployer.up(change)
        assert (held(), world.weight()) == ((0, True), 0), f"an `up` with {change} started what an operator stopped"
        refreshed(world)
    assert world.deployer.preview({}) == ()
    world.deployer.up({"serviceMinTasks": least, "serviceEnabled": True})
    assert (world.service().start(timeout=30.0).healthy, held()) == (least, (least, False))
