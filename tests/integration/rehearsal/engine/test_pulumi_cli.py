"""The real engine, driven as at night: previews, every step, kills, drift, a backend that is away (issue 5, point 7)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.deployment.cli_deployer import CliDeployer
from scripts.deployment.errors import CannotDeploy, Killed
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.wait import wait_until
from tests.engine_support import (
    OUTLIVES,
    SMOKE_VALUE,
    inventory,
    left,
    refreshed,
    stack_config,
    take_down,
    weights,
    write_program,
)
from tests.held_aws import HeldAws

pytestmark = pytest.mark.engine
LIVE_RULE = "aws:lb/listenerRule:ListenerRule"
SMALL = """
config = pulumi.Config('task-migration')
weight = config.require_int('canaryWeight')
for name in ('first', 'second')[: weight // 10 or 1]:
    aws.cloudwatch.LogGroup(name, name=f'/{name}', retention_in_days=7, tags={'weight': str(weight)})
"""

#: Stands in for the one that an installed CLI has beside it, and asks for the plugin as that does.
LANGUAGE_HOST = """#!{python}
import os, runpy, threading
from concurrent import futures
import grpc
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
class Host(LanguageServer):
    def GetRequiredPackages(self, request, context):
        aws = plugin_pb2.PackageDependency(name="aws", kind="resource", version="v7.51.1")
        return language_pb2.GetRequiredPackagesResponse(packages=[aws])
def run():
    with open("ran", "a") as file:
        file.write("by the host")
    runpy.run_path({program!r}, run_name="__main__")
os.chdir({program!r})
server = grpc.server(futures.ThreadPoolExecutor(8))
language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(run), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatedAws]:
    with EmulatedAws() as running:
        yield running


@pytest.fixture
def aws(server: EmulatedAws) -> EmulatedAws:
    """The account, emptied."""
    server.reset()
    return server


@pytest.fixture
def way(aws: EmulatedAws) -> Iterator[HeldAws]:
    with HeldAws(aws) as running:
        yield running


@pytest.fixture
def small(aws: EmulatedAws, way: HeldAws, tmp_path: Path) -> PulumiDeployer:
    """A program of one log group (two from weight 20 on), behind the way that can hold an answer."""
    environment = {**aws.environment(), "AWS_ENDPOINT_URL": way.url}
    program = write_program(tmp_path / "program", SMALL)
    return PulumiDeployer(tmp_path / "engine", {"canaryWeight": 5}, environment, program=program)


def kill_while(way: HeldAws, call: str, action: Callable[[], object]) -> None:
    """Run ``action`` and kill -9 its CLI after AWS carried out ``call`` and before anybody noted it."""
    way.hold(call)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(action)
        wait_until(lambda: way.held.is_set() or done.done(), bool, what=f"AWS was asked for {call}", timeout=240)
        children = psutil.Process().children(recursive=True)
        commands = [child for child in children if child.name() == "pulumi"]
        assert len(commands) == 1, [child.name() for child in children]
        family = commands[0].children(recursive=True)
        commands[0].kill()
        with pytest.raises(Killed, match="pulumi up was ended by SIGKILL; run the command again"):
            done.result(60)
    way.release()
    _, left = psutil.wait_procs(family, timeout=60)
    assert not left, "the plugin or the language host outlived the CLI"


def pending(deployer: PulumiDeployer) -> dict[str, str]:
    """What a killed operation was doing when it was cut, as the state has it: URN -> creating, updating, deleting."""
    return {item["resource"]["urn"]: item["type"] for item in deployer._state().get("pending_operations") or []}


def short(changes: Any) -> list[tuple[str, str]]:
    return [(change.op, change.name) for change in changes]


