"""Looks whether a rollback from here would keep every write in time; what follows from it is decided in `ready`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from scripts.canary import history
from scripts.canary.ready import Readiness, Shadowed, rollback_estimate
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.finish import rights
from scripts.replication import fence, writers
from scripts.replication import run as replicate
from scripts.replication.documents import REMEDY_IN_DETAIL, Status
from scripts.support import safety
from scripts.support.errors import TimedOut
from scripts.support.safety import State, Transition
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import verdict

if TYPE_CHECKING:  # a look at the databases starts nothing of AWS
    from scripts.canary.stage import Stage


def observe(stage: Stage) -> Readiness:
    """Measure everything that :func:`scripts.canary.ready.ready` judges.

    Raises:
        DatabaseError: one of the databases cannot be reached.
        Refused: replication was never set up.
    """
    settings = stage.settings
    seen = by_databases(
        settings, replicate.status(settings, settings.config.gates.replication_lag_seconds), not stage.declared_weight()
    )
    service = stage.service.health() if stage.service is not None else None
    if (last := seen.shadowed) is not None:
        definition = stage.service.definition if stage.service is not None else None
        seen = replace(seen, shadowed=replace(last, same_service=last.definition == definition))
    return replace(seen, service=service)


def by_databases(settings: Settings, status: Status, nobody_there: bool) -> Readiness:
    """As :func:`observe`, of ``status`` and the two databases alone: nothing of the service, nor which definition of it is declared.

    Args:
        nobody_there: no user is on the Task Service, so that a `shadow` may be wanted.
    """
    config = settings.config
    limit = config.gates.replication_lag_seconds
    with both(settings, "ready", "the last verification and shadow reads") as (source, target):
        verified, shadowed = verdict.newest(source, target), _shadowed(source, target)
        writing = State(
            monolith_writes=rights.may_write(source, config, config.source_role),
            service_writes=rights.may_write(target, config, config.target_role),
        )
    unsafe = safety.unsafe(Transition.RAISE, writing)
    return Readiness(
        forward=status.forward,
        reverse=status.reverse,
        probe_seconds=probe(settings, limit) if status.reverse.lag_seconds is not None else None,
        schema_match=status.schema_match,
        failing=(*_failing(status), *([unsafe] if unsafe else [])),
        told=status.conflicts.source + status.conflicts.target,
        verified=verified,
        service=None,
        rollback_seconds=rollback_estimate(
            status.reverse.lag_seconds, history.read(settings).ups, config.drain_seconds
        ),
        shadowed=shadowed if config.require_shadow and nobody_there else None,
        not_switched=writers.not_switched(config, status.writers),
    )


def deserted(stage: Stage, tell: Callable[[str], None]) -> str | None:
    """Why nobody may be left on the Task Service: no target was healthy for `blindPeriods`, looked at from now on. None where one was,
    or there is nobody to ask.

    Raises:
        MigrationError: ECS or the load balancer cannot be read.
    """
    config, service = stage.settings.config, stage.service
    seconds = config.gates.blind_periods * config.period_seconds
    if service is None or service.health().healthy:
        return None
    tell(f"no target of the Task Service is healthy; its requests go back unless one is within {seconds:g} s")
    try:
        wait_until(
            service.health, lambda seen: seen.healthy > 0, what="a target", timeout=seconds, interval=seconds / 20
        )
    except TimedOut:
        return f"no target of the Task Service was healthy for {seconds:g} s, and it gets requests: {service.health()}"
    return None


def _shadowed(source: Connection, target: Connection) -> Shadowed:
    last, now = helper_schema.get(source, helper_schema.SHADOWED), verdict.begin(source, target)
    if last is None or "began" not in last:
        return Shadowed(None)
    age = datetime.fromisoformat(now.began) - datetime.fromisoformat(last["began"])
    same_copy = last["copy"] == now.copy is not None
    return Shadowed(bool(last["match"]), age.total_seconds() / 3600, same_copy=same_copy, definition=last["definition"])


def _failing(status: Status) -> tuple[str, ...]:
    """What fails that no rule of its own in `ready` looks at."""
    return tuple(
        f"{one.what}: {one.detail}" + ("" if one.remedy == REMEDY_IN_DETAIL else f" (remedy: {one.remedy})")
        for one in status.findings
        if one.status == "fail" and one.what != "schema drift" and not one.what.endswith(": not running")
    )


def probe(settings: Settings, timeout: float) -> float | None:
    """Write a fence on the target and read that very record, value by value, on the source; the seconds it took.

    A row of the helper schema, which the reverse direction carries as it carries the moved tables: no business row is
    touched. None when it could not be read within ``timeout`` seconds.

    Raises:
        DatabaseError: one of the databases cannot be reached.
    """
    query = "SELECT v, kind, at FROM task_migration.target_writes WHERE v = %s"
    with both(settings, "probe", "the synthetic write", first="target") as (target, source):
        started = time.monotonic()
        number = (fence.post(target, "target"),)
        wrote = target.execute(query, number).fetchone()
        pause = 0.002
        while time.monotonic() - started < timeout:
            seen = source.execute(query, number).fetchone()
            if seen is not None:
                return round(time.monotonic() - started, 4) if seen == wrote else None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
    return None
