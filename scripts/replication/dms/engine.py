"""AWS DMS as the engine: slots made here, two tasks started from them, and what they say judged."""

from __future__ import annotations

from typing import Any

from components import dms_settings
from scripts.copy import slot as copy_slot
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors
from scripts.database.engines import PLUGINS, dms_started, dms_state_key
from scripts.database.helper_schema import Side
from scripts.replication.dms import api as dms_api
from scripts.replication.dms import exceptions as dms_exceptions
from scripts.replication.dms import state as dms_state
from scripts.replication.engine import DIRECTIONS, Direction, publisher, subscriber
from scripts.support.errors import Refused
from scripts.support.events import ReplicateEvent, Step
from scripts.support.settings import Settings

PLUGIN = PLUGINS["dms"]


def slot_name(settings: Settings, direction: Direction) -> str:
    """The slot that a direction's task reads: on the source for `forward`, on the target for `reverse`."""
    config = settings.config
    return config.subscription if direction == "forward" else config.reverse_subscription


def _open(settings: Settings, side: Side, step: str) -> Connection:
    url = settings.source() if side == "source" else settings.target()
    return connect(url, step=step, name=f"{side.upper()}_DATABASE_URL", lock_timeout_ms=1000)


class DmsEngine:
    """AWS DMS as an engine; see :class:`scripts.replication.engine.Engine`.

    What was started from which position stands in the helper schema on the target, as a task that is resumed must not be
    started anew, and one of an earlier attempt must not be resumed.
    """

    def __init__(self, dms: dms_api.Dms | None = None) -> None:
        self._given = dms

    def _dms(self, settings: Settings) -> dms_api.Dms:
        return self._given or dms_api.build(settings)

    def check(self, settings: Settings) -> None:
        """Slot, instance, tasks and endpoints must be there and fit each other. Raises Refused."""
        dms = self._dms(settings)
        name = slot_name(settings, "forward")
        with domain_errors("looking at the copy's slot"), _open(settings, "source", "replicate") as source:
            slot = copy_slot.describe(source, name)
            plugin = _plugin(source, name)
        if slot is None or slot["wal_status"] == "lost":
            raise Refused(
                f"the slot {name} of the copy is {'gone' if slot is None else 'lost'}: changes since the copy cannot be had any "
                "more; run `task-migration rollback --abandon`, then `task-migration copy`"
            )
        if plugin != PLUGIN:
            raise Refused(
                f"the slot {name} has the plugin {plugin}, AWS DMS reads {PLUGIN}; the copy was made for the native engine: run "
                "`task-migration rollback --abandon`, then `task-migration copy` with replicationEngine dms"
            )
        dms.check_instance()
        wanted = dms_settings.table_mappings(settings.config.db_schema, settings.config.tables)
        for direction in DIRECTIONS:
            problem = dms_state.mapping_problem(dms.task(direction), wanted)
            if problem:
                raise Refused(problem)
            reads = dms_api.ENDPOINTS[direction][0]
            found = (dms.endpoint(reads).get("PostgreSQLSettings") or {}).get("SlotName")
            if found != slot_name(settings, direction):
                raise Refused(
                    f"the endpoint {reads} reads the slot {found}, the copy's is {slot_name(settings, direction)}; it was deployed with "
                    "another `subscription`: pulumi up, then run the command again"
                )

    def start(self, settings: Settings) -> list[str]:
        """The way back with its slot first, before the target can take a first write; then forward, from the copy's slot."""
        dms, found = self._dms(settings), [f"slot {slot_name(settings, 'forward')}"]
        with domain_errors("making the reverse slot"), _open(settings, "target", "replicate") as target:
            name = slot_name(settings, "reverse")
            if copy_slot.describe(target, name) is None:
                target.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (name, PLUGIN))
            else:
                found.append(f"slot {name}")
        dms.test_connections([name for direction in DIRECTIONS for name in dms_api.ENDPOINTS[direction]])
        # The rows of the copy are behind the reverse slot; what forward applies has DMS's mark, which reverse leaves out.
        ways: tuple[Direction, Direction] = ("reverse", "forward")
        for direction in ways:
            if self._start_one(settings, dms, direction) == "running-already":
                found.append(f"task {dms_api.TASKS[direction]}")
        return found

    def _start_one(self, settings: Settings, dms: dms_api.Dms, direction: Direction) -> str:
        name = slot_name(settings, direction)
        with domain_errors(f"starting the {direction} task"), _open(settings, "target", "replicate") as target:
            known = catalog_state.get(target, dms_state_key(direction))
            position = None
            if known is None:
                with _open(settings, publisher(direction), "replicate") as reader:
                    slot = copy_slot.describe(reader, name)
                if slot is None:
                    raise Refused(
                        f"the slot {name} went away; run `task-migration rollback --abandon`, then copy again"
                    )
                position = str(slot["confirmed_lsn"])
            with _open(settings, subscriber(direction), "replicate") as writer:
                seen = dms_exceptions.count(writer)
            done = dms.start(direction, position)
            if known is None or done != "running-already":
                # What was not applied before a stop has been looked at by whoever starts again.
                lsn = position or known["lsn"]
                catalog_state.put(target, dms_state_key(direction), {"lsn": lsn, "slot": name, "exceptions_seen": seen})
            settings.journal.record(
                Step.REPLICATE, ReplicateEvent(f"dms-{done}"), task=dms_api.TASKS[direction], position=position
            )
        return done

    def enabled(self, settings: Settings) -> bool:
        """Both tasks run. Without a start from this copy AWS is not asked: `verify` works with the two URLs alone."""
        with domain_errors("looking whether DMS was started"), _open(settings, "target", "fence") as target:
            if not all(dms_started(target, direction) for direction in DIRECTIONS):
                return False
        dms = self._dms(settings)
        found = [dms.find(direction) for direction in DIRECTIONS]
        return all(task is not None and task["Status"] == "running" for task in found)

    def state(self, settings: Settings, direction: Direction) -> dict[str, Any]:
        """How a task stands: its status, tables, exceptions, latencies and DMS's own validation.

        Returns:
            what :class:`scripts.replication.engine.Engine` says, and ``task`` (status), ``latency`` (``source_seconds``,
            ``target_seconds``, None without figures), ``tables`` (inserts, updates and deletes applied), ``validation``,
            ``exceptions`` (``expected``, ``unexpected``: counts of changes that were not applied).
        """
        dms, name = self._dms(settings), slot_name(settings, direction)
        with domain_errors("replicate status"), _open(settings, publisher(direction), "status") as reader:
            slot = copy_slot.describe(reader, name)
        with domain_errors("replicate status"), _open(settings, "target", "status") as target:
            known = catalog_state.get(target, dms_state_key(direction)) or {}
        with domain_errors("replicate status"), _open(settings, subscriber(direction), "status") as writer:
            exceptions = dms_exceptions.read(writer, int(known.get("exceptions_seen", 0)))
        refused = dms_state.unexpected(exceptions)
        task = dms.find(direction)
        document: dict[str, Any] = {
            "running": False,
            "lag_bytes": slot["lag_bytes"] if slot else None,
            "lag_seconds": None,
            "reason": None,
            "apply_errors": len(refused),
            # DMS names the failing row in its table of exceptions, and waits for no lock longer than executeTimeout.
            "error": None,
            "blocked_by": [],
            "slot": slot,
            "task": task["Status"] if task else None,
            "exceptions": {"expected": len(exceptions) - len(refused), "unexpected": len(refused)},
        }
        problems: list[str | None] = [_slot_problem(name, slot)]
        if task is None:
            problems.append(
                f"AWS DMS has no task {dms_api.TASKS[direction]}; pulumi up --refresh, then `task-migration replicate start`"
            )
        else:
            statistics = dms.statistics(str(task["ReplicationTaskArn"])) if task["Status"] != "ready" else []
            document["latency"] = dms.latency(task)
            document["tables"] = [
                {
                    "table": f"{entry.get('SchemaName')}.{entry.get('TableName')}",
                    "state": entry.get("TableState"),
                    "inserts": int(entry.get("Inserts") or 0),
                    "updates": int(entry.get("Updates") or 0),
                    "deletes": int(entry.get("Deletes") or 0),
                }
                for entry in statistics
            ]
            document["validation"] = dms_state.validation(statistics)
            if task["Status"] != "running":
                problems.append(dms_state.instance_problem(dms.instance(), dms.free_storage_gb()))
            problems += [dms_state.task_problem(task), *dms_state.table_problems(statistics)]
        problems.append(_refused(refused, subscriber(direction)))
        document["reason"] = dms_state.first(problems)
        document["running"] = document["reason"] is None
        return document

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Stop both tasks and confirm it; slots and checkpoints stay."""
        dms = self._dms(settings)
        # A task ends the transactions that it holds first; a stop that is given up would leave it in `stopping`.
        limit = max(timeout, dms_api.STOP_SECONDS)
        return [dms_api.TASKS[direction] for direction in DIRECTIONS if dms.stop(direction, limit)]

    def unapplied(self, settings: Settings, direction: Direction) -> list[str]:
        """Tables that changed after the last heartbeat: it came through a fence, so what stands before it was applied."""
        name, side = slot_name(settings, direction), publisher(direction)
        with domain_errors(f"reading the rest of the slot {name}"), _open(settings, side, "confirm") as reader:
            if copy_slot.describe(reader, name) is None:
                return []
            with copy_slot.copied(reader, name) as copy:
                lines = reader.execute(
                    "SELECT data FROM pg_logical_slot_peek_changes(%s, NULL, NULL, 'skip-empty-xacts', '1')", (copy,)
                ).fetchall()
        return dms_state.changed_after_beat(
            [str(line[0]) for line in lines], side, settings.config.db_schema, settings.config.tables
        )

    def drop(self, settings: Settings) -> None:
        """Delete the tasks that ever ran, as each would resume where the slot no longer is; then the slots."""
        dms = self._dms(settings)
        for direction in DIRECTIONS:
            task = dms.find(direction)
            if task is not None and task["Status"] != "ready":
                dms.delete(direction)
        for direction in DIRECTIONS:
            side = publisher(direction)
            with domain_errors(f"dropping the slot on the {side}"), _open(settings, side, "remove") as connection:
                # DMS's session may end a moment after its task.
                copy_slot.drop_leftover(connection, slot_name(settings, direction), timeout=60.0)

    def leftovers(self, settings: Settings) -> list[str]:
        """Tasks that ever ran, and slots on either side."""
        dms, found = self._dms(settings), []
        for direction in DIRECTIONS:
            task = dms.find(direction)
            if task is not None and task["Status"] != "ready":
                found.append(f"AWS DMS: task {dms_api.TASKS[direction]} ({task['Status']})")
            side = publisher(direction)
            with (
                domain_errors(f"looking for leftovers on the {side}"),
                _open(settings, side, "leftovers") as connection,
            ):
                if copy_slot.describe(connection, slot_name(settings, direction)) is not None:
                    found.append(f"{side}: slot {slot_name(settings, direction)}")
        return found


def _plugin(connection: Connection, name: str) -> str | None:
    row = connection.execute("SELECT plugin FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone()
    return str(row[0]) if row else None


def _slot_problem(name: str, slot: dict[str, Any] | None) -> str | None:
    if slot is None:
        return f"the slot {name} does not exist: changes since it went cannot be had; abandon and copy again"
    if slot["wal_status"] == "lost":
        return f"the slot {name} is lost (max_slot_wal_keep_size was passed); abandon and copy again"
    return None


def _refused(found: list[dms_state.ApplyException], side: Side) -> str | None:
    if not found:
        return None
    last = found[-1]
    return (
        f"{len(found)} changes were not applied on the {side}, the last on {last.table} ({last.kind}) at {last.at}: {last.error.strip()}; "
        "mend with `task-migration verify --repair newest`, then `task-migration replicate stop` and `start`, which takes them as seen"
    )
