"""The way back where no database is to be had, and the clock stands still but for what takes time: it is taken all the same, and says what it lacks."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import SecretStr
from rich.console import Console

from scripts.canary import rollback, way_back
from scripts.canary.documents import Moved, Phases, Rollback
from scripts.canary.operator_lock import Lock
from scripts.canary.stage import Emergency, Stage
from scripts.deployment.errors import NoPulumi
from scripts.replication import untold
from scripts.support import console, wait
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, Refused, TimedOut, UsageError
from scripts.support.events import RollbackEvent
from scripts.support.settings import Settings
from tests.cloud import Cloud, settings_of, stage_of
from tests.conftest import Recorder
from tests.unit.canary.test_way_back import SAME

NOBODY = SecretStr("postgresql://u:p@127.0.0.1:1/none")
_COLORS = {"33": "yellow", "32": "green"}
#: Where a decision is kept.
PLACE = "s3://kept/decision.json"
#: What a deployment of the emulated stack leaves to say.
AFTER = (
    "Pulumi's state still has the old weight: the next `up` will show an update of the live rule to 0 % and change nothing at the load "
    "balancer; commit the stack's file, so that no other copy of it raises the weight again"
)


class Clock:
    """Time that passes where somebody sleeps, or a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    for module in (rollback, way_back, wait):
        monkeypatch.setattr(module, "time", stopped)
    return stopped


class Heard(io.StringIO):
    """What is written by threads that begin after this, and by who made it: a test before may have left one that waits for a server."""

    def __init__(self) -> None:
        super().__init__()
        self.others = {*threading.enumerate()} - {threading.current_thread()}

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread() in self.others else super().write(text)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was said until now, a line of colour each: warnings in yellow, what went well in green."""
    file = Heard()
    monkeypatch.setattr(
        console,
        "err",
        Console(file=file, force_terminal=True, color_system="standard", highlight=False, soft_wrap=True),
    )

    def lines() -> list[str]:
        found = re.findall(r"\x1b\[(3[23])m(\S.*?)\x1b", file.getvalue())
        # libpq's errors have a second line.
        return [f"{_COLORS[color]}: {text}" for color, text in found if not text.startswith("Is the server")]

    return lines


def away(tmp_path: Path, cloud: Cloud, **config: Any) -> Stage:
    """A stage below which no database takes connections."""
    nobody = replace(settings_of(tmp_path / "state", **config), source_url=NOBODY, target_url=NOBODY)
    return stage_of(nobody, cloud)


def journal(settings: Settings) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in event.items() if key not in ("at", "step")}
        for event in settings.journal.events("rollback")
    ]


def fails(error: BaseException) -> Callable[..., NoReturn]:
    def act(*_: object, **__: object) -> NoReturn:
        raise error

    return act


def at_boundary(cloud: Cloud, act: dict[str, Callable[[], object]]) -> None:
    def look(name: str) -> None:
        if name in act:
            act[name]()

    cloud.at = look


def waits(clock: Clock, seconds: float) -> Callable[[], None]:
    return lambda: clock.sleep(seconds)


def test_without_a_database_the_routes_move_and_each_thing_that_is_not_known_is_said(
    tmp_path: Path, clock: Clock, said: Callable[[], list[str]]
) -> None:
    """Prevents users on a service that fails as a database is down too, and a rollback that keeps for itself what it could not do."""
    cloud, seen = Cloud(50), Recorder()
    at_boundary(cloud, {"before up": waits(clock, 3.2506), "confirm": waits(clock, 0.25)})
    at = away(tmp_path, cloud, rollback_limit_seconds=10.0, drain_seconds=2.0)
    with pytest.raises(DatabaseError) as failed:
        rollback.run(at, reasons=("it fails",), progress=seen)
    begin, end = (
        "all routes are on the monolith since 3.5 s, but it is not proven that every write arrived: ",
        ("; keep both databases, mend replication, then run rollback again"),
    )
    text = str(failed.value)
    assert text.startswith(begin + "cannot connect for fence with TARGET_DATABASE_URL")
    assert text.endswith(end)
    assert [line.split(": cannot connect")[0] for line in said()] == [
        "yellow: the lock on the canary cannot be had, the routes go back without it",
        "yellow: whether the monolith can write is not known, the rollback goes on",
        "yellow: not kept on the source, the rollback goes on",
        "yellow: not kept on the source, the rollback goes on",
        "green: all routes are on the monolith after 3.5 s, by pulumi up",
        "yellow: whether the monolith can write is not known, the rollback goes on",
        "yellow: not kept on the source, the rollback goes on",
    ]
    nothing = {"config_set": None, "drift": None, "pulumi": None}
    assert journal(at.settings) == [
        {"event": "begun", "from": 50, "reasons": ["it fails"]},
        {"event": "routed", "seconds": 3.501, "by": "pulumi up", "seconds_of_up": 3.251, **nothing},
        {"event": "unproven", "reason": text.removeprefix(begin).removesuffix(end)},
    ]
    assert (cloud.live, cloud.declared, cloud.ups) == (0, 0, [0])
    assert cloud.notices == ["rollback from 50 %: routes moved, NOT proven"]
    assert text.removeprefix(begin).removesuffix(end) in cloud.texts[0]
    assert [(one.name, one.total, one.unit) for one in seen.works.values()] == [
        ("deployment of weight 0", 5.0, "s"),
        ("drain", 2.0, "s"),
        ("fence", pytest.approx(10.0 - 3.5006), "s"),
    ]


def test_what_a_test_before_left_to_say_is_not_heard() -> None:
    """Prevents a failure by the words of another test's thread, which waited for a server that has gone."""
    go = threading.Event()

    def late() -> None:
        go.wait(20)
        heard.write("before")

    left = threading.Thread(target=late)
    left.start()
    heard = Heard()
    go.set()
    left.join()
    own = threading.Thread(target=heard.write, args=("since",))
    own.start()
    own.join()
    heard.write(" here")
    assert heard.getvalue() == "since here"


