"""The rules of the record of writes: what the triggers of both sides decide, as pure functions.

Each side numbers its writes by a Lamport clock (the source even, the target odd numbers), so a write that knew another
one has the higher number. The state of a row is a function of the set of its records, so the order of delivery between
the sides does not matter:

- it exists as the insert or delete with the highest number says; an edit never brings a row back;
- each column is what the record with the highest number that has the column says.

The one that arrives too late is told where it arrives.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.model.judge import values
from tests.model.world import BASE, ROW, RULES, SIDES, SOURCE, Cell, Kind, Message, Row, Shape, Told, Write

#: What is broken on purpose, to see that the search finds it.
FAULTS = (
    "clock stands still on apply",
    "target's clock not lifted",
    "source wins",
    "whole row wins",
    "group not carried whole",
    "edit resurrects",
    "insert forgets own later edits",
    "told on both sides",
    "not told",
    "looks before it locks",
    "absent row not locked",
    "repeat applied again",
    "pruned without a mark",
    "pruned unarrived",
    "pruned after one round of fences",
    "pruned under an open transaction",
    "parent not looked for",
    "children not looked for",
    "rules' writes stay here",
    "newer claim loses",
    "claim not looked for",
    "proof by equal rows",
)


class Record(NamedTuple):
    """A row of the table of writes."""

    v: int
    key: int
    kind: Kind
    values: tuple[tuple[str, int], ...]
    #: The person's write that it is of; RULES for what the rules wrote.
    write: int
    #: The newest record of the other side that had arrived. No rule looks at it: only a fence that goes round does.
    had: int = 0

    def has(self, column: str) -> bool:
        return any(name == column for name, _ in self.values)


class Database(NamedTuple):
    """One side."""

    side: int
    clock: int
    rows: tuple[Row, ...]
    own: tuple[Record, ...]
    peer: tuple[Record, ...]
    #: Both sides know everything up to here, and no longer keep it.
    known: int
    told: tuple[Told, ...]


def _set(rows: tuple[Row, ...], key: int, row: Row) -> tuple[Row, ...]:
    return (*rows[:key], row, *rows[key + 1 :])


class Recorded:
    """The rules, whole or with one fault."""

    def __init__(self, shape: Shape, fault: str | None = None, ahead: tuple[int, int] = (0, 0)) -> None:
        """Args:
        fault: one of :data:`FAULTS`.
        ahead: how far each side's clock is at the start, as writes of other rows move it.
        """
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"no such fault: {fault}")
        self.shape, self.fault, self.ahead = shape, fault, ahead

    def start(self, side: int) -> Database:
        clock = 2 * self.ahead[side] + side
        own: tuple[Record, ...] = ()
        if self.fault == "target's clock not lifted" and side == SOURCE:
            # A record older than the slot: its row is in the copy, its number above the target's first one.
            clock += 8
            own = (Record(clock, 0, "update", tuple((name, 0) for name in self.shape.columns), BASE),)
        return Database(side, clock, self.shape.rows, own, (), 0, ())

    # What people write

    def begin(self, db: Database, writes: tuple[Write, ...], second: int) -> tuple[Database, Message]:
        records = []
        rows = db.rows
        for write in writes:
            given = write.values
            old = rows[write.key]
            row = None
            if write.kind != "delete":
                row = self._laid(old if write.kind == "update" else None, given, write.number)
            if write.kind == "update" and self.fault == "group not carried whole":
                now = dict(zip(self.shape.columns, values(old) or (), strict=True))
                given = tuple((name, value) for name, value in given if value != now[name])
            rows = _set(rows, write.key, row)
            db = db._replace(clock=db.clock + 2)
            records.append(Record(db.clock, write.key, write.kind, given, write.number, self._had(db)))
        return db, Message(tuple(records), len(writes))

    @staticmethod
    def _had(db: Database) -> int:
        return max((one.v for one in db.peer), default=db.known)

    def commit(self, db: Database, message: Message) -> tuple[Database, Message]:
        for record in message.records:
            row = None
            if record.kind != "delete":
                row = self._laid(db.rows[record.key] if record.kind == "update" else None, record.values, record.write)
            db = db._replace(rows=_set(db.rows, record.key, row), own=(*db.own, record))
        return db, message

    def waits(self, db: Database, message: Message, opened: Message) -> bool:
        """A row that is there is locked, an insert waits at the unique index. For the rest there is a lock of the key."""
        # An insert takes its key's lock where the record shows that the key was here before.
        locked = set() if self.fault == "absent row not locked" else {one.key for one in db.own}
        keys = {one.key for one in opened.records}
        return any(
            one.key in keys and (db.rows[one.key] is not None or one.kind == "insert" or one.key in locked)
            for one in message.records
        )

    def look(self, db: Database) -> tuple[Record, ...] | None:
        return db.own if self.fault == "looks before it locks" else None

    def _laid(self, row: Row, values: tuple[tuple[str, int], ...], by: int) -> Row:
        """A row with ``values`` laid over it."""
        given = dict(values)
        cells = row or (Cell(0, BASE),) * len(self.shape.columns)
        return tuple(
            Cell(given[name], by) if name in given else cell
            for name, cell in zip(self.shape.columns, cells, strict=True)
        )

    # What arrives

    def receive(
        self, db: Database, message: Message, looked: tuple[Record, ...] | None
    ) -> tuple[Database, Message | None]:
        made: list[Record] = []
        for record in message.records:
            repeated = record.v <= db.known or record in db.peer
            if repeated and self.fault != "repeat applied again":
                continue
            if not repeated:
                db = db._replace(peer=(*db.peer, record))
            if self.fault != "clock stands still on apply":
                db = self._advanced(db, record.v)
            db = self._apply(db, record, db.own if looked is None else looked)
            db = self._claims(db, record.key, made)
        db = self._keys(db, made)
        if self.fault == "rules' writes stay here":
            made = []
        return db, Message(tuple(made), 0) if made else None

    @staticmethod
    def _advanced(db: Database, v: int) -> Database:
        clock = db.clock
        while clock < v:
            clock += 2
        return db._replace(clock=clock)

    def _apply(self, db: Database, record: Record, own: tuple[Record, ...]) -> Database:
        """One record decided against the own ones of its key that have a higher number: those did not know it, nor it them."""
        later = [one for one in own if one.key == record.key and one.v > record.v]
        earlier = [one for one in own if one.key == record.key and one.v < record.v]
        if self.fault == "source wins":
            later, earlier = (later + earlier, []) if db.side == SOURCE else ([], later + earlier)
        row = db.rows[record.key]
        existence = [one for one in later if one.kind != "update"]
        if record.kind == "delete":
            if existence and existence[-1].kind == "insert":
                return self._tell(db, "delete of inserted", record, (ROW,))
            if self.fault == "told on both sides":
                for one in later:
                    db = self._tell(db, "update of deleted", one, tuple(name for name, _ in one.values))
            return db._replace(rows=_set(db.rows, record.key, None))
        columns = tuple(name for name, _ in record.values)
        if record.kind == "insert" and existence:
            if existence[-1].kind == "delete":
                return self._tell(db, "insert of deleted", record, (*columns, ROW))
            return self._differing(db, record, columns, later)
        if record.kind == "update" and row is None and self.fault != "edit resurrects":
            return self._tell(db, "update of deleted", record, columns)
        lost = tuple(name for name in columns if any(one.has(name) for one in later))
        if lost and self.fault == "whole row wins":
            lost = columns
        over = later if record.kind == "insert" and self.fault != "insert forgets own later edits" else []
        if record.kind == "insert" and not over:
            lost = ()
        taken = tuple(pair for pair in record.values if pair[0] not in lost)
        base = row if record.kind == "update" else None
        new = self._laid(base, taken, record.write)
        for one in over:
            new = self._laid(new, one.values, one.write)
        db = db._replace(rows=_set(db.rows, record.key, new))
        if self.fault == "told on both sides":
            for one in earlier:
                if one.kind == "update":
                    both = tuple(name for name, _ in one.values if name in dict(taken))
                    db = self._tell(db, "update", one, both) if both else db
        return self._differing(db, record, lost, later)

    def _differing(self, db: Database, record: Record, lost: tuple[str, ...], later: list[Record]) -> Database:
        """Of what lost to later own writes, what they say otherwise."""
        kept = {name: value for one in later for name, value in one.values}
        given = dict(record.values)
        return self._tell(db, "update", record, tuple(name for name in lost if kept.get(name) != given[name]))

    def _tell(self, db: Database, kind: str, record: Record, items: tuple[str, ...]) -> Database:
        items = tuple(item for item in items if item not in self.shape.bookkeeping)
        if record.write < 0 or self.fault == "not told":
            return db
        return db._replace(told=(*db.told, *(Told(kind, record.write, item) for item in items)))

    # What the rules write themselves, so that it travels and both sides agree

    def _undo(self, db: Database, key: int, kind: str, made: list[Record], column: str | None = None) -> Database:
        """Deletes a row, or empties one of its columns, by a recorded write; tells what was there."""
        row = db.rows[key]
        if row is None:
            return db
        names = self.shape.columns
        lost = [(cell.by, name) for name, cell in zip(names, row, strict=True) if column in (None, name)]
        if column is None:
            known = sorted(one for one in (*db.own, *db.peer) if one.key == key and one.kind != "update")
            gone = max((one.v for one in known if one.kind == "delete"), default=0)
            lost += [(one.write, ROW) for one in known if one.v > gone]
        clock = db.clock + 2
        if column is None:
            record = Record(clock, key, "delete", (), RULES, self._had(db))
            new: Row = None
        else:
            record = Record(clock, key, "update", ((column, 0),), RULES, self._had(db))
            new = self._laid(row, record.values, RULES)
        made.append(record)
        told = tuple(Told(kind, by, item) for by, item in lost if by >= 0)
        return db._replace(clock=clock, rows=_set(db.rows, key, new), own=(*db.own, record), told=(*db.told, *told))

    def _claims(self, db: Database, key: int, made: list[Record]) -> Database:
        """Two rows with one unique value: the one with the smaller key stays."""
        if self.shape.unique is None or self.fault == "claim not looked for":
            return db
        at = self.shape.columns.index(self.shape.unique)
        for other, there in enumerate(db.rows):
            here = db.rows[key]
            if other == key or there is None or here is None or not here[at].value or here[at].value != there[at].value:
                continue
            loser = max(key, other)
            if self.fault == "newer claim loses":
                loser = max((key, other), key=lambda one: self._claimed(db, one))
            db = self._undo(db, loser, "unique claim", made)
        return db

    def _claimed(self, db: Database, key: int) -> int:
        """The highest number of a record that touches the row's claim."""
        name = str(self.shape.unique)
        return max((one.v for one in (*db.own, *db.peer) if one.key == key and one.has(name)), default=0)

    def _keys(self, db: Database, made: list[Record]) -> Database:
        """At commit: what arrived without its parent, and the children here of a parent that went."""
        if self.shape.parent is None:
            return db
        at = self.shape.columns.index(self.shape.parent)
        column = None if self.shape.on_delete == "cascade" else self.shape.parent
        touched = {one.key for one in db.peer}
        for key, row in enumerate(db.rows):
            if row is None or not row[at].value or db.rows[row[at].value - 1] is not None:
                continue
            if self.fault == ("parent not looked for" if key in touched else "children not looked for"):
                continue
            db = self._undo(db, key, "parent gone", made, column)
        return db

    # What a person asks

    def rows(self, db: Database) -> tuple[Row, ...]:
        return db.rows

    def told(self, db: Database) -> tuple[Told, ...]:
        return db.told

    def proven(self, left: Database, kept: Database) -> bool:
        arrived = all(one.v <= kept.known or one in kept.peer for one in left.own)
        keys = {one.key for one in left.own}
        equal = all(values(left.rows[key]) == values(kept.rows[key]) for key in keys)
        if self.fault == "proof by equal rows":
            return equal
        return arrived and equal

    def prune(self, db: Database, peer: Database, opened: tuple[Message, ...]) -> Database | None:
        """Up to the smaller of both clocks, once every record up to there is committed, and on both sides."""
        sides = sorted((db, peer), key=lambda one: one.side)
        bound = min(one.clock for one in sides)
        under = any(one.v <= bound for message in opened for one in message.records)
        if under and self.fault != "pruned under an open transaction":
            return None
        if self.fault != "pruned unarrived":
            for side in SIDES:
                there = sides[1 - side]
                if any(one.v <= bound and one.v > there.known and one not in there.peer for one in sides[side].own):
                    return None
        if self.fault != "pruned after one round of fences":
            # What is under way was written with all of it at hand: a second round has brought what was not.
            for side in SIDES:
                newest = max((one.v for one in sides[1 - side].own if one.v <= bound), default=0)
                if any(
                    one.had < newest and one not in sides[1 - side].peer for one in sides[side].own if one.v > bound
                ):
                    return None
        if not any(one.v <= bound for one in (*db.own, *db.peer)):
            return None
        return db._replace(
            known=db.known if self.fault == "pruned without a mark" else bound,
            own=tuple(one for one in db.own if one.v > bound),
            peer=tuple(one for one in db.peer if one.v > bound),
        )
