"""A real run, read from the settings' journal and state directory alone: no database and no account is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scripts.canary import decisions
from scripts.report import journal, page
from scripts.report.documents import Criterion, Part, Run, Story
from scripts.report.readers import Event
from scripts.support.errors import Refused
from scripts.support.events import (
    AbandonEvent,
    BackupEvent,
    CanaryEvent,
    CopyEvent,
    FinalizeEvent,
    PreflightEvent,
    ReplicateEvent,
    RollbackEvent,
    ShadowEvent,
    Step,
    VerifyEvent,
)
from scripts.support.settings import Settings

#: What tells that AWS DMS carried the changes.
BY_DMS = (ReplicateEvent.DMS_STARTED, ReplicateEvent.DMS_RESUMED, ReplicateEvent.DMS_RUNNING_ALREADY)


def read(settings: Settings) -> Run:
    """The newest attempt as its journal tells it.

    Raises:
        Refused: nothing was journaled.
        MigrationError: the journal cannot be read.
    """
    events = journal.attempt(settings.journal.events())
    if not events:
        raise Refused(
            f"the journal in {settings.state_dir} is empty, so there is nothing to report; name another with TASK_MIGRATION_STATE_DIR"
        )
    kept = decisions.kept(settings, events)
    story = journal.tell(events, kept, gates=settings.config.gates, parts=parts(events))
    passed, verdict, criteria = judge(events, story)
    return Run(
        stack=settings.stack,
        state_dir=str(settings.state_dir),
        passed=passed,
        verdict=verdict,
        criteria=criteria,
        story=story,
    )


def page_of(found: Run) -> str:
    """The whole of it as a page with pictures."""
    where = {"journal": found.state_dir} | ({"stack": found.stack} if found.stack else {})
    title = f"Migration of {found.stack}" if found.stack else "Migration"
    facts = page.Facts(source="its journal and kept decisions", summary=where)
    return page.render(title, found.verdict, found.passed, found.criteria, found.story, facts)


def parts(events: Iterable[Event]) -> list[Part]:
    """What was real in a journal's run, and what the journal cannot know."""
    happened = list(events)
    staged = any(one.get("stage") for one in happened if _is(one, Step.PREFLIGHT, PreflightEvent.CHECKED))
    dms = any(one.get("step") == Step.REPLICATE and one.get("event") in BY_DMS for one in happened)
    account = (
        Part(part="AWS account and users", how="stand-in", what="preflight ran with a stage in the account's place, as a rehearsal's does")
        if staged
        else Part(part="AWS account and users", how="real", what="the figures are those that CloudWatch gave the gate")
    )  # fmt: skip
    carried = "AWS DMS" if dms else "PostgreSQL's own"
    return [
        account,
        Part(part="databases", how="real", what="those that the commands were given"),
        Part(part="replication", how="stand-in" if staged and dms else "real", what=carried),
        Part(part="between the watches", how="not there", what="requests, errors, latencies and lag are journaled of watched periods alone"),
        Part(part="what users were answered", how="not there", what="a journal has no ledger of acknowledged writes: the proofs compare the record of writes"),
    ]  # fmt: skip


def judge(events: Sequence[Event], story: Story) -> tuple[bool | None, str, list[Criterion]]:
    """What a journal can judge: passed (None: not at its end, and nothing failed), in a sentence, and by what."""
    # What was found of a copy says nothing of the next one.
    copies = [number for number, one in enumerate(events) if _is(one, Step.COPY, CopyEvent.STARTED)]
    before = [one for one in events[: copies[-1] if copies else 0] if one.get("step") == Step.BACKUP]
    events = [*before, *events[copies[-1] if copies else 0 :]]
    last = {(str(one.get("step")), str(one.get("event"))): one for one in events}
    ended = (Step.FINALIZE, FinalizeEvent.FINALIZED) in last
    criteria = list(_criteria(events, last, story, ended=ended))
    failed = [one.name for one in criteria if not one.passed]
    if (Step.ABANDON, AbandonEvent.ABANDONED) in last:
        return False, "Given up: the attempt was abandoned", criteria
    if failed:
        return False, f"NOT PASSED: {', '.join(failed)}", criteria
    if ended:
        return True, f"Passed: finalized, all {len(criteria)} criteria", criteria
    return None, f"Not at its end: the Task Service gets {_weight(story):g} %; nothing failed so far", criteria