def test_an_emergency_without_a_database_asks_for_the_lock_when_the_routes_have_moved(
    tmp_path: Path, clock: Clock, said: Callable[[], list[str]]
) -> None:
    cloud = Cloud(25)
    at_boundary(cloud, {"to monolith": waits(clock, 1.0)})
    at, seen = away(tmp_path, cloud), Recorder()
    with pytest.raises(DatabaseError):
        rollback.emergency(at, reasons=("at night",), progress=seen)
    lines = [line.split(": cannot connect")[0] for line in said()]
    assert lines[2:4] == [
        "yellow: the lock on the canary cannot be had, the routes go back without it",
        "yellow: not kept on the source, the rollback goes on",
    ]
    moved = {"by": "load balancer API", "seconds_of_up": None, "config_set": True, "drift": AFTER, "pulumi": None}
    assert journal(at.settings)[:2] == [
        {"event": "begun", "from": 25, "reasons": ["at night"]},
        {"event": "routed", "seconds": 1.0, **moved},
    ]
    assert (cloud.live, cloud.declared, cloud.ups) == (0, 0, [])
    assert list(seen.works) == ["drain", "fence"]


def way(at: Emergency, unattended: bool = False) -> way_back.WayBack:
    assert isinstance(at, Stage)
    return rollback._ByPulumi(at, unattended, Recorder())


@pytest.mark.parametrize("unattended", [True, False])
@pytest.mark.parametrize(
    ("error", "said_so"),
    [
        (
            Refused("locked"),
            "Pulumi cannot move the routes: locked; at once and without it: task-migration rollback --emergency",
        ),
        (NoPulumi("no CLI"), "no CLI"),
    ],
)
def test_a_deployment_that_fails_is_done_without_pulumi_where_nobody_could_be_asked_to(
    tmp_path: Path, error: MigrationError, said_so: str, unattended: bool
) -> None:
    """Prevents an unattended rollback that waits for a person, and one that a person asked for by Pulumi and got by something else."""
    cloud = Cloud(50)
    at_boundary(cloud, {"before up": fails(error)})
    at = away(tmp_path, cloud)
    if unattended:
        moved = way(at, unattended).move()
        assert moved == Moved(by="load balancer API", config_set=True, drift=AFTER, pulumi=str(error))
        assert (cloud.live, cloud.declared) == (0, 0)
    else:
        with pytest.raises(type(error)) as failed:
            rollback.execute(at, Lock(), reasons=("asked",))
        assert str(failed.value) == said_so
        assert (cloud.live, cloud.declared) == (50, 50)
        assert cloud.notices == ["rollback from 50 %: the routes did NOT move"]
        assert f"What decided:\n- {said_so}\n" in cloud.texts[0]
        assert journal(at.settings) == [{"event": "begun", "from": 50, "reasons": ["asked"]}]


