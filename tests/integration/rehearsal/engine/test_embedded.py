"""The embedded engine, behaviour by behaviour, with small programs against the emulated account."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.deployment.deployer import Change
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.state import Resource, deletion_order, locked
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError, Refused, TimedOut, UsageError
from scripts.support.settings import PROJECT_ROOT
from scripts.support.wait import wait_until
from tests.engine_support import SMOKE_VALUE, take_down, write_program

Make = Callable[..., EmbeddedDeployer]


@pytest.fixture
def account(aws: EmulatedAws) -> EmulatedAws:
    """The account, emptied."""
    aws.reset()
    return aws


@pytest.fixture
def make(account: EmulatedAws, tmp_path: Path) -> Make:
    """A deployer of the program given as text; a later call continues with the same state."""

    def build(body: str, config: dict[str, object] | None = None) -> EmbeddedDeployer:
        program = write_program(tmp_path / "program", body)
        state = tmp_path / "state" / "state.json"
        return EmbeddedDeployer(state, config or {}, account.environment(), program=program, timeout=60)

    return build


def short(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    """Operation and name of each change."""
    return [(change.op, change.name) for change in changes]


def test_property_that_aws_cannot_change_replaces_after_deleting(make: Make, account: EmulatedAws) -> None:
    """Fails when a renamed or re-described thing is left behind, or created while its name is still taken."""
    program = "aws.cloudwatch.LogGroup('group', name='/a', log_group_class={0!r}, retention_in_days=7)"
    make(program.format("STANDARD")).up({})
    result = make(program.format("INFREQUENT_ACCESS")).up({})
    assert short(result.changes) == [("replace", "group")]
    assert result.changes[0].properties == ("logGroupClass",)
    renamed = make(program.format("INFREQUENT_ACCESS").replace("/a", "/b")).up({})
    assert short(renamed.changes) == [("replace", "group")]
    groups = account.client("logs").describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/b"]


def test_task_definition_is_replaced_before_the_old_revision_goes(make: Make, account: EmulatedAws) -> None:
    """Fails when a new image leaves the old revision active, or the service without any between."""
    program = """
    aws.ecs.TaskDefinition('task', family='f', cpu='256', memory='512', network_mode='awsvpc',
        requires_compatibilities=['FARGATE'],
        container_definitions=json.dumps([{{'name': 'a', 'image': 'i:{0}', 'essential': True}}]))
    """
    make(program.format(1)).up({})
    assert make(program.format(1).replace("'essential': True", "'essential':   True")).preview({}) == ()
    assert short(make(program.format(2)).up({}).changes) == [("replace", "task")]
    ecs = account.client("ecs")
    assert [arn.rpartition(":")[2] for arn in ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"]] == ["2"]


def test_update_in_place_keeps_the_thing(make: Make, account: EmulatedAws) -> None:
    """Fails when a property that AWS can change makes a new thing, or tags are not brought along."""
    program = "k = aws.kms.Key('key', description={0!r}, tags={{'a': {1!r}}})\npulumi.export('id', k.key_id)"
    first = make(program.format("one", "1")).up({})
    second = make(program.format("two", "2")).up({})
    assert short(second.changes) == [("update", "key")]
    assert second.changes[0].properties == ("description", "tags")
    assert first.outputs == second.outputs
    kms = account.client("kms")
    assert kms.describe_key(KeyId=second.outputs["id"])["KeyMetadata"]["Description"] == "two"
    assert kms.list_resource_tags(KeyId=second.outputs["id"])["Tags"] == [{"TagKey": "a", "TagValue": "2"}]


def test_what_the_program_drops_is_deleted_dependents_first(make: Make, account: EmulatedAws) -> None:
    """Fails when a key goes before its alias: AWS would then refuse or leave the alias dangling."""
    both = """
    key = aws.kms.Key('key', description='d', deletion_window_in_days=7)
    aws.kms.Alias('alias', name='alias/x', target_key_id=key.key_id)
    """
    make(both).up({})
    preview = make("").preview({})
    assert short(preview) == [("delete", "alias"), ("delete", "key")]
    assert short(make("").up({}).changes) == [("delete", "alias"), ("delete", "key")]
    assert [a for a in account.client("kms").list_aliases()["Aliases"] if a["AliasName"] == "alias/x"] == []


def test_order_of_deletion_follows_dependencies_not_age() -> None:
    """Fails when an old resource that was pointed at a younger one later is deleted after it."""
    made = [Resource(name, "t", name, name, {}, {}) for name in ("old", "young", "alone")]
    order = deletion_order(made, {"old": ["young"], "young": [], "alone": []})
    assert [item.name for item in order] == ["old", "alone", "young"]


def test_protected_resources_are_neither_deleted_nor_replaced(make: Make, account: EmulatedAws) -> None:
    """Fails when dropping a line of the program deletes the production bucket."""
    protected = """
    aws.cloudwatch.LogGroup('plain', name='/plain')
    aws.s3.Bucket('bucket', bucket={0!r}, opts=pulumi.ResourceOptions(protect={1}))
    """
    make(protected.format("bucket-one", True)).up({})
    for program in ("", protected.format("bucket-two", True)):
        with pytest.raises(Refused, match=r"bucket.*protect"):
            make(program).up({})
    with pytest.raises(Refused, match="bucket: protected"):
        take_down(make(""))
    assert [item["Name"] for item in account.client("s3").list_buckets()["Buckets"]] == ["bucket-one"]
    make(protected.format("bucket-one", False)).up({})
    make("").up({})
    assert account.client("s3").list_buckets()["Buckets"] == []


def test_ignored_changes_stay_as_they_are(make: Make) -> None:
    """Fails when autoscaling's desired count or DMS's own task settings show up as a change for ever."""
    program = """
    aws.cloudwatch.LogGroup('group', name='/g', retention_in_days={0}, tags={{'a': {1!r}, 'b': '1'}},
        opts=pulumi.ResourceOptions(ignore_changes=['retentionInDays', 'tags.a']))
    """
    make(program.format(7, "1")).up({})
    assert make(program.format(14, "2")).preview({}) == ()
    assert short(make(program.format(14, "2").replace("'b': '1'", "'b': '2'")).up({}).changes) == [("update", "group")]


def test_bad_parameter_is_refused_by_botocore_with_resource_and_cause(make: Make) -> None:
    """Fails when a wrong declaration passes the emulation and is found out on AWS, or ends in a trace."""
    with pytest.raises(MigrationError, match=r"resource group.*LogGroup.*Parameter validation failed.*retentionInDays"):
        make("aws.cloudwatch.LogGroup('group', name='/g', retention_in_days='soon')").up({})
    with pytest.raises(MigrationError, match=r"resource saved.*QueryDefinition.*queryString"):
        make("aws.cloudwatch.QueryDefinition('saved', name='q', query_string='')").up({})


def test_what_the_emulation_does_not_know_is_refused_by_name(make: Make) -> None:
    """Fails when an input or a type is silently dropped, so that the rehearsal proves less than it says."""
    with pytest.raises(MigrationError, match=r"namePrefix.*does not know this property"):
        make("aws.cloudwatch.LogGroup('group', name_prefix='/g')").preview({})
    with pytest.raises(MigrationError, match="does not know aws:sqs/queue:Queue"):
        make("aws.sqs.Queue('queue', name='q')").preview({})
    with pytest.raises(MigrationError, match="no data sources"):
        make("aws.get_caller_identity()").preview({})
    for option in ("replace_on_changes=['name']", "delete_before_replace=False"):
        group = f"aws.cloudwatch.LogGroup('group', name='/g', opts=pulumi.ResourceOptions({option}))"
        with pytest.raises(MigrationError, match="group: the embedded engine does not know the option"):
            make(group).preview({})


def test_a_program_that_fails_deletes_nothing(make: Make, account: EmulatedAws) -> None:
    """Fails when a crash half-way through the program is taken for resources that were dropped from it."""
    make("aws.cloudwatch.LogGroup('group', name='/g')").up({})
    with pytest.raises(MigrationError, match="ZeroDivisionError"):
        make("1 / 0\naws.cloudwatch.LogGroup('group', name='/g')").up({})
    with pytest.raises(UsageError, match="weight is wrong"):
        make("raise pulumi.RunError('weight is wrong')").up({})
    assert [group["logGroupName"] for group in account.client("logs").describe_log_groups()["logGroups"]] == ["/g"]


def test_preview_calls_nothing_and_carries_unknown_outputs(make: Make, account: EmulatedAws) -> None:
    """Fails when a preview creates something, or treats an output that is not known yet as a value."""
    program = """
    key = aws.kms.Key('key', description='d')
    aws.cloudwatch.LogGroup('group', name='/g', kms_key_id=key.arn)
    key.arn.apply(lambda arn: open('called', 'w').write(arn))
    """
    assert short(make(program).preview({})) == [("create", "key"), ("create", "group")]
    assert account.client("logs").describe_log_groups()["logGroups"] == []
    assert not (make(program).program / "called").exists()
    assert not make(program).state_path.exists()


def test_secret_stays_secret(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """Fails when the smoke header's value is readable by others, printed, or loses its mark on the way to the state."""
    program = """
    value = pulumi.Config('task-migration').require_secret('smokeHeaderValue')
    group = aws.cloudwatch.LogGroup('group', name='/g', tags={'v': value})
    pulumi.export('tags', group.tags)
    """
    deployer = make(program, {"smokeHeaderValue": SMOKE_VALUE})
    assert SMOKE_VALUE not in repr(deployer.preview({}))
    result = deployer.up({})
    assert result.outputs["tags"] == {"v": SMOKE_VALUE}
    assert stat.S_IMODE(deployer.state_path.stat().st_mode) == 0o600
    state = json.loads(deployer.state_path.read_text())
    for place in (state["resources"][0]["inputs"], state["resources"][0]["outputs"], state["outputs"]):
        marked = json.dumps(place["tags"])
        assert SMOKE_VALUE in marked
        assert "1b47061264138c4ac30d75fd1eb44270" in marked
    assert SMOKE_VALUE not in repr(result.changes)
    assert "smokeHeaderValue" not in deployer.config()
    assert SMOKE_VALUE not in "".join(capfd.readouterr())


