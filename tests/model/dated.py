"""The rules that the record of writes replaced: the data rows travel, and the later `updated_at` takes the whole row.

As scripts/replication/conflicts/ had them, without the deadlocks and the heartbeat between two commands: whoever wrote a
row last locally, and is not known to be known, meets the incoming row; the later second wins, a tie is the source's.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.model.world import BASE, ROW, SOURCE, Cell, Kind, Message, Row, Shape, Told, Write


class Image(NamedTuple):
    """A change as the data table's publication sends it: an update carries the whole row."""

    key: int
    kind: Kind
    row: Row
    second: int


class Database(NamedTuple):
    """One side."""

    side: int
    rows: tuple[Row, ...]
    #: Of each row: its `updated_at`, and whether its last writer was local.
    seconds: tuple[int, ...]
    local: tuple[bool, ...]
    sent: int
    received: int
    told: tuple[Told, ...]


class Dated:
    """Decided by `updated_at`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def start(self, side: int) -> Database:
        none = len(self.shape.rows)
        return Database(side, self.shape.rows, (0,) * none, (False,) * none, 0, 0, ())

    def begin(self, db: Database, writes: tuple[Write, ...], second: int) -> tuple[Database, Message]:
        images = []
        for write in writes:
            row = db.rows[write.key] if write.kind == "update" else None
            given = dict(write.values)
            cells = row or (Cell(0, BASE),) * len(self.shape.columns)
            new = tuple(
                Cell(given[name], write.number) if name in given else cell
                for name, cell in zip(self.shape.columns, cells, strict=True)
            )
            images.append(Image(write.key, write.kind, None if write.kind == "delete" else new, second))
        return db, Message(tuple(images), len(writes))

    def commit(self, db: Database, message: Message) -> tuple[Database, Message]:
        for image in message.records:
            db = self._put(db, image, local=True)
        return db._replace(sent=db.sent + 1), message

    def _put(self, db: Database, image: Image, local: bool) -> Database:
        at = image.key
        return db._replace(
            rows=(*db.rows[:at], image.row, *db.rows[at + 1 :]),
            seconds=(*db.seconds[:at], image.second, *db.seconds[at + 1 :]),
            local=(*db.local[:at], local, *db.local[at + 1 :]),
        )

    def receive(self, db: Database, message: Message, looked: None) -> tuple[Database, None]:
        for image in message.records:
            here = db.rows[image.key]
            unknown = here is not None and db.local[image.key]
            if image.kind == "delete":
                if unknown:
                    db = self._tell(db, here, None)
                db = self._put(db, image, local=False)
            elif here is None:
                # An update that finds no row is passed by.
                db = self._put(db, image, local=False) if image.kind == "insert" else db
            elif unknown and not self._takes(db, image):
                db = self._tell(db, image.row, here)
            else:
                db = self._tell(db, here, image.row) if unknown else db
                db = self._put(db, image, local=False)
        return db._replace(received=db.received + 1), None

    @staticmethod
    def _takes(db: Database, image: Image) -> bool:
        there = db.seconds[image.key]
        return image.second > there or (image.second == there and db.side != SOURCE)

    def _tell(self, db: Database, loser: Row, winner: Row) -> Database:
        """The log has both rows: taken as told is each value of the loser that the winner does not have."""
        cells = winner or (None,) * len(self.shape.columns)
        told = [
            Told("update", cell.by, name)
            for name, cell, other in zip(self.shape.columns, loser or (), cells, strict=bool(loser))
            if cell != other and cell.by >= 0
        ]
        if winner is None and told:
            told += [Told("delete", told[0].write, ROW)]
        return db._replace(told=(*db.told, *told))

    def waits(self, db: Database, message: Message, opened: Message) -> bool:
        keys = {one.key for one in opened.records}
        return any(one.key in keys for one in message.records)

    def look(self, db: Database) -> None:
        return None

    def rows(self, db: Database) -> tuple[Row, ...]:
        return db.rows

    def told(self, db: Database) -> tuple[Told, ...]:
        return db.told

    def proven(self, left: Database, kept: Database) -> bool:
        """A fence, then the rows that are still there."""
        if left.sent != kept.received:
            return False
        pairs = zip(left.rows, kept.rows, left.local, strict=True)
        return all(row is None or not local or row == other for row, other, local in pairs)

    def prune(self, db: Database, peer: Database, opened: tuple[Message, ...]) -> None:
        return None
