"""Step 3: prove that both sides hold the same rows, while both take writes, and repair what differs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from scripts.database import catalog, helper_schema, strangers
from scripts.database.connections import Connection, domain_errors
from scripts.database.pace import Pace
from scripts.database.sides import open_side
from scripts.replication import bands, fence
from scripts.replication.documents import SequenceBand
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import Step, VerifyEvent
from scripts.support.progress import SILENT, Progress, Work
from scripts.support.settings import Settings
from scripts.support.sides import BOTH
from scripts.verify import verdict
from scripts.verify.compare import Compared, TableComparison
from scripts.verify.documents import (
    ComparedTable,
    Orphans,
    RowDifference,
    ShownValues,
    Verification,
)
from scripts.verify.hash import Algorithm
from scripts.verify.orphans import audits
from scripts.verify.repair import repair as repair_rows
from scripts.verify.rows import Difference, Key
from scripts.verify.sessions import PAIRS, CatchUp, Pair, Sessions, sessions
from scripts.verify.slices import about
from scripts.verify.verdict import Begun
from scripts.writes import watch

Repair = Literal["newest", "source", "target"]
#: Differences listed for a table; more are counted, not listed.
LISTED = 1000
#: Differences of a table that are repaired between two comparisons.
REPAIRED = 10_000
#: How often a row is sent that differs still; a row that somebody writes meanwhile is not sent at all.
SENT = 3
#: Seconds after which a replication engine that cannot be asked counts as not running.
ASKED_BY_FENCE = 5.0
#: A table with more than this share of all pages is summed by bucket at once: a second pass over it would cost too much.
SHARE = 0.25


def run(
    settings: Settings,
    show_values: bool = False,
    repair: Repair | None = None,
    algorithm: Algorithm = "hash",
    fence_timeout: float = 30.0,
    progress: Progress = SILENT,
    max_load: str | None = None,
    gentle: bool = False,
    stop: threading.Event | None = None,
    incremental: bool = False,
) -> Verification:
    """Compare counts and checksums of every table, then single rows where they differ, then look again after a fence.

    A row is reported only when both sides held still around a fence and it differed before and after; a row that keeps
    being written is looked at again, up to :data:`scripts.verify.rows.ROUNDS` times, and then counted in ``unsettled``.
    Memory does not grow with the tables nor with the number of differences.

    Args:
        show_values: list the rows' values as text too, each cut at :data:`scripts.verify.rows.SHOWN` characters.
        repair: the newest version wins (the later updated_at, else the source's; a row that is there wins over one that is not), or
            always the source's, or always the target's. The winner sends its row as a recorded write, so fences must run.
        algorithm: ``hash`` (PostgreSQL's own, fast) or ``md5``, as the plan names it.
        fence_timeout: seconds that a fence may take.
        max_load: of either server, as :class:`scripts.database.pace.Pace` takes it.
        gentle: work half of the time, and on one core of each server for each of two tables at most.
        stop: once it is set the verification ends with an error before its next piece of work.
        incremental: compare the rows written since the last verification that matched, and a part of the rest, where that one can be
            built on (see :mod:`scripts.verify.verdict`); else every row, as without it.

    Returns:
        At most :data:`LISTED` differences are listed for a table, ``differences_total`` counts all. Columns that one side
        lacks are in ``schema``, not in ``columns``. ``differences`` are those before a repair, and a repair of them all
        leaves ``match`` true.

    Raises:
        Refused: the tables do not exist or have no primary key; ``repair`` is unknown or wanted of an incremental run, code of others
            would run, or replication does not run both ways.
        TimedOut: a fence did not come through, or the load stayed past ``max_load``.
    """
    if repair not in (None, "newest", "source", "target"):
        raise Refused(f"repair {repair!r}: it must be newest, source or target")
    if repair and incremental:
        raise Refused(
            "an incremental verification repairs nothing, it does not see every row; leave out --incremental or --repair"
        )
    if repair:
        strangers.refuse_both(settings, "verify")
    with (
        domain_errors("verify"),
        Pace(settings, BOTH, PAIRS, max_load, gentle=gentle, progress=progress, stop=stop) as pace,
        sessions(settings, pace) as opened,
    ):
        verifier = Verifier.begin(
            settings,
            opened,
            algorithm,
            show_values,
            REPAIRED if repair else LISTED,
            fence_timeout,
            progress,
            incremental,
        )
        if repair and not verifier.catch_up.live:
            raise Refused(
                f"--repair {repair}: replication does not run both ways, so rows under way cannot be told from differences, and what is "
                "repaired would not arrive; run `task-migration replicate start` (`replicate status` says what is wrong), then again"
            )
        first, (sequences, drift, *lost) = verifier.compare(
            [
                partial(_sequences, settings),
                lambda _: schema.diff(settings).drift,
                *verifier.references(),
            ]
        )
        last, repaired, undecided, followed = first, Counter[str](), list[str](), list[str]()
        if repair:
            last, repaired, undecided, followed = verifier.repair(first, repair)
        if repaired:
            lost = opened.each(verifier.references())
        orphans = [one for found_ in lost for one in found_]
    recording = _recording(settings)
    report = [_table(verifier.tables[name], first[name], last[name], repaired[name]) for name in verifier.tables]
    found = Verification(
        match=all(entry.match for entry in report)
        and all(one.known for one in orphans)
        and not drift
        and not recording
        and all(band.status != "fail" for band in sequences),
        tables=report,
        sequences=sequences,
        orphans=orphans,
        undecided=undecided[:LISTED],
        followed=followed[:LISTED],
        schema_match=not drift,
        schema_differences=drift,
        recording=recording,
        live=verifier.catch_up.live,
        algorithm=algorithm,
        written=None if verifier.written is None else sum(map(len, verifier.written.values())),
    )
    _keep(settings, verifier.begun, found)
    settings.journal.record(
        Step.VERIFY,
        VerifyEvent.COMPARED,
        match=found.match,
        written=found.written,
        repair=repair,
        algorithm=algorithm,
        schema_match=found.schema_match,
        recording=recording,
        differences={entry.table: entry.differences_total for entry in report},
        rows={entry.table: entry.source_rows for entry in report},
        target_rows={entry.table: entry.target_rows for entry in report},
        equal={entry.table: entry.match for entry in report},
    )
    return found


@dataclass(frozen=True)
class Verifier:
    """One verification: what both catalogs say, and how to compare."""

    settings: Settings
    sessions: Sessions
    begun: Begun
    #: By table, the keys written since the base of an incremental run; None: every row is compared.
    written: dict[str, set[Key]] | None
    catch_up: CatchUp
    tables: dict[str, catalog.Table]
    theirs: dict[str, catalog.Table]
    algorithm: Algorithm
    values: bool
    limit: int
    progress: Progress

    @classmethod
    def begin(
        cls,
        settings: Settings,
        opened: Sessions,
        algorithm: Algorithm,
        values: bool,
        limit: int,
        fence_timeout: float,
        progress: Progress,
        incremental: bool,
    ) -> Verifier:
        """Read both catalogs and let what is under way arrive."""
        asks: list[Callable[[Pair], Any]] = [
            lambda pair: pair.both(partial(_catalog, settings, pair)),
            partial(_live, settings),
        ]
        source, target = opened.pairs[0].source, opened.pairs[0].target
        begun = verdict.begin(source, target)
        (tables, theirs), live = opened.each(asks)
        catch_up = CatchUp(settings, live, fence_timeout)
        catch_up()
        oids = [table.oid for table in tables.values()], [table.oid for table in theirs.values()]
        begun = verdict.bound(begun, source, target, oids, live)
        written = verdict.written(source, target, begun, list(tables)) if incremental else None
        return cls(settings, opened, begun, written, catch_up, tables, theirs, algorithm, values, limit, progress)

    def compare(self, beside: list[Callable[[Pair], Any]]) -> tuple[dict[str, Compared], list[Any]]:
        """Compare every table, the largest first, and do what is wanted ``beside``."""
        pages = {name: max(table.pages, self.theirs[name].pages) for name, table in self.tables.items()}
        names = sorted(pages, key=lambda name: -pages[name])
        limit = SHARE * sum(pages.values())
        # Rows of both sides; a target just filled may have no estimate yet.
        expected = 2 * sum(
            max(table.rows_estimate, self.theirs[name].rows_estimate) or about(table)
            for name, table in self.tables.items()
        )

        def one(name: str, told: Work, pair: Pair) -> Compared:
            comparison = TableComparison(
                pair=pair,
                table=self.tables[name],
                theirs=self.theirs[name],
                algorithm=self.algorithm,
                at_once=pages[name] > limit,
                limit=self.limit,
                values=self.values,
                catch_up=self.catch_up,
                told=told,
                pace=self.sessions.pace,
            )
            if self.written is None:
                return comparison.run()
            return comparison.part(sorted(self.written.get(name, ())), verdict.turn(self.begun))

        with self.progress.work("compare both sides", expected if self.written is None else None, "rows") as told:
            work: list[Callable[[Pair], Any]] = [partial(one, name, told) for name in names]
            done = self.sessions.each([*work, *beside])
        return dict(zip(names, done, strict=False)), done[len(names) :]

    def repair(
        self, found: dict[str, Compared], rule: Repair
    ) -> tuple[dict[str, Compared], Counter[str], list[str], list[str]]:
        """Repair and compare again until nothing differs or nothing more can be repaired; the last comparison, the rows repaired by
        table, what a person has to decide, and what followed."""
        repaired = Counter[str]()
        sent = Counter[tuple[str, Key]]()
        undecided: list[str] = []
        followed: list[str] = []
        while any(compared.differences for compared in found.values()):
            differing = {(name, one.key): one for name, compared in found.items() for one in compared.differences}
            stuck = [row for row in differing if sent[row] >= SENT]
            left = {name: [one for (of, _), one in differing.items() if of == name] for name in found}
            for name, key in stuck:
                left[name].remove(differing[name, key])
            done = repair_rows(self.settings, self.tables, self.theirs, left, rule)
            sent.update(done.sent)
            repaired.update(name for name, _ in done.sent)
            undecided = done.undecided + [
                f"{name} {'/'.join(key)} was sent {SENT} times and differs as before: what arrives is changed there, look at the table's own "
                "triggers (task-migration schema diff), then verify again"
                for name, key in stuck
            ]
            followed += [text for text in done.followed if done.sent and text not in followed]
            self.catch_up()
            found, _ = self.compare([])
            if not done.sent:
                break
        left_over = any(compared.found.total for compared in found.values())
        return found, repaired, undecided if left_over else [], followed

    def references(self) -> list[Callable[[Pair], list[Orphans]]]:
        """What looks at one foreign key each: those that cross the border, and those between the moved tables."""
        return [one.run for one in audits(self.tables, self.theirs, self.catch_up, self.sessions.pace)]


def _catalog(settings: Settings, pair: Pair, side: Connection) -> dict[str, catalog.Table]:
    name = "source" if side is pair.source else "target"
    return catalog.read(side, settings.config.db_schema, settings.config.tables, name)


def _keep(settings: Settings, begun: Begun, found: Verification) -> None:
    with (
        domain_errors("verify"),
        open_side(settings, "source", "verify") as source,
        open_side(settings, "target", "verify") as target,
    ):
        if helper_schema.installed(source):
            verdict.keep(source, target, begun, match=found.match, incremental=found.written is not None)


def _recording(settings: Settings) -> list[str]:
    """What of our triggers and functions is not as it was made."""
    found = []
    for side in BOTH:
        with domain_errors("verify"), open_side(settings, side, "verify") as connection:
            found += [f"{side}: {text}" for text in watch.changed(connection, settings.config, side).triggers]
    return found


def _live(settings: Settings, pair: Pair) -> bool:
    """Whether fences come through, so that rows under way can be told from differences."""
    if not all(pair.both(helper_schema.installed)):
        return False
    try:
        return fence.available(settings)
    except MigrationError as unreachable:
        # The engine is asked through AWS, which a verification can do without: a fence that comes through says it too.
        try:
            fence.both(settings, ASKED_BY_FENCE)
        except MigrationError as late:
            settings.journal.record(Step.VERIFY, VerifyEvent.NO_FENCE, engine=str(unreachable), fence=str(late))
            return False
        return True


def _sequences(settings: Settings, pair: Pair) -> list[SequenceBand]:
    return bands.between(settings, pair.source, pair.target)


def _plain(table: catalog.Table, name: str, text: str) -> int | str:
    return int(text) if table.column(name).is_integer else text


def _table(table: catalog.Table, first: Compared, last: Compared, repaired: int) -> ComparedTable:
    return ComparedTable(
        table=table.name,
        source_rows=last.source_rows,
        target_rows=last.target_rows,
        source_checksum=last.source_checksum,
        target_checksum=last.target_checksum,
        match=not last.found.total and not last.found.moving,
        differences=[_difference(table, difference) for difference in first.differences[:LISTED]],
        differences_total=first.found.total,
        differences_by_kind=dict(sorted(first.found.kinds.items())),
        repaired=repaired,
        unsettled=last.found.moving,
    )


def _difference(table: catalog.Table, difference: Difference) -> RowDifference:
    shown = difference.source_values is not None or difference.target_values is not None
    return RowDifference(
        key={name: _plain(table, name, text) for name, text in zip(table.key, difference.key, strict=True)},
        kind=difference.kind,
        columns=list(difference.columns),
        values=ShownValues(source=difference.source_values, target=difference.target_values) if shown else None,
    )
