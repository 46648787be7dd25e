"""Where the plan is, and what to type next there. Pure: what was seen in, a place out; the databases' word counts before the journal's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from components.config import MigrationConfig
from scripts.canary import history
from scripts.canary.history import History
from scripts.database import helper_schema
from scripts.database.engines import dms_state_key
from scripts.status import told as journal
from scripts.status.documents import Place, Where
from scripts.status.seen import Seen, SideSeen
from scripts.status.told import Told
from scripts.support import commands
from scripts.support.events import FinalizeEvent, Step

#: What of the settings is asked for, on either side.
KEPT = (
    history.KEPT, helper_schema.COPY, helper_schema.FINALIZE, helper_schema.REVOKED, helper_schema.ROUTED, helper_schema.SHADOWED,
    helper_schema.SLOT_BACK, helper_schema.DRAINED, dms_state_key("forward"), "verified",
)  # fmt: skip
#: What follows each step before the canary.
FOLLOWING: dict[str | None, str] = {
    None: commands.PREFLIGHT,
    Step.PREFLIGHT: commands.BACKUP,
    Step.BACKUP: commands.SCHEMA,
    Step.SCHEMA: commands.COPY,
    Step.COPY: commands.START,
    Step.REPLICATE: commands.VERIFY,
}
_DONE: dict[str, str] = {
    Step.PREFLIGHT: "preflight has passed",
    Step.BACKUP: "the backup was restored and compared",
    Step.SCHEMA: "the target has the schema",
    Step.COPY: "the copy is complete",
    Step.REPLICATE: "replication was started",
}


@dataclass(frozen=True)
class Standing:
    """A place with the command that follows, and the canary's history that it rests on.

    ``wrong``: what is not as it should be about it, with what mends it (``next`` where that is not said).
    """

    step: Where
    ended: bool
    text: str
    next: str
    wrong: tuple[str, str] | None = None
    #: Both directions were started and are not ended.
    live: bool = False

    @property
    def place(self) -> Place:
        """As printed."""
        return Place(step=self.step, ended=self.ended, text=self.text)


@dataclass(frozen=True)
class Canary:
    """How far it is: by the source, else by the journal; ``weight`` None: nobody knows. ``problem``: why not by the source."""

    history: History
    weight: int | None
    problem: str | None = None


def canary(seen: Seen, told: Told) -> Canary:
    """How far the canary is."""
    source = seen.sides.get("source")
    by_journal = Canary(told.history, told.weight if seen.events is not None else None)
    if source is None:
        return by_journal
    if not source.installed:
        return Canary(History(), by_journal.weight if source.finalized else 0)
    try:
        so_far = history.of(source.kept.get(history.KEPT))
        weight = int((source.kept.get(helper_schema.ROUTED) or {"weight": 0})["weight"])
    except (TypeError, ValueError, KeyError, AttributeError):
        return Canary(by_journal.history, by_journal.weight, "what the source keeps of the canary is another version's")
    return Canary(so_far, weight)


def stand(seen: Seen, told: Told, config: MigrationConfig) -> Standing:
    """The place, from the last thing backwards."""
    source, target = seen.sides.get("source"), seen.sides.get("target")
    found = _finalized(source, target, told, config) or _finalizing(seen, source, target)
    found = found or _removing(seen, source, target, told)
    where = canary(seen, told)
    found = found or _owed(seen, told, where) or _stepping(seen, told, where)
    if found is not None:
        return found
    if source is not None and target is not None and not (source.installed or _copy(target) or target.holder):
        # `schema apply` too keeps something on the target.
        return _prepared(told, only_before=True)
    if target is None or (source is None and not target.installed):
        return _prepared(told)
    return _copied(target, source)


def started(target: SideSeen | None) -> bool:
    """Whether `replicate start` came as far as the way back."""
    if target is None:
        return False
    return any(target.kept.get(name) for name in (helper_schema.SLOT_BACK, dms_state_key("forward"))) or (
        target.subscribed is not None
    )


def _half(step: Where, text: str, following: str, *, under_way: bool = False) -> Standing:
    """Of something that was begun: under way, or left by a command that was killed."""
    if under_way:
        return Standing(step, False, text, f"wait for it, then: {commands.STATUS}")
    return Standing(step, False, text, following, (text, f"run again, it goes on from there: {following}"))


def _finalized(
    source: SideSeen | None, target: SideSeen | None, told: Told, config: MigrationConfig
) -> Standing | None:
    last = told.last.get(Step.FINALIZE)
    if source is None:
        journaled = told.ended == Step.FINALIZE and not told.done and not (target and target.installed)
        return Standing("finalize", True, "finalized, by the journal", commands.END) if journaled else None
    if source.finalized is None:
        return None
    if target is not None and target.installed:
        return _half("finalize", "finalize has closed the old tables and did not end its removal", commands.FINALIZE)
    if config.hand_over_ownership and last is not None and last["event"] != FinalizeEvent.FINALIZED:
        return _half("finalize", "finalize did not come to its last act, handing the tables over", commands.FINALIZE)
    return Standing("finalize", True, f"finalized on {source.finalized}", commands.END)


def _finalizing(seen: Seen, source: SideSeen | None, target: SideSeen | None) -> Standing | None:
    revoked = source is not None and source.kept.get(helper_schema.REVOKED)
    verified = target is not None and target.kept.get(helper_schema.FINALIZE)
    if not (revoked or verified):
        return None
    text = "finalize has taken the monolith's rights to write" + (
        " and found both sides equal; only the removal is left" if verified else ", and has not compared both sides yet"
    )
    return _half(
        "finalize", text, commands.FINALIZE, under_way=_at_work(seen, "finalize", "verify", "compare", "remove")
    )


def _removing(seen: Seen, source: SideSeen | None, target: SideSeen | None, told: Told) -> Standing | None:
    sides = [one for one in (source, target) if one is not None]
    if not any(one.installed for one in sides):
        return None
    copied = _copy(target).get("status") == "complete"
    drained = target is not None and target.kept.get(helper_schema.DRAINED)
    gone = source is not None and not source.installed and copied
    # One that ended on another machine is not in this journal: a copy that came later tells.
    begun = told.removing if told.removing and str(told.removing[0]["at"]) > str(_copy(target).get("at", "")) else None
    if not (drained or gone or begun):
        return None
    what = begun[1] if begun else "rollback --abandon"
    text = f"`{what}` was begun and did not end: parts of the migration are still there"
    return _half("abandon", text, f"task-migration {what}", under_way=_at_work(seen, "abandon", "remove"))


def _owed(seen: Seen, told: Told, where: Canary) -> Standing | None:
    so_far, weight = where.history, where.weight or 0
    owed = so_far.state(weight, weight).rollback_owed
    if owed is None and "source" in seen.sides and _only_journaled(told, so_far):
        owed = ("the journal has a rollback begun that did not end, of which the source knows nothing",)
    if owed is None:
        return None
    reasons = "; ".join(map(str, owed))
    text = f"a rollback is owed: {reasons}"
    if _at_work(seen, "rollback"):
        return Standing(
            "rollback", False, f"a rollback is under way: {reasons}", f"wait for it, then: {commands.STATUS}"
        )
    return Standing(
        "rollback",
        False,
        text,
        commands.ROLLBACK,
        (text, f"{commands.ROLLBACK} moves the routes, if they are not, and proves it"),
    )


def _only_journaled(told: Told, so_far: History) -> bool:
    """Whether the journal, and not the source, has a rollback that was begun: the source was away then. One that ended since, or a ladder
    that began since, on whatever machine, makes it old."""
    if told.history.owed is None or told.begun is None or so_far.since is None:
        return False
    begun = str(told.begun["at"])
    return all(one is None or str(one) < begun for one in (so_far.back, so_far.since))


def _stepping(seen: Seen, told: Told, where: Canary) -> Standing | None:
    so_far, weight = where.history, where.weight
    if so_far.unfinished is not None:
        begun, to = so_far.unfinished
        words = f"a step from {begun} to {to} %"
        if _at_work(seen, "canary step", "canary run"):
            return Standing(
                "canary", False, f"{words} is under way", f"wait for it, then: {commands.STATUS}", live=True
            )
        last = told.decided
        if last is not None and last.get("decision") == "hold" and last.get("to") == to:
            reasons = "; ".join(str(one) for one in last.get("reasons") or ())
            wrong = (
                f"{words} is on hold, nobody watches its users: {reasons}",
                f"mend that, then {commands.STEP} watches again",
            )
            return Standing("canary", False, f"{words} is on hold", commands.STEP, wrong, live=True)
        wrong = f"{words} was begun and did not end: nobody watches its users", f"{commands.STEP} goes on with it"
        return Standing("canary", False, f"{words} did not end", commands.STEP, wrong, live=True)
    if not weight:
        return None
    if weight >= 100:
        return Standing("at 100 %", True, "all requests are on the Task Service", commands.LAST, live=True)
    return Standing("canary", True, f"{weight} % of the requests are on the Task Service", commands.STEP, live=True)


def _copied(target: SideSeen, source: SideSeen | None) -> Standing:
    """Between the copy's begin and the first step."""
    if _copy(target).get("status") != "complete":
        at_work = target.holder is not None
        text = (
            "a copy is under way" if at_work else "a copy was begun and did not end: its slot keeps log on the source"
        )
        return _half("copy", text, commands.COPY, under_way=at_work)
    if started(target):
        return Standing("replicate", True, _DONE[Step.REPLICATE], commands.VERIFY, live=True)
    if source is not None and (source.slot is None or source.slot.wal_status == "lost"):
        text = "the copy's slot is gone before replication was started: what was written since is in neither"
        return Standing("copy", False, text, commands.COPY, (text, f"{commands.COPY} starts anew"))
    return Standing("copy", True, f"{_DONE[Step.COPY]}, its slot keeps log on the source", commands.START)


