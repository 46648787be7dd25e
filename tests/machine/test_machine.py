"""A fixed seed of the machine, the smallest cases that it found, and what is broken on purpose, which it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from scripts.canary import operator_lock
from scripts.canary.operator_lock import TakenOver
from scripts.canary.step import Step
from scripts.canary.way_back import WayBack
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.finish import finalize
from scripts.support import safety
from scripts.verify.compare import Compared, TableComparison
from scripts.verify.rows import Found
from tests.conftest import pairs
from tests.machine.operators import Operator
from tests.machine.rules import play
from tests.machine.world import World, Wrong

Make = Callable[[ExitStack], World]


@pytest.fixture
def make(source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path: Path) -> Make:
    """Makes a migration between fresh databases."""
    return lambda held: World(held.enter_context(pairs(source_server, target_server, tmp_path)))


@pytest.fixture
def world(make: Make) -> Iterator[World]:
    """Replication runs, and every row was compared."""
    with ExitStack() as held:
        one = make(held)
        held.callback(one.close)
        for command in ("copy", "replicate start", "verify"):
            assert one.command(command).error is None
        yield one


def beside(world: World, name: str) -> Callable[[Operator], object]:
    """Another operator's whole command."""
    return lambda _: world.go_on(world.beside(name, None))


def kill(mine: Operator) -> None:
    mine.dead = True


def test_any_order_of_a_fixed_seed_is_safe(make: Make) -> None:
    """Prevents what no single test of a command shows: an order, a kill or a second operator that nobody thought of."""
    play(make, 16, examples=2, steps=8)


@contextmanager
def said(world: World) -> Iterator[None]:
    """What was done, where it fails."""
    try:
        yield
    except BaseException as error:
        error.add_note("\n".join(world.said))
        raise


def test_a_rollback_that_has_ended_is_not_forgotten_by_who_looks_then(world: World) -> None:
    """Prevents a ladder that climbs on over a rollback: the lock was free again when its session was found to be gone."""
    with said(world):
        for other in ("rollback", "rollback --emergency"):
            for command, place, ups in (("canary run", "cloud: watch", 1), ("canary step", "cloud: preview", 0)):
                world.sky.ups.clear()
                stopped = world.command(command, place, beside(world, other))
                assert isinstance(stopped.error, TakenOver), stopped.error
                assert (world.sky.declared, world.sky.live, world.sky.ups.count(25)) == (0, 0, ups)
        world.to_an_end()


def test_nobody_is_sent_to_a_target_that_is_given_up(world: World) -> None:
    """Prevents users on a target that `rollback --abandon` or `--scenario copy` closes or empties beside a step, or left closed."""
    with said(world):
        refused: list[Operator] = []
        for name in ("rollback --abandon", "rollback --scenario copy"):
            refused.append(world.beside(name, 1))
            step = world.command("canary step", "cloud: preview", lambda _: world.go_on(refused[-1]))
            assert "another operator moves the weight: task-migration canary step" in str(refused[-1].error)
            assert "SELECT pg_terminate_backend(" in str(refused[-1].error)
            assert (step.error, world.sky.live) == (None, 25)
            world.command("rollback")
        world.command("rollback --abandon", "DROP", kill)
        refusal = world.command("canary step")
        assert (world.sky.live, refusal.result.decision) == (0, "refused")  # type: ignore[attr-defined]
        # Begun again it goes on; or it is taken back.
        assert world.command("replicate start").error is None
        world.to_an_end()


@pytest.mark.parametrize(("place", "other"), [("REVOKE", "rollback --emergency"), ("ALTER SUBSCRIPTION", "rollback")])
def test_a_rollback_beside_finalize_leaves_the_monolith_its_rights(world: World, other: str, place: str) -> None:
    """Prevents users on a monolith that cannot write, and a replication removed while both sides are written to."""
    with said(world):
        world.command("canary run")
        assert world.sky.live == 100
        world.command("finalize", place, beside(world, other))
        world.can_write()
        world.to_an_end()


def test_what_is_run_beside_the_end_or_after_it_leads_back_to_it(world: World) -> None:
    """Prevents a remedy that empties the only current rows: a copy, or a start of replication, that knows nothing of the end."""
    with said(world):
        world.command("canary run")
        assert world.command("replicate start", "WITH RECURSIVE trusted", beside(world, "finalize")).interfered
        for name in ("schema apply", "copy", "replicate start", "verify", "canary run"):
            after = str(world.command(name).error)
            assert ("`finalize` ended on " in after) is (name in ("copy", "replicate start")), after
        world.to_an_end()


def test_what_is_broken_on_purpose_is_seen_and_can_be_ended(world: World) -> None:
    """Prevents a machine that sees nothing: a lock that never yields, a deployment that outlives a rollback, a rollback that does not drain."""

    def never_yields() -> None:
        world.command(
            "canary step", "cloud: preview", lambda _: world.beside("canary step --take-over", "cloud: preview")
        )

    def not_undone() -> None:
        world.command("canary step", "cloud: before up", beside(world, "rollback"))
        assert world.sky.live == 0, "a deployment outlived the rollback"

    def not_drained() -> None:
        world.command("canary step")
        world.ask()
        world.command("rollback")

    for broken, what, seen in (
        (operator_lock._SessionLock, "check", never_yields),
        (Step, "_still_wanted", not_undone),
        (WayBack, "_drain", not_drained),
    ):
        with said(world), pytest.MonkeyPatch.context() as patch:
            patch.setattr(broken, what, lambda *_: None)
            with pytest.raises(AssertionError, match=SEEN[what]):
                seen()
            world.alone()
            world.answer()
        assert world.command("rollback").error is None


SEEN = {
    "check": "raises the weight to 25 % while .*canary step.* has the lock",
    "_still_wanted": "outlived",
    "_drain": "is proven while a request is under way",
}


def test_rights_that_are_taken_too_early_are_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a machine that does not see a `finalize` at 25 %."""
    monkeypatch.setitem(safety.RULES, safety.Transition.REVOKE, ())
    world.command("canary step")
    world.command("finalize")
    with pytest.raises(Wrong, match="myteacher_app_user gets requests at 25 % and cannot write on the source"):
        world.can_write()


def test_a_removal_under_a_rollback_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a machine that does not see a `finalize` which looks at nothing once replication has stopped."""
    monkeypatch.setattr(finalize._Finalizer, "_still_over", lambda self: None)
    world.command("canary run")
    with said(world), pytest.raises(Wrong, match="it is finalized at 0 %"):
        world.command("finalize", "ALTER SUBSCRIPTION", beside(world, "rollback"))


def test_what_a_verification_overlooks_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a machine that takes verify's word: one that looks at no row finds both sides equal."""
    monkeypatch.setattr(TableComparison, "run", lambda one: Compared.of(({}, {}), Found(one.limit)))
    world.drift("target", "title", 3)
    with said(world), pytest.raises(Wrong, match="the sides differ after a fence: .*drifted 1"):
        world.command("verify")