def test_a_deployment_that_could_not_begin_keeps_no_override(
    small: PulumiDeployer, aws: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when the configuration says 50 % after an `up` that never began, and the next one moves the traffic unasked."""
    assert short(small.up({"canaryWeight": 5}).changes) == [("create", "first")]
    text = (tmp_path / "engine" / "Pulumi.rehearsal.yaml").read_text()
    variables = small._variables

    # The backend is away.
    (tmp_path / "engine" / "backend").rename(tmp_path / "away")
    with pytest.raises(
        CannotDeploy, match=r"backend file://\S+/backend does not answer.*rollback --emergency"
    ) as caught:
        small.up({"canaryWeight": 50})
    assert caught.value.why == "backend"
    with pytest.raises(CannotDeploy, match="backend .* does not answer"):
        CliDeployer("rehearsal", tmp_path / "engine", variables)
    small.keep({"canaryWeight": 0})  # what an emergency needs goes on
    assert small.config()["canaryWeight"] == 0
    small.keep({"canaryWeight": 5})
    (tmp_path / "away").rename(tmp_path / "engine" / "backend")
    bucket = f"s3://nowhere?region=ap-northeast-1&endpoint={aws.endpoint_url}&s3ForcePathStyle=true"
    for url in (bucket, "https://127.0.0.1:1"):
        with pytest.raises(CannotDeploy, match="does not answer or refuses us"):
            CliDeployer("rehearsal", tmp_path / "engine", {**variables, "PULUMI_BACKEND_URL": url})

    # The stack is locked by a process of another machine.
    locks = tmp_path / "engine" / "backend" / ".pulumi" / "locks" / "organization" / "task-migration" / "rehearsal"
    locks.mkdir(parents=True, exist_ok=True)
    holder = {"pid": 1, "username": "colleague", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"}
    (locks / "00000000-0000-0000-0000-000000000000.json").write_text(json.dumps(holder))
    with pytest.raises(CannotDeploy, match=r"locked.*pulumi cancel.*colleague@elsewhere \(pid 1\)") as caught:
        small.up({"canaryWeight": 50})
    assert caught.value.why == "locked"
    assert "nothing was changed, and Pulumi.rehearsal.yaml is as it was before canaryWeight 50" in str(caught.value)
    with pytest.raises(
        CannotDeploy, match=r"canaryWeight 0 is kept in Pulumi\.rehearsal\.yaml, since a way back is not undone"
    ):
        small.up({"canaryWeight": 0})
    small.keep({"canaryWeight": 5})
    small.cancel()

    # The program refuses the configuration: the engine ran, and changed nothing.
    with pytest.raises(MigrationError, match=r"invalid literal|Missing|not an integer|int.*nothing was changed"):
        small.up({"canaryWeight": "many"})
    assert (tmp_path / "engine" / "Pulumi.rehearsal.yaml").read_text() == text
    assert short(small.preview({})) == []

    # No CLI.
    with pytest.raises(CannotDeploy, match=r"not on PATH \(/nowhere\); install it .*rollback --emergency"):
        CliDeployer("rehearsal", tmp_path / "engine", {**variables, "PATH": "/nowhere"})


def test_a_deployment_that_failed_on_the_way_keeps_its_override_and_says_so(
    small: PulumiDeployer, aws: EmulatedAws
) -> None:
    """Fails when half of a deployment is done and the configuration denies it: the next `up` would undo the done half."""
    aws.client("logs").create_log_group(logGroupName="/second")
    with pytest.raises(
        MigrationError, match=r"AlreadyExists.*canaryWeight 20 is kept in Pulumi\.rehearsal\.yaml, since"
    ):
        small.up({"canaryWeight": 20})
    assert small.config()["canaryWeight"] == 20
    assert short(small.preview({})) == [("create", "second")]


def test_a_create_that_was_killed_is_named_and_never_made_twice(
    small: PulumiDeployer, way: HeldAws, aws: EmulatedAws
) -> None:
    """Fails when a kill leaves a lock that nobody takes away, or the next `up` makes a second thing beside the first."""
    kill_while(way, "CreateLogGroup", lambda: small.up({"canaryWeight": 5}))
    urn = next(iter(pending(small)))
    assert pending(small) == {urn: "creating"}
    with pytest.raises(Refused, match=rf"killed while it created {urn}: .*pulumi cancel; pulumi refresh --yes --clear"):
        small.up({})
    logs = aws.client("logs")
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == ["/first"]
    # The remedy is tried as it is given.
    logs.delete_log_group(logGroupName="/first")
    small.cancel()
    small._command.run(
        ["refresh", "--yes", "--stack", "rehearsal", "--clear-pending-creates"],
        str(small.directory),
        small._environment,
    )
    assert pending(small) == {}
    assert short(small.up({}).changes) == [("create", "first")]
    take_down(small)
    assert logs.describe_log_groups()["logGroups"] == []


def test_a_cli_with_a_language_host_runs_the_program_by_it(aws: EmulatedAws, tmp_path: Path) -> None:
    """Fails when an installed CLI, which starts the program itself, cannot rehearse: it asks for the provider's plugin as well."""
    host = tmp_path / "bin" / "pulumi-language-python"
    host.parent.mkdir()
    program = write_program(tmp_path / "program", SMALL)
    host.write_text(LANGUAGE_HOST.format(python=sys.executable, program=str(program)))
    host.chmod(0o700)
    environment = {**aws.environment(), "PATH": f"{host.parent}{os.pathsep}{os.environ['PATH']}"}
    deployer = PulumiDeployer(tmp_path / "engine", {"canaryWeight": 5}, environment, program=program)
    assert short(deployer.up({}).changes) == [("create", "first")]
    assert set(short(deployer.up({"canaryWeight": 20}).changes)) == {("update", "first"), ("create", "second")}
    assert (tmp_path / "program" / "ran").read_text() == "by the host" * 2
    deployer._stack.destroy(color="never", suppress_outputs=True)


def test_a_backend_that_never_answers_ends_at_the_deadline(
    small: PulumiDeployer, way: HeldAws, aws: EmulatedAws
) -> None:
    """Fails when a rollback at night hangs behind a CLI that waits for ever."""
    way.hold("CreateLogGroup")
    small._command.timeout = 15.0
    with pytest.raises(TimedOut, match=r"pulumi up did not end within 15 s; its last words: .*canaryWeight|is kept"):
        small.up({"canaryWeight": 7})
    way.release()
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "pulumi"]