def _prepared(told: Told, *, only_before: bool = False) -> Standing:
    """Where no database has anything of ours: the journal's steps, of which ``only_before`` those that come before the copy count."""
    after = (Step.COPY, Step.REPLICATE)
    steps = [one for one in journal.PREPARED if not (only_before and one in after)]
    done = next((one for one in reversed(steps) if one in told.done), None)
    following = next((one for one in steps if done is None or steps.index(one) > steps.index(done)), None)
    for step in (following, Step.PREFLIGHT):
        if step is not None and step not in told.done and told.failed(step):
            text = "preflight found something to be mended" if step == Step.PREFLIGHT else f"{step} did not end well"
            again = FOLLOWING[steps[steps.index(step) - 1] if steps.index(step) else None]
            return Standing(cast(Where, step), False, text, f"mend it, then: {again}")
    if done is None and told.ended is not None:
        return _after_the_end(told)
    if done is None:
        return Standing("nothing", True, "nothing was done yet", commands.PREFLIGHT)
    return Standing(cast(Where, done), True, _DONE[done], FOLLOWING[done])


def _after_the_end(told: Told) -> Standing:
    if told.ended == Step.ABANDON:
        return Standing("abandon", True, "the attempt was given up", commands.ANEW)
    if told.ended == Step.ROLLBACK:
        return Standing("rollback", True, "the target was emptied, to begin anew", commands.AGAIN)
    return Standing("finalize", True, "finalized, by the journal", commands.END)


def _copy(target: SideSeen | None) -> dict[str, Any]:
    kept = target.kept.get(helper_schema.COPY) if target else None
    return kept if isinstance(kept, dict) else {}


def _at_work(seen: Seen, *names: str) -> bool:
    source = seen.sides.get("source")
    holder = source.holder.name if source is not None and source.holder is not None else ""
    working = {name for side in seen.sides.values() for name in side.at_work}
    return any(name in working or holder.startswith(f"task-migration {name}") for name in names)