def test_a_deployment_that_hangs_is_given_half_of_the_budget(tmp_path: Path) -> None:
    cloud, over = Cloud(50), threading.Event()
    at_boundary(cloud, {"before up": lambda: over.wait(20)})
    try:
        with pytest.raises(TimedOut) as failed:
            way(away(tmp_path, cloud, rollback_limit_seconds=0.1)).move()
    finally:
        over.set()
    assert str(failed.value) == (
        "Pulumi cannot move the routes: the deployment of weight 0: did not end within 0.05 s (the limit); look at its backend; "
        "at once and without it: task-migration rollback --emergency"
    )


@pytest.mark.parametrize(
    ("weight", "moved"),
    [
        (lambda: 0, False),
        (lambda: 1, True),
        (fails(Refused("to a stranger")), True),
        (fails(MigrationError("away")), False),
    ],
)
def test_a_rule_that_pulumi_did_not_move_is_moved_at_the_load_balancer(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, weight: Callable[[], int], moved: bool
) -> None:
    """Prevents a rollback that changes nothing, as Pulumi's state says 0 % already; one that cannot be read is confirmed after this."""
    cloud = Cloud(50)
    at_boundary(cloud, {"before up": waits(clock, 2.0)})
    calls: list[str] = []
    monkeypatch.setattr(cloud, "weight", weight)
    monkeypatch.setattr(cloud, "to_monolith", lambda: calls.append("to monolith"))
    drift = "the live rule had been changed beside Pulumi; it is at 0 % again. Let the state agree: pulumi refresh"
    beside = Moved(by="load balancer API", seconds_of_up=2.0, config_set=True, drift=drift)
    assert way(away(tmp_path, cloud)).move() == (beside if moved else Moved(by="pulumi up", seconds_of_up=2.0))
    assert calls == ["to monolith"] * moved


def test_the_weight_that_is_left_is_the_highest_that_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    cloud = Cloud(25)
    cloud.live = 40
    at = away(tmp_path, cloud)
    assert way(at)._weight() == 40
    monkeypatch.setattr(cloud, "weight", fails(MigrationError("no rule")))
    assert way(at)._weight() == 25
    monkeypatch.setattr(cloud, "config", fails(MigrationError("no stack")))
    assert way(at)._weight() == 0
    unknown = "yellow: the weight is not known for sure, the rollback goes on: "
    assert said() == [f"{unknown}no rule", f"{unknown}no stack", f"{unknown}no rule"]


@contextmanager
def silent_server() -> Iterator[SecretStr]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield SecretStr(f"postgresql://u:p@127.0.0.1:{listening.getsockname()[1]}/none")


def test_a_source_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    """Prevents users who wait for a look at rights, for a journal, or for a figure of losses."""
    for limit in ("JOURNAL_SECONDS", "RIGHTS_SECONDS"):
        monkeypatch.setattr(way_back, limit, 0.05)
    with silent_server() as url:
        at = away(tmp_path, Cloud(50))
        at = replace(at, settings=replace(at.settings, source_url=url, target_url=url))
        back = way(at)
        back.limit = 1.0
        back._left = lambda: 0.1  # type: ignore[method-assign]
        assert back._let_write() is False
        back._note(RollbackEvent.BEGUN, reasons=[])
        back._tell_losses()
        lines = said()
    late = "did not end within 0.05 s (the limit)"
    assert lines == [
        f"yellow: whether the monolith can write is not known, the rollback goes on: the monolith's rights: {late}; look at the source",
        f"yellow: not journaled, the rollback goes on: writing the journal: {late}; look at TASK_MIGRATION_STATE_DIR",
        f"yellow: whether the monolith's own last writes lost to others is not known: telling losses: {late}; look at both databases",
    ]


