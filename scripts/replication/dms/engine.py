"""AWS DMS as the engine: slots made here, two tasks started from them, and what they say judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components import dms_settings
from components.naming import POSTGRES_PORT
from scripts.copy import slot as copy_slot
from scripts.database import helper_schema
from scripts.database.connections import domain_errors, parameters, scalar
from scripts.database.engines import PLUGINS, dms_started, dms_state_key
from scripts.database.sides import open_side, session
from scripts.database.tls import stays_here
from scripts.replication import roles, slots, writes
from scripts.replication.directions import DIRECTIONS, Direction, Login, Part, publisher, slot_name, subscriber
from scripts.replication.dms import answers, api, exceptions
from scripts.replication.dms.observe import ENDPOINTS, TASKS
from scripts.replication.documents import DmsDirectionState, DmsTable
from scripts.support.errors import Refused
from scripts.support.events import ReplicateEvent, Step
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side

PLUGIN = PLUGINS["dms"]
#: No lock of the applications is waited for longer, milliseconds.
LOCK_MS = 300
#: The record of writes that each direction carries.
RECORDS: Mapping[Direction, str] = {"forward": dms_settings.FORWARD_RECORD, "reverse": dms_settings.REVERSE_RECORD}
#: Numbers of the writes that a slot holds.
_HELD = (
    "SELECT substring(substr(data, length(%s) + 1) FROM '^[0-9]+') FROM pg_logical_slot_peek_changes(%s, NULL, NULL) "
    "WHERE starts_with(data, %s)"
)


class DmsEngine:
    """AWS DMS as an engine; see :class:`scripts.replication.engine.Engine`.

    What was started from which position stands in the helper schema on the target, as a task that is resumed must not be
    started anew, and one of an earlier attempt must not be resumed.
    """

    def check(self, settings: Settings) -> None:
        """Slot, instance, tasks and endpoints must be there and fit each other. Raises Refused."""
        dms = api.build(settings)
        name = slot_name(settings, "forward")
        with session(settings, "source", "replicate", "looking at the copy's slot", LOCK_MS) as source:
            slots.usable(name, copy_slot.describe(source, name))
            plugin = scalar(source, "SELECT plugin FROM pg_replication_slots WHERE slot_name = %s", (name,))
        if plugin != PLUGIN:
            raise Refused(
                f"the slot {name} has the plugin {plugin}, AWS DMS reads {PLUGIN}; the copy was made for the native engine: run "
                "`task-migration rollback --abandon`, then `task-migration copy` with replicationEngine dms"
            )
        dms.check_instance()
        for direction in DIRECTIONS:
            task, size = dms.task(direction), settings.config.dms_lob_max_size_kb
            for problem in (
                answers.mapping_problem(task, dms_settings.table_mappings(RECORDS[direction])),
                answers.settings_problem(task, dms_settings.task_settings(lob_max_size_kb=size)),
            ):
                if problem:
                    raise Refused(problem)
            reads = ENDPOINTS[direction][0]
            found = (dms.endpoint(reads).get("PostgreSQLSettings") or {}).get("SlotName")
            if found != slot_name(settings, direction):
                raise Refused(
                    f"the endpoint {reads} reads the slot {found}, the copy's is {slot_name(settings, direction)}; it was deployed with "
                    "another `subscription`: pulumi up, then run the command again"
                )
            _refuse_a_hole(settings, direction)

    def start(self, settings: Settings, force: bool = False) -> list[Part]:  # noqa: ARG002 - no password of ours
        """The way back with its slot first, before the target can take a first write; then forward, from the copy's slot."""
        dms = api.build(settings)
        for side in BOTH:
            with session(settings, side, "replicate", "granting the role of replication", LOCK_MS) as there:
                roles.ensure(there, settings.config, side)
        with session(settings, "target", "replicate", "making the reverse slot", LOCK_MS) as target:
            name = slot_name(settings, "reverse")
            was_there = copy_slot.describe(target, name) is not None
            if not was_there:
                target.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (name, PLUGIN))
        parts = [Part(f"slot {slot_name(settings, 'forward')}", True), Part(f"slot {name}", was_there)]
        dms.test_connections([name for direction in DIRECTIONS for name in ENDPOINTS[direction]])
        for direction in ("reverse", "forward"):
            outcome = self._start_one(settings, dms, direction)
            parts.append(Part(f"task {TASKS[direction]}", outcome == "running-already"))
        return parts

    def _start_one(self, settings: Settings, dms: api.Dms, direction: Direction) -> api.Outcome:
        name = slot_name(settings, direction)
        with session(settings, "target", "replicate", f"starting the {direction} task", LOCK_MS) as target:
            known = helper_schema.get(target, dms_state_key(direction))
            position = None
            if known is None:
                with open_side(settings, publisher(direction), "replicate", LOCK_MS) as reader:
                    slot = copy_slot.describe(reader, name)
                if slot is None:
                    raise Refused(
                        f"the slot {name} went away; run `task-migration rollback --abandon`, then copy again"
                    )
                position = str(slot.confirmed_lsn)
            with open_side(settings, subscriber(direction), "replicate", LOCK_MS) as writer:
                seen = exceptions.count(writer)
            done = dms.start(direction, position)
            if known is None or done != "running-already":
                # What was not applied before a stop has been looked at by whoever starts again.
                lsn = position or known["lsn"]
                helper_schema.put(target, dms_state_key(direction), {"lsn": lsn, "slot": name, "exceptions_seen": seen})
            settings.journal.record(
                Step.REPLICATE, ReplicateEvent(f"dms-{done}"), task=TASKS[direction], position=position
            )
        return done

    def logins(self, settings: Settings) -> Mapping[Side, Login]:
        """The roles in the secrets of the two endpoints that write, which are those of the two that read."""
        dms = api.build(settings)
        return {subscriber(direction): dms.login(ENDPOINTS[direction][1]) for direction in DIRECTIONS}

    def fill_secret(self, settings: Settings) -> bool:
        """The target's, which the program declares without a value; the source's is the team's. Host and port are those of the
        target's URL: a tunnel names the database's host and gives its own address beside it (docs/security.md, 'Certificates').

        Raises:
            Refused: by that URL the database is not known by name, so AWS DMS would look for it on its own machine.
        """
        dms, endpoint = api.build(settings), ENDPOINTS["forward"][1]
        if dms.has_value(endpoint):
            return False
        values = parameters(settings.target(), "TARGET_DATABASE_URL")
        here = stays_here(values)
        if here and settings.stack is not None and settings.stage is None:
            raise Refused(
                f"the secret of the endpoint {endpoint} has no value, and TARGET_DATABASE_URL leads to {values.get('host')}, where AWS DMS "
                "would not find the target; name the database in it, host=<its endpoint> hostaddr=127.0.0.1 for a tunnel, or leave it unset"
            )
        # A tunnel's port is its own.
        port = POSTGRES_PORT if values.get("hostaddr") and not here else int(values["port"])
        dms.put_login(endpoint, settings.config.replication_role, str(values["host"]), port)
        return True

    def enabled(self, settings: Settings) -> bool:
        """Both tasks run. Without a start from this copy AWS is not asked: `verify` works with the two URLs alone."""
        with session(settings, "target", "fence", "looking whether DMS was started", LOCK_MS) as target:
            if not all(dms_started(target, direction) for direction in DIRECTIONS):
                return False
        dms = api.build(settings)
        found = [dms.find(direction) for direction in DIRECTIONS]
        return all(task is not None and task["Status"] == "running" for task in found)

    def halted(self, settings: Settings, direction: Direction) -> str | None:
        """Without its slot, or with a task that is not there, stopped or failed."""
        seen = self.state(settings, direction)
        gone = slots.problem(slot_name(settings, direction), seen.slot)
        return gone or (seen.reason if seen.task in (None, "stopped", "failed") else None)

    def state(self, settings: Settings, direction: Direction) -> DmsDirectionState:
        """How a task stands: its status, tables, exceptions and latencies."""
        dms, name = api.build(settings), slot_name(settings, direction)
        with session(settings, publisher(direction), "status", "replicate status", LOCK_MS) as reader:
            slot = copy_slot.describe(reader, name)
        with session(settings, "target", "status", "replicate status", LOCK_MS) as target:
            known = helper_schema.get(target, dms_state_key(direction)) or {}
        with session(settings, subscriber(direction), "status", "replicate status", LOCK_MS) as writer:
            refused = exceptions.read(writer, int(known.get("exceptions_seen", 0)))
        task = dms.find(direction)
        statistics = (
            dms.statistics(str(task["ReplicationTaskArn"])) if task is not None and task["Status"] != "ready" else []
        )
        latency = dms.latency(task) if task is not None else None
        problems = [
            slots.problem(name, slot),
            *_task_problems(dms, direction, task, statistics),
            _refused(refused, subscriber(direction)),
        ]
        reason = next((problem for problem in problems if problem), None)
        if reason and refused and task is not None and task["Status"] == "failed":
            # AWS says of a failure that there was one.
            reason += f"; the last that was not applied: {refused[-1].error}"
        # DMS names the failing row in its table of exceptions, and waits for no lock longer than executeTimeout.
        return DmsDirectionState(
            running=reason is None,
            lag_bytes=slot.lag_bytes if slot else None,
            reason=reason,
            apply_errors=len(refused),
            slot=slot,
            task=task["Status"] if task is not None else None,
            latency=latency,
            tables=[_table(entry) for entry in statistics] if task is not None else None,
        )

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Stop both tasks and confirm it; slots and checkpoints stay."""
        dms = api.build(settings)
        # A task ends the transactions that it holds first; a stop that is given up would leave it in `stopping`.
        limit = max(timeout, api.STOP_SECONDS)
        return [TASKS[direction] for direction in DIRECTIONS if dms.stop(direction, limit)]

    def drop(self, settings: Settings) -> None:
        """Delete the tasks that ever ran, as each would resume where the slot no longer is; then the slots."""
        dms = api.build(settings)
        for direction in DIRECTIONS:
            task = dms.find(direction)
            if task is not None and task["Status"] != "ready":
                dms.delete(direction)
        for direction in DIRECTIONS:
            side = publisher(direction)
            with session(settings, side, "remove", f"dropping the slot on the {side}", LOCK_MS) as connection:
                # DMS's session may end a moment after its task.
                copy_slot.drop_leftover(connection, slot_name(settings, direction), timeout=60.0)

    def leftovers(self, settings: Settings) -> list[str]:
        """Tasks that ever ran, and slots on either side."""
        dms, found = api.build(settings), []
        for direction in DIRECTIONS:
            task = dms.find(direction)
            if task is not None and task["Status"] != "ready":
                found.append(f"AWS DMS: task {TASKS[direction]} ({task['Status']})")
            side = publisher(direction)
            with session(settings, side, "leftovers", f"looking for leftovers on the {side}", LOCK_MS) as connection:
                if copy_slot.describe(connection, slot_name(settings, direction)) is not None:
                    found.append(f"{side}: slot {slot_name(settings, direction)}")
        return found


def _refuse_a_hole(settings: Settings, direction: Direction) -> None:
    """A slot must hold each write that the other side lacks, and its side know each that the other one has. Raises Refused."""
    name, side, peer = slot_name(settings, direction), publisher(direction), subscriber(direction)
    with (
        domain_errors(f"looking for a gap behind the slot {name}"),
        open_side(settings, "target", "replicate", LOCK_MS) as target,
        open_side(settings, side, "replicate", LOCK_MS) as reader,
        open_side(settings, peer, "replicate", LOCK_MS) as writer,
    ):
        slot, started = copy_slot.describe(reader, name), dms_started(target, direction)
        if slot is None and not started:
            return
        slots.usable(name, slot)
        forgotten = writes.forgotten(reader, writer, side)
        # The copy keeps what the task would confirm meanwhile.
        with copy_slot.copied(reader, name) as copy:
            missing = writes.lacking(settings, side)
            head = f"table {dms_settings.HELPER_SCHEMA}.{RECORDS[direction]}: INSERT: v[bigint]:"
            rows = reader.execute(_HELD, (head, copy, head)).fetchall() if missing else []
    if forgotten:
        raise Refused(
            f"{forgotten} of the newest writes of the {side} that the {peer} has are not known to the {side} itself: it is an older "
            f"state of itself (restored?), whose next writes would be taken for known; nothing was changed. {slots.REMEDY}"
        )
    gone = {v: table for v, table in missing.items() if v not in {int(row[0]) for row in rows}}
    if gone:
        raise Refused(
            f"the slot {name} no longer holds {len(gone)} writes of the {side} that the {peer} lacks "
            f"({', '.join(sorted(set(gone.values())))}): it was made anew, moved by hand, or read by somebody else; nothing was changed. "
            f"{slots.REMEDY}"
        )


def _task_problems(
    dms: api.Dms, direction: Direction, task: Mapping[str, Any] | None, statistics: Sequence[Mapping[str, Any]]
) -> Iterator[str | None]:
    """What keeps a task from carrying changes, the deepest cause first."""
    if task is None:
        yield (f"AWS DMS has no task {TASKS[direction]}; pulumi up --refresh, then `task-migration replicate start`")
        return
    if task["Status"] != "running":
        yield answers.instance_problem(dms.instance(), dms.free_storage_gb())
    yield answers.task_problem(task)
    yield from answers.table_problems(statistics)


def _table(entry: Mapping[str, Any]) -> DmsTable:
    return DmsTable(
        table=f"{entry.get('SchemaName')}.{entry.get('TableName')}",
        state=entry.get("TableState"),
        inserts=int(entry.get("Inserts") or 0),
        updates=int(entry.get("Updates") or 0),
        deletes=int(entry.get("Deletes") or 0),
    )


def _refused(found: list[answers.ApplyException], side: Side) -> str | None:
    if not found:
        return None
    last = found[-1]
    return (
        f"{len(found)} writes were not applied on the {side}, the last at {last.at}: {last.error}; mend what it says, then "
        "`task-migration replicate stop` and `start`, which goes on where the task stopped and takes them as seen; prove it with "
        "`task-migration verify`"
    )