def _is(event: Event, step: Step, name: str) -> bool:
    return (event.get("step"), event.get("event")) == (step, name)


def _weight(story: Story) -> float:
    asked = [one.points for one in story.series if (one.what, one.of) == ("weight", "asked")]
    return asked[0][-1][1] or 0.0 if asked else 0.0


def _criteria(
    events: Sequence[Event], last: Mapping[tuple[str, str], Event], story: Story, *, ended: bool
) -> Iterator[Criterion]:
    """Each that the journal has an answer to; of an ended run those too that it has none to, as failed."""

    def judged(name: str, event: Event | None, passed: bool, evidence: str) -> Iterator[Criterion]:
        if event is not None or ended:
            missing = event is None
            yield Criterion(name=name, passed=passed and not missing, evidence="not journaled" if missing else evidence)

    backup = last.get((Step.BACKUP, BackupEvent.VERIFIED))
    failed = last.get((Step.BACKUP, BackupEvent.FAILED))
    yield from judged(
        "backup restored and compared",
        backup or failed,
        backup is not None,
        f"sha256 {str((backup or {}).get('sha256'))[:12]}" if backup else "no backup that was restored and compared",
    )
    copied = last.get((Step.COPY, CopyEvent.COMPLETE))
    yield from judged(
        "rows copied",
        copied,
        True,
        "; ".join(f"{one.table} {one.rows:,}" for one in story.tables if one.rows is not None),
    )
    whole = [one for one in events if _is(one, Step.VERIFY, VerifyEvent.COMPARED) and one.get("written") is None]
    yield from judged(
        "both sides equal at the last look at every row",
        whole[-1] if whole else None,
        bool(whole) and whole[-1].get("match") is True,
        "; ".join(f"{one.table} {one.source_rows}={one.target_rows}" for one in story.tables),
    )
    shadow = last.get((Step.SHADOW, ShadowEvent.COMPARED), {})
    yield from judged(
        "both sides answer alike",
        shadow or None,
        shadow.get("match") is True,
        f"{sum(one.different for one in story.shadow):,} of {sum(one.answers for one in story.shadow):,} answers differ",
    )
    yield from _of_canary(events, story, ended=ended)
    proof = last.get((Step.FINALIZE, FinalizeEvent.VERIFIED))
    found: Any = (proof or {}).get("proof")
    facts: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    bad = {name: facts.get(name) for name in ("missing", "unsettled", "different_total")}
    yield from judged(
        "the target has every write of the monolith",
        proof,
        all(count == 0 for count in bad.values()),
        ", ".join(f"{name.removesuffix('_total')} {count}" for name, count in bad.items())
        + f", told {facts.get('told')}",
    )
    if ended:
        yield Criterion(name="replication taken down", passed=True, evidence="finalize ended")


def _of_canary(events: Sequence[Event], story: Story, *, ended: bool) -> Iterator[Criterion]:
    """The climb since the last way back, and each way back itself."""
    climbed: list[Event] = []
    owed: Event | None = None
    for event in events:
        if _is(event, Step.ROLLBACK, RollbackEvent.BEGUN):
            climbed, owed = [], event
        elif _is(event, Step.ROLLBACK, RollbackEvent.DONE):
            owed = None
        elif _is(event, Step.CANARY, CanaryEvent.DECIDED) and event.get("decision") == "promote":
            climbed.append(event)
    reached = [one.get("to") for one in climbed]
    if ended:
        yield Criterion(
            name="canary promoted to 100 %",
            passed=100 in reached,
            evidence=f"promoted at {', '.join(f'{weight} %' for weight in reached) or 'no weight'}",
        )
    if story.rollbacks or owed is not None:
        late = [one for one in story.rollbacks if one.proven and one.seconds > one.limit_seconds]
        each = "; ".join(
            f"from {one.from_} % in {one.seconds:.1f} s, limit {one.limit_seconds:g} s" for one in story.rollbacks
        )
        yield Criterion(
            name="each rollback proven and within its limit",
            passed=owed is None and not late,
            evidence=each + ("" if owed is None else "; the last one was begun and is not proven"),
        )