@pytest.mark.parametrize(
    ("idle", "limit", "drain", "waited"),
    [
        ([1.0], 60.0, 5.0, 0.0),
        ([0.99, 1.0], 60.0, 5.0, 0.2),
        ([0.0, 0.5, 1.5], 60.0, 0.1, 0.4),
        # Nothing is seen: as long as one request may take.
        ([None], 60.0, 5.0, 5.0),
        ([None, None, 1.0], 60.0, 5.0, 0.4),
    ],
)
def test_requests_are_waited_for_until_none_is_seen_or_none_can_be_left(
    tmp_path: Path, clock: Clock, idle: list[float | None], limit: float, drain: float, waited: float
) -> None:
    """Prevents a proof before the last request has ended."""
    cloud, seen = Cloud(50), [*idle]
    cloud.idle = lambda: seen.pop(0) if len(seen) > 1 else seen[0]
    began = clock.now
    way(away(tmp_path, cloud, rollback_limit_seconds=limit, drain_seconds=drain))._drain()
    assert clock.now - began == pytest.approx(waited)


@pytest.mark.parametrize(("limit", "drain", "allowed"), [(60.0, 5.0, 60.0), (0.5, 0.0, 1.0), (2.0, 5.0, 6.0)])
def test_requests_that_never_end_are_no_proof(
    tmp_path: Path, clock: Clock, limit: float, drain: float, allowed: float
) -> None:
    cloud = Cloud(50)
    cloud.idle = lambda: 0.99
    with pytest.raises(TimedOut) as failed:
        way(away(tmp_path, cloud, rollback_limit_seconds=limit, drain_seconds=drain))._drain()
    assert str(failed.value).startswith(
        f"no request on the Task Service for 1 s: not so after {allowed:g} s (the limit); last seen: (0.99, "
    )
    assert str(failed.value).endswith(
        "; the routes are on the monolith; look who still calls the Task Service directly"
    )


def test_what_is_left_of_the_budget_is_a_second_at_least(tmp_path: Path, clock: Clock) -> None:
    back = way(away(tmp_path, Cloud(), rollback_limit_seconds=10.0))
    left = []
    for _ in range(4):
        left.append(back._left())
        clock.sleep(4.5)
    assert left == [10.0, 5.5, 1.0, 1.0]


@pytest.mark.parametrize(("weights", "again"), [([0], False), ([1, 1, 0], True)])
def test_a_weight_that_came_meanwhile_is_taken_back_once_more(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, weights: list[int], again: bool
) -> None:
    cloud, calls, seen = Cloud(), list[str](), [*weights]
    monkeypatch.setattr(cloud, "weight", lambda: seen.pop(0))
    monkeypatch.setattr(cloud, "to_monolith", lambda: calls.append("to monolith"))
    assert way(away(tmp_path, cloud))._held_there() is again
    assert (seen, calls) == ([], ["to monolith"] * again)


