"""Step 1.2: both directions of replication, by whatever engine, with the conflict rules; ready when fences come through."""

from __future__ import annotations

from typing import Literal

from scripts.copy.state import other_tables
from scripts.database import end_mark, helper_schema, strangers
from scripts.database.connections import Connection, scalar
from scripts.database.sides import both, session
from scripts.replication import bands, fence, roles, slots
from scripts.replication import status as observed
from scripts.replication.directions import DIRECTIONS, Direction, publisher, slot_name, subscriber
from scripts.replication.documents import ReplicationRole, ReplicationRoles, Started, Status, Stopped, Waited
from scripts.replication.engine import engine_of
from scripts.schema import role
from scripts.support.errors import Refused
from scripts.support.events import ReplicateEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.writes import install as writes
from scripts.writes import watch


def start(settings: Settings, timeout: float = 60.0, progress: Progress = SILENT, *, force: bool = False) -> Started:
    """Start both directions; safe to run again, it completes what is missing.

    Order: rules on both sides; the way back with its slot, before the target can take a first write; then forward, from
    the copy's slot; ready when a fence has come through both ways. Only then may the Task Service's role write.

    Args:
        force: also where the server would show a password of the role of replication to others than its superusers.

    Raises:
        Refused: no complete copy, code of others, a slot that is not what it was, writes that it left out, or a password that others
            may read.
        TimedOut: a fence did not come through in ``timeout`` seconds, or a table's lock was not to be had.
    """
    engine = engine_of(settings)
    with session(settings, "target", "replicate", "replicate start") as target:
        state = helper_schema.get(target, helper_schema.COPY)
    if not state or state.get("status") != "complete":
        with session(settings, "source", "replicate", "replicate start") as source:
            end_mark.refuse(source, settings.config, "replication was removed for good, and nothing is left to start")
        raise Refused("no complete copy on the target, so nothing to go on from; run `task-migration copy` first")
    if changed := other_tables(state, settings.config):
        raise Refused(changed)
    engine.check(settings)
    strangers.refuse_both(settings, "replicate")
    settings.journal.record(Step.REPLICATE, ReplicateEvent.STARTING, slot=settings.config.subscription)
    _install(settings)
    parts = engine.start(settings, force)
    lag = fence.both(settings, timeout, progress)
    for direction in DIRECTIONS:
        _check_arrived(settings, direction, timeout)
    role.grant_writes(settings)
    started = Started(
        status="already-running" if all(part.was_on for part in parts) else "started",
        found=[part.name for part in parts if part.was_on],
        warnings=sorted({text for part in parts for text in part.warnings}),
        **lag,
    )
    settings.journal.record(Step.REPLICATE, ReplicateEvent(started.status), found=started.found, **lag)
    return started


def make_roles(settings: Settings, dry_run: bool = False, force: bool = False) -> ReplicationRoles:
    """Make the role that replication logs in with on both sides; with AWS DMS it gets the password of its secret,
    which is filled on the target where it has no value. Safe to run again.

    With PostgreSQL's own replication it has no password, and so no way in, before `replicate start`, which makes it too.

    Raises:
        Refused: a role of that name may do more, or the operator may not make it; a secret names another role.
    """
    config, engine = settings.config, engine_of(settings)
    if not dry_run and engine.fill_secret(settings):
        settings.journal.record(Step.REPLICATE, ReplicateEvent.LOGIN_MADE)
    logins = engine.logins(settings)
    made: list[ReplicationRole] = []
    warnings: list[str] = []
    for side in BOTH:
        login = logins.get(side)
        if login is not None and login.user != config.replication_role:
            raise Refused(
                f"the secret that AWS DMS has for the {side} names the role {login.user}, replicationRole is {config.replication_role}: "
                "put that into the secret, with a password of its own, so that the operator's and the master's stay out of it"
            )
        with (
            session(settings, side, "role", "making the role of replication") as connection,
            connection.transaction(force_rollback=dry_run),
        ):
            status: Literal["created", "there", "password"] = (
                "created" if roles.ensure(connection, config, side) else "there"
            )
            if login is not None and not role.logs_in(settings.url(side), login.user, login.password):
                status = "password" if status == "there" else status
                _, shown = roles.set_password(connection, login.user, login.password.get_secret_value(), force=force)
                warnings += [text for text in shown if text not in warnings]
        made.append(ReplicationRole(side=side, role=config.replication_role, status=status))
    return ReplicationRoles(roles=made, warnings=warnings)