def test_one_operation_at_a_time(make: Make) -> None:
    """Fails when two operations write one state."""
    deployer = make("")
    with locked(deployer.state_path), pytest.raises(Refused, match="locked by another operation"):
        deployer.up({})
    deployer.up({})


def test_overrides_stay(make: Make) -> None:
    """Fails when the next `up` forgets the weight that the last one set."""
    program = "pulumi.export('weight', pulumi.Config('task-migration').require_int('canaryWeight'))"
    deployer = make(program, {"canaryWeight": 0})
    deployer.preview({"canaryWeight": 5})
    assert deployer.config() == {"canaryWeight": 0}
    assert deployer.up({"canaryWeight": 5}).outputs == {"weight": 5}
    assert make(program, {"canaryWeight": 0}).up({}).outputs == {"weight": 5}
    assert make(program, {"canaryWeight": 0}).config() == {"canaryWeight": 5}
    with pytest.raises(UsageError, match="no"):
        make("raise pulumi.RunError('no')").up({"canaryWeight": 50})
    assert make(program, {"canaryWeight": 0}).config() == {"canaryWeight": 5}, "what changed nothing keeps nothing"
    with pytest.raises(UsageError, match="no"):
        make("raise pulumi.RunError('no')").up({"canaryWeight": 0})
    assert make(program, {"canaryWeight": 0}).config() == {"canaryWeight": 0}, "a way back is not undone"