def test_a_weight_that_stays_is_told(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(5)
    monkeypatch.setattr(cloud, "to_monolith", lambda: None)
    with pytest.raises(TimedOut) as failed:
        way(away(tmp_path, cloud))._held_there()
    assert str(failed.value) == (
        "the live rule at 0 %, for the second time: not so after 30 s (the limit); last seen: 5; a deployment raises the weight: stop it "
        "(pulumi cancel), then roll back again"
    )


def test_a_service_is_stopped_and_declared_so(tmp_path: Path) -> None:
    """Prevents a service that autoscaling starts again with the next `up`."""
    cloud = Cloud()
    at = away(tmp_path, cloud)
    assert way(at)._stop() is None
    assert (cloud.stopped, cloud.enabled, cloud.declared) == (True, False, 0)
    at_boundary(cloud, {"keep": fails(MigrationError("locked"))})
    assert way(at)._stop() == (
        "serviceEnabled could NOT be set to false in the configuration (locked): set it before the next `up`, or that may start the service"
    )
    with pytest.raises(MigrationError, match="there is no ECS service here to stop; leave --stop-service out"):
        way(replace(at, service=None))._stop()


def test_a_configuration_that_keeps_no_weight_is_told(tmp_path: Path) -> None:
    """Prevents a weight that the next `up` brings back, as nobody knows that it is still in the stack's file."""
    cloud = Cloud(25)
    at_boundary(cloud, {"keep": fails(MigrationError("locked"))})
    drift = "canaryWeight could NOT be set to 0 in the configuration (locked): set it before the next `up`, or that raises the weight again"
    assert way_back.at_once(away(tmp_path, cloud)) == Moved(by="load balancer API", config_set=False, drift=drift)
    assert (cloud.live, cloud.declared) == (0, 25)


def test_writes_that_lost_and_were_never_told_are_counted_before_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    told = [0, 1234]
    monkeypatch.setattr(untold, "tell", lambda _: told.pop(0))
    back = way(away(tmp_path, Cloud()))
    back._tell_losses()
    assert said() == []
    back._tell_losses()
    assert said() == [
        "yellow: 1,234 writes of the monolith, which never reached the Task Service, lost to its writes: each is told"
    ]


@pytest.mark.parametrize("proven", [True, False])
def test_how_it_ended_is_journaled_and_told_and_refused_when_it_is_not_proven(tmp_path: Path, proven: bool) -> None:
    """Prevents a rollback that is told as proven over a missing write."""
    cloud = Cloud()
    at = away(tmp_path, cloud)
    rows = SAME if proven else SAME.model_copy(update={"unsettled": 3})
    document = Rollback(
        from_=25, to=0, decision="rollback", reasons=["it fails"], seconds=12.6, limit_seconds=60.0, within_limit=True,
        by="pulumi up", moved_again=False, rights_given_back=False, rows=rows, service_stopped=False,
        phases=Phases(routed=2.0, drained=1.0, fenced=1.0, compared=8.6),
    )  # fmt: skip
    if proven:
        assert way(at)._ended(document, PLACE) is document
    else:
        with pytest.raises(DataDiffer) as failed:
            way(at)._ended(document, PLACE)
        assert str(failed.value) == (
            "all routes are on the monolith since 2.0 s, but it is not proven that it has every write: 3 rows or writes could not be "
            "compared, as they went on being written; none may be; keep both databases; look at `task-migration replicate status` and mend "
            "what it says, rows that differ by `task-migration verify --repair newest`, then rollback again"
        )
    assert cloud.notices == [f"rollback from 25 %{' done in 13 s' if proven else ': NOT proven'}"]
    assert f"- {PLACE}\n- https://ap-northeast-1.console.aws.amazon.com/s3/object/kept?" in cloud.texts[0]
    assert journal(at.settings) == [{"event": "done" if proven else "unproven", **document.plain()}]


#: What the commands act on, as the environment names it (scripts/canary/stage.py).
AT: list[Stage] = []


def here(_: Settings) -> Stage:
    return AT[0]


def refusing(_: Settings) -> NoReturn:
    raise AT[0]  # type: ignore[misc]


@pytest.fixture
def named(tmp_path: Path) -> Iterator[tuple[Cloud, Settings]]:
    cloud = Cloud(25)
    at = away(tmp_path, cloud)
    AT[:] = [at]
    yield cloud, replace(at.settings, stage=f"{__name__}:here")
    AT.clear()


def test_the_command_goes_back_by_pulumi_or_without_it_for_the_reason_that_was_given(
    named: tuple[Cloud, Settings],
) -> None:
    """Prevents a rollback of which nobody reads why, and one by Pulumi that was to be without."""
    cloud, settings = named
    for without_pulumi, by in ((False, "pulumi up"), (True, "load balancer API")):
        for reason, kept in (("too slow", ["too slow"]), (None, [])):
            cloud.declared = cloud.live = 25
            seen = Recorder()
            with pytest.raises(DatabaseError):
                rollback.roll_back(settings, reason=reason, without_pulumi=without_pulumi, progress=seen)
            begun, routed, _ = journal(settings)[-3:]
            assert (begun["reasons"], routed["by"], cloud.live) == (kept, by, 0)
            assert "drain" in seen.works


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UsageError("no stack"), "no stack"),
        (NoPulumi("no CLI"), "no CLI"),
        (
            Refused("not deployed"),
            "not deployed; Pulumi cannot run: to move the routes at once and without it, task-migration rollback --emergency",
        ),
    ],
)
def test_a_stage_that_cannot_be_built_names_the_way_that_needs_no_pulumi(
    named: tuple[Cloud, Settings], error: MigrationError, text: str
) -> None:
    AT[:] = [error]  # type: ignore[list-item]
    with pytest.raises(type(error)) as failed:
        rollback.roll_back(replace(named[1], stage=f"{__name__}:refusing"))
    assert str(failed.value) == text