def _install(settings: Settings) -> None:
    """Capture and rules on both sides, made for the tables as they are now."""
    with both(settings, "replicate", "installing the record of writes", writes.LOCK_MS) as (source, target):
        if not (helper_schema.installed(source) and helper_schema.installed(target)):
            raise Refused(
                "what the copy keeps in the schema task_migration has gone since this command began: another one ended or gave up the "
                "migration; look at `task-migration status`"
            )
        _note_unrecorded(settings, "source", source)
        _note_unrecorded(settings, "target", target)
        writes.capture_on(source, settings.config, "source")
        clock = scalar(source, "SELECT last_value FROM task_migration.clock")
        # The target's clock begins above the source's: its first write of a row knows all that was copied.
        writes.capture_on(target, settings.config, "target", clock_start=clock)
        writes.rules_on(target, settings.config, "target")
        writes.rules_on(source, settings.config, "source")


def _note_unrecorded(settings: Settings, side: Side, connection: Connection) -> None:
    """A trigger that was off is on again from here, but what was written meanwhile left no record: kept, until a verification
    finds both sides equal."""
    if seen := watch.unrecorded(connection, settings.config, side):
        helper_schema.put(connection, watch.UNRECORDED, seen)


def _check_arrived(settings: Settings, direction: Direction, timeout: float) -> None:
    """What was recorded before a fence must be there after it. Raises Refused."""
    _, missing = fence.arrival(settings, direction, timeout)
    if missing:
        raise Refused(
            f"{missing:,} writes of the {publisher(direction)} are not on the {subscriber(direction)}, though later ones are; the limit "
            f"is none: the slot {slot_name(settings, direction)} left them out. {slots.REMEDY}"
        )


def status(settings: Settings, fence_timeout: float = 5.0) -> Status:
    """How both directions stand; see :func:`scripts.replication.status.read`."""
    return observed.read(settings, fence_timeout)


def wait(settings: Settings, timeout: float = 60.0, progress: Progress = SILENT) -> Waited:
    """Wait until a fence comes through both ways; then look at the bands.

    Raises:
        TimedOut: one did not in ``timeout`` seconds; with the last observation.
        Refused: a sequence of the source has reached the target's band, so that both sides would hand out the same ids.
    """
    lag = fence.both(settings, timeout, progress)
    sequences = bands.read(settings)
    reached = [band for band in sequences if band.status == "fail"]
    if reached:
        raise Refused(
            "; ".join(
                f"sequence {band.sequence}: the source stands at {band.source_last}, the target at {band.target_last}, the band "
                f"begins at {band.band_start}"
                for band in reached
            )
            + ": both sides may hand out the same ids; route all writes to one side (`task-migration rollback`), raise "
            "sequenceBandStart and copy again"
        )
    return Waited(**lag, sequences=sequences)


def stop(settings: Settings, timeout: float = 60.0, drain: bool = True, progress: Progress = SILENT) -> Stopped:
    """Drain both directions by a fence, then stop their workers; slots stay, so that ``start`` can go on without a hole.

    Raises:
        TimedOut: what was committed before the call did not come through in ``timeout`` seconds; nothing was stopped.
    """
    drained = drain and fence.available(settings)
    if drained:
        fence.both(settings, timeout, progress)
    stopped = engine_of(settings).stop(settings, timeout)
    settings.journal.record(Step.REPLICATE, ReplicateEvent.STOPPED, stopped=stopped, drained=drained)
    return Stopped(status="stopped" if stopped else "not-running", drained=drained, stopped=stopped)