GROUPS = 40
MANY = f"for n in range({GROUPS}): aws.cloudwatch.LogGroup(f'group-{{n}}', name=f'/g/{{n}}', retention_in_days=7)"


def test_a_create_that_was_killed_is_named_and_never_made_twice(make: Make, account: EmulatedAws) -> None:
    """Fails when `up` makes a second thing beside one that a killed run left, or takes for its own what it cannot know to be."""
    deployer = make(MANY, {"canaryWeight": 0})
    deployer.up({})
    document: dict[str, Any] = json.loads(deployer.state_path.read_text())
    assert document["pending"] == []
    *kept, cut = document["resources"]
    deployer.state_path.write_text(json.dumps({**document, "resources": kept, "pending": [cut["urn"]]}))
    for act in (lambda: deployer.up({"canaryWeight": 5}), lambda: take_down(deployer)):
        with pytest.raises(
            Refused, match=rf"killed while it created {cut['urn']}: the state cannot say whether it stands"
        ):
            act()
    assert deployer.config() == {"canaryWeight": 0}, "what was refused keeps nothing"
    assert short(deployer.preview({})) == [("create", cut["name"])]
    assert len(account.client("logs").describe_log_groups()["logGroups"]) == GROUPS


def test_kill_at_any_moment_leaves_a_true_state(make: Make, account: EmulatedAws) -> None:
    """Fails when a killed `up` leaves a torn state, or something that the state neither has nor names as being made."""
    logs = account.client("logs")

    def standing() -> set[str]:
        return {str(group["logGroupName"]) for group in logs.describe_log_groups()["logGroups"]}

    def take_away(names: set[str]) -> None:
        """As whoever looks and finds them."""
        for name in names & standing():
            logs.delete_log_group(logGroupName=name)

    deployer, kills, finished, unsure = make(MANY), 0, False, set[str]()
    deployer.timeout = 0.2
    while not finished:
        try:
            deployer.up({})
            finished = True
        except TimedOut:
            kills, deployer.timeout = kills + 1, deployer.timeout + 0.1
            if deployer.state_path.exists():
                document = json.loads(deployer.state_path.read_text())
                noted = {item["id"] for item in document["resources"]}
                unsure = {f"/g/{urn.rpartition('-')[2]}" for urn in document["pending"]}
                assert noted <= standing() <= noted | unsure
                take_away(unsure)
                deployer.state_path.write_text(json.dumps({**document, "pending": []}))
        except MigrationError as error:
            if not unsure or "AlreadyExists" not in str(error):
                raise
            take_away(unsure)  # the account carried a killed call out only after somebody had looked
    assert kills >= 1
    deployer.timeout = 60
    assert deployer.preview({}) == ()
    assert len(standing()) == GROUPS
    take_down(deployer)
    assert standing() == set()


