"""How long a slot that nobody reads may keep WAL: the write rate, measured, against the room there is for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from components.config import ConfigError
from components.config_values import read_stack_file
from scripts.database.connections import Connection, scalar
from scripts.preflight.documents import Check
from scripts.preflight.server import QUERIES
from scripts.support.figure import figure
from scripts.support.settings import Settings, stack_file
from scripts.support.sides import Side

#: Fewer hours of WAL than this before the room is used up: warn. A night and the morning after it.
WAL_HOURS = 12.0
#: How long the write rate is watched, in seconds, at least.
SAMPLE_SECONDS = 2.0
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Position:
    """Where the log was at a moment of this process's clock."""

    lsn: str
    at: float


@dataclass(frozen=True)
class Room:
    """Room for WAL in bytes, None when nothing says; and what says so."""

    bytes: int | None
    basis: str


def position(connection: Connection) -> Position:
    """The log's position now."""
    return Position(str(scalar(connection, "SELECT pg_current_wal_lsn()")), time.monotonic())


def check(
    settings: Settings, side: Side, connection: Connection, before: Position, seconds: float = SAMPLE_SECONDS
) -> Check:
    """The runway of one side; waits until ``seconds`` have passed since ``before``."""
    time.sleep(max(0.0, before.at + seconds - time.monotonic()))
    after = position(connection)
    written = int(scalar(connection, "SELECT pg_wal_lsn_diff(%s, %s)", (after.lsn, before.lsn)))
    elapsed = after.at - before.at
    mean = scalar(connection, QUERIES["mean_wal"])
    keep = int(scalar(connection, "SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'"))
    rooms = [
        Room(keep * MEBIBYTE if keep >= 0 else None, "max_slot_wal_keep_size sets no limit" if keep < 0 else "max_slot_wal_keep_size"),
        Room(int(settings.config.wal_allowance_gb * 2**30), "walAllowanceGb of the configuration"),
    ]  # fmt: skip
    if side == "source":
        rooms.append(disk(settings))
    return judge(side, written / max(elapsed, 0.001), figure(float(mean or 0.0)) or 0.0, elapsed, rooms)


def judge(side: str, sampled: float, mean: float, seconds: float, rooms: list[Room]) -> Check:
    """The verdict. Pure.

    Args:
        sampled: bytes of WAL a second, over the ``seconds`` that were watched.
        mean: the same since the server's statistics were reset; the larger of the two counts.
        rooms: all that limits the WAL, one of them known; the smallest known one counts.
    """
    rate = max(sampled, mean)
    limit, says = min((room.bytes, room.basis) for room in rooms if room.bytes is not None)
    hours = limit / (rate * 3600) if rate else float("inf")
    unknown = "".join(f"; {room.basis}" for room in rooms if room.bytes is None)
    return Check(
        f"{side}: hours of WAL",
        "pass" if hours >= WAL_HOURS else "warn",
        f"{rate * 3600 / MEBIBYTE:.1f} MiB of WAL an hour (watched for {seconds:.1f} s: {sampled * 3600 / MEBIBYTE:.1f}, mean since the "
        f"statistics' reset: {mean * 3600 / MEBIBYTE:.1f}, the larger counts); a stopped reader has {hours:.1f} hours until "
        f"{limit / 2**30:.1f} GiB are full ({says}{unknown}), {WAL_HOURS:g} are wanted",
        "make room on the disk (RDS: modify-db-instance --allocated-storage) and raise what is the limit: walAllowanceGb, or ALTER "
        "SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); a slot past that is lost, and the copy starts over",
    )


def disk(settings: Settings) -> Room:
    """The source's free disk as CloudWatch has it for the stack's source instance."""
    if settings.stack is None:
        return Room(None, "no stack is selected, so CloudWatch is not asked for the free disk")
    try:
        values = read_stack_file(stack_file(settings.stack))
    except ConfigError as error:
        return Room(None, str(error))
    identifier = str(values.get("sourceInstanceIdentifier") or "")
    if not identifier:
        return Room(None, "sourceInstanceIdentifier is not set, so CloudWatch is not asked for the free disk")
    return free_storage(identifier, str(values.get("region") or "") or None)


def free_storage(identifier: str, region: str | None) -> Room:
    """FreeStorageSpace of an RDS instance, its least value of the last hour (Amazon RDS, 'Amazon CloudWatch metrics')."""
    from botocore.exceptions import BotoCoreError, ClientError

    from scripts.support.aws import client

    now = datetime.now(UTC)
    try:
        answer: Mapping[str, list[Mapping[str, float]]] = client("cloudwatch", region).get_metric_statistics(
            Namespace="AWS/RDS",
            MetricName="FreeStorageSpace",
            Dimensions=[{"Name": "DBInstanceIdentifier", "Value": identifier}],
            StartTime=now - timedelta(hours=1),
            EndTime=now,
            Period=300,
            Statistics=["Minimum"],
        )
    except (ClientError, BotoCoreError) as error:
        return Room(
            None, f"FreeStorageSpace of {identifier} cannot be read: {error}; check cloudwatch:GetMetricStatistics"
        )
    points = [one for point in answer.get("Datapoints", []) if (one := figure(point["Minimum"])) is not None]
    if not points:
        return Room(None, f"CloudWatch has no FreeStorageSpace of {identifier} in the last hour")
    return Room(int(min(points)), f"FreeStorageSpace of {identifier}, least of the last hour")