def shown(deployer: PulumiDeployer, **overrides: object) -> str:
    """What preview.yml's action puts into a pull request that changes these keys, on the working copy's own file."""
    edit = deployer._file.keep(overrides)
    try:
        done = deployer._command.run(
            ["preview", "--diff", "--refresh=false", "--stack", "rehearsal", "--color", "never"],
            str(deployer.directory),
            deployer._environment,
        )
    finally:
        edit.undo()
    return f"{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(1500)
def test_the_program_survives_a_night(aws: EmulatedAws, way: HeldAws, tmp_path: Path) -> None:
    """Fails when a kill, a hand at the load balancer or an emergency leaves a weight that the next `up` does not mend."""
    config = stack_config(build_world(aws))
    before = inventory(aws)
    deployer = PulumiDeployer(tmp_path, config, {**aws.environment(), "AWS_ENDPOINT_URL": way.url})
    elb, monolith = aws.client("elbv2"), str(config["monolithTargetGroupArn"])

    # A pull request's preview of a stack that does not exist yet: everything is to be made, nothing is.
    text = shown(deployer)
    assert "routes-live-rule" in text
    assert "to create" in text
    assert SMOKE_VALUE not in text
    assert inventory(aws) == before

    first = deployer.up({"canaryWeight": 5})
    rule, task = str(first.outputs["liveRuleArn"]), str(first.outputs["taskTargetGroupArn"])
    assert weights(aws, rule) == {monolith: 95, task: 5}
    assert deployer.preview({}) == ()
    assert refreshed(deployer) == []

    # A pull request that raises the weight.
    text = shown(deployer, canaryWeight=25)
    assert "1 to update" in text
    assert "to create" not in text
    assert text.count("[urn=") == 1 + text.count("pulumi:pulumi:Stack::"), text
    assert "::routes-live-rule]" in text
    assert SMOKE_VALUE not in text
    assert deployer.config()["canaryWeight"] == 5

    # kill -9 of a step, after AWS moved the weight and before the engine noted it; then the operator goes back. Compared
    # with the state alone nothing would be left to do, with 25 % on the Task Service.
    kill_while(way, "Action=ModifyRule", lambda: deployer.up({"canaryWeight": 25}))
    assert weights(aws, rule)[task] == 25
    assert deployer.config()["canaryWeight"] == 25
    assert list(pending(deployer).values()) == ["updating"]
    again = PulumiDeployer(tmp_path, config, {**aws.environment(), "AWS_ENDPOINT_URL": way.url})
    assert short(again.up({"canaryWeight": 5}).changes) == [("update", "routes-live-rule")]
    assert weights(aws, rule) == {monolith: 95, task: 5}
    assert pending(again) == {}

    # Somebody changes the rule by hand: a refresh says so, the next `up` puts it back.
    groups = [{"TargetGroupArn": monolith, "Weight": 60}, {"TargetGroupArn": task, "Weight": 40}]
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}])
    assert refreshed(again) == [("update", "routes-live-rule")]
    assert short(again.up({}).changes) == [("update", "routes-live-rule")]
    assert weights(aws, rule) == {monolith: 95, task: 5}

    # An emergency: the rule by the API, the configuration by its file. The next `up` agrees.
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "TargetGroupArn": monolith}])
    again.keep({"canaryWeight": 0})
    assert short(again.up({}).changes) == [("update", "routes-live-rule")]
    assert list(weights(aws, rule)) == [monolith]
    assert again.preview({}) == ()
    assert refreshed(again) == []

    again.up({"protected": False})
    take_down(again)
    assert left(before, aws) == OUTLIVES
    assert SMOKE_VALUE not in "".join(file.read_text() for file in (tmp_path / "backend").rglob("*.json"))