def test_foreign_thing_of_the_same_name_is_not_taken_over(make: Make, account: EmulatedAws) -> None:
    """Fails when `up` adopts, and `destroy` then deletes, what somebody else made."""
    account.client("logs").create_log_group(logGroupName="/g", tags={"whose": "theirs"})
    program = "aws.cloudwatch.LogGroup('group', name='/g')"
    for _ in range(2):
        with pytest.raises(MigrationError, match=r"resource group.*AlreadyExists"):
            make(program).up({})
    take_down(make(program))
    assert account.client("logs").list_tags_log_group(logGroupName="/g")["tags"] == {"whose": "theirs"}


def test_a_killed_caller_takes_the_operation_along_and_a_killed_helper_is_replaced(
    make: Make, account: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when an operation goes on beside the next one after its caller died, or one dead helper ends all operations."""
    waiting = write_program(
        tmp_path / "waiting", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(120)"
    )
    calling = (
        "import sys; from pathlib import Path; from scripts.rehearsal.engine.embedded import EmbeddedDeployer as D; "
        "D(Path(sys.argv[1]) / 'state.json', {}, {}, program=Path(sys.argv[1])).up({})"
    )
    with subprocess.Popen([sys.executable, "-c", calling, str(waiting)], cwd=PROJECT_ROOT) as caller:
        noted = waiting / "pid"
        pid = int(wait_until(lambda: noted.read_text() if noted.exists() else "", bool, what="the program", timeout=90))
        caller.kill()
    wait_until(lambda: psutil.pid_exists(pid), lambda there: not there, what="the operation to end", timeout=30)
    make("").up({})
    helper = next(
        child for child in psutil.Process().children() if "multiprocessing.forkserver" in " ".join(child.cmdline())
    )
    helper.kill()
    # Whoever started it takes its status: a test that did would be a fault of its own.
    wait_until(helper.status, lambda now: now == psutil.STATUS_ZOMBIE, what="the fork server to be gone", timeout=30)
    assert make("pulumi.export('a', 1)").up({}).outputs == {"a": 1}
