"""Step 3: prove that both sides hold the same rows, while both take writes, and mend what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from scripts.database import catalog
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, domain_errors
from scripts.replication import bands, fence
from scripts.replication.documents import SequenceBand
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import Step, VerifyEvent
from scripts.support.settings import Settings
from scripts.verify import compare as verify_compare
from scripts.verify import orphans as verify_orphans
from scripts.verify import repair as verify_repair
from scripts.verify.compare import Compared, Task
from scripts.verify.documents import Orphans, RowDifference, ShownValues, TableComparison, Verification
from scripts.verify.hash import Algorithm
from scripts.verify.rows import Difference, Pair
from scripts.verify.sessions import Sessions, Settle, sessions

Repair = Literal["newest", "source", "target"]
#: Differences listed for a table; more are counted, not listed.
LISTED = 1000
#: Differences of a table that are mended between two comparisons.
MENDED = 10_000
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
) -> Verification:
    """Compare counts and checksums of every table, then single rows where they differ, then look again after a fence.

    A row is reported only when both sides held still around a fence and it differed before and after; a row that keeps
    being written is looked at again, up to :data:`scripts.verify.rows.ROUNDS` times, and then counted in ``unsettled``.
    Memory does not grow with the tables nor with the number of differences.

    Args:
        show_values: list the rows' values as text too, each cut at :data:`scripts.verify.rows.SHOWN` characters.
        repair: mend the differences: the newest version wins (updated_at, then the commit's time; a row that is there wins
            over one that is not), or always the source's, or always the target's. The mend does not travel back.
        algorithm: ``hash`` (PostgreSQL's own, fast) or ``md5``, as the plan names it.
        fence_timeout: seconds that a fence may take.

    Returns:
        At most :data:`LISTED` differences are listed for a table, ``differences_total`` counts all. Columns that one side
        lacks are in ``schema``, not in ``columns``. ``differences`` are those before a repair, and a repair that mends them
        all leaves ``match`` true.

    Raises:
        Refused: the tables do not exist or have no primary key, or ``repair`` is unknown.
        TimedOut: a fence did not come through.
    """
    if repair not in (None, "newest", "source", "target"):
        raise Refused(f"repair {repair!r}: it must be newest, source or target")
    with domain_errors("verify"), sessions(settings) as opened:
        run_ = _Run.begin(settings, opened, algorithm, show_values, MENDED if repair else LISTED, fence_timeout)
        first, (sequences, drift) = run_.compare(
            [partial(_sequences, settings), lambda _: schema.diff(settings).differences]
        )
        last, repaired = first, Counter[str]()
        while repair is not None and any(compared.differences for compared in last.values()):
            left = {name: compared.differences for name, compared in last.items()}
            mended = verify_repair.mend(settings, run_.tables, run_.theirs, left, repair)
            repaired.update(mended)
            run_.settle()
            last, _ = run_.compare([])
            if not any(mended.values()):
                break
        orphans = run_.orphans(last)
    report = [_table(run_.tables[name], first[name], last[name], repaired[name]) for name in run_.tables]
    found = Verification(
        match=all(entry.match for entry in report)
        and not orphans
        and not drift
        and all(entry.status != "fail" for entry in sequences),
        tables=report,
        sequences=sequences,
        orphans=orphans,
        schema_match=not drift,
        schema_differences=drift,
        live=run_.settle.live,
        algorithm=algorithm,
    )
    settings.journal.record(
        Step.VERIFY,
        VerifyEvent.COMPARED,
        match=found.match,
        repair=repair,
        algorithm=algorithm,
        schema_match=found.schema_match,
        differences={entry.table: entry.differences_total for entry in report},
        rows={entry.table: entry.source_rows for entry in report},
    )
    return found


@dataclass(frozen=True)
class _Run:
    """One verification: what both catalogs say, and how to compare."""

    sessions: Sessions
    settle: Settle
    tables: dict[str, catalog.Table]
    theirs: dict[str, catalog.Table]
    keys: dict[str, list[catalog.Constraint]]
    algorithm: Algorithm
    values: bool
    limit: int
    schema: str
    #: By table, the keys that the last comparison looked up for each row.
    covered: dict[str, list[catalog.Constraint]] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, settings: Settings, opened: Sessions, algorithm: Algorithm, values: bool, limit: int, timeout: float
    ) -> _Run:
        asks: list[Callable[[Pair], Any]] = [
            lambda pair: pair.both(partial(_catalog, settings, pair)),
            partial(_live, settings),
        ]
        (tables, theirs), live = opened.each(asks)
        settle = Settle(settings, live, timeout)
        settle()
        keys = verify_orphans.crossing(tables, theirs)
        return cls(opened, settle, tables, theirs, keys, algorithm, values, limit, settings.config.db_schema)

    def compare(self, beside: list[Callable[[Pair], Any]]) -> tuple[dict[str, Compared], list[Any]]:
        """Compare every table, the largest first, and do what is wanted ``beside``."""
        parents = verify_orphans.Parents(self.schema)
        pages = {name: max(table.pages, self.theirs[name].pages) for name, table in self.tables.items()}
        names = sorted(pages, key=lambda name: -pages[name])
        limit = SHARE * sum(pages.values())

        def one(name: str, pair: Pair) -> Compared:
            lost, self.covered[name] = parents.condition(pair.source, self.theirs[name], self.keys[name])
            at_once = pages[name] > limit
            task = Task(self.tables[name], self.theirs[name], self.algorithm, lost, at_once, self.limit, self.values)
            return verify_compare.compare(pair, task, self.settle)

        work: list[Callable[[Pair], Any]] = [partial(one, name) for name in names]
        done = self.sessions.each([*work, *beside])
        return dict(zip(names, done, strict=False)), done[len(names) :]

    def orphans(self, compared: dict[str, Compared]) -> list[Orphans]:
        """Audit the keys that the pass over the rows did not cover, and all of a table in which it found something."""
        pair = self.sessions.pairs[0]
        wanted = [
            (self.theirs[name], key)
            for name, keys in self.keys.items()
            for key in keys
            if compared[name].lost or key not in self.covered[name]
        ]
        return verify_orphans.audit(pair.source, pair.target, wanted, self.settle)


def _catalog(settings: Settings, pair: Pair, side: Connection) -> dict[str, catalog.Table]:
    name = "source" if side is pair.source else "target"
    return catalog.read(side, settings.config.db_schema, settings.config.tables, name)


def _live(settings: Settings, pair: Pair) -> bool:
    """Whether fences come through, so that rows under way can be told from differences."""
    if not all(pair.both(catalog_state.installed)):
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
    return int(text) if table.column(name).base_type in ("int2", "int4", "int8") else text


def _table(table: catalog.Table, first: Compared, last: Compared, repaired: int) -> TableComparison:
    return TableComparison(
        table=table.name,
        source_rows=last.source_rows,
        target_rows=last.target_rows,
        source_checksum=last.source_checksum,
        target_checksum=last.target_checksum,
        match=not last.found.total and not last.found.unsettled,
        differences=[_difference(table, difference) for difference in first.differences[:LISTED]],
        differences_total=first.found.total,
        differences_by_kind=dict(sorted(first.found.kinds.items())),
        repaired=repaired,
        unsettled=last.found.unsettled,
    )


def _difference(table: catalog.Table, difference: Difference) -> RowDifference:
    shown = difference.source_values is not None or difference.target_values is not None
    return RowDifference(
        key={name: _plain(table, name, text) for name, text in zip(table.key, difference.key, strict=True)},
        kind=difference.kind,
        columns=list(difference.columns),
        values=ShownValues(source=difference.source_values, target=difference.target_values) if shown else None,
    )
