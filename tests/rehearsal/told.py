"""Whether a rehearsal's story is what its report says and what its commands journaled: each figure that two ways lead to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from components.config import MigrationConfig
from scripts.report import run
from scripts.report.documents import Run
from scripts.support.settings import Settings

#: Milliseconds that rounding makes on either way.
ROUNDING = 0.02
#: Most requests of the commands beside the load: the API's contract, the shadow's answers, each asked for some times.
COMMANDS = 1500
LARGEST = 2_000_000


def journaled(output: Path) -> Run:
    """The same rehearsal, told from its state directory alone."""
    return run.read(Settings(MigrationConfig(), None, None, None, output / "state"))


def curves(story: dict[str, Any]) -> dict[tuple[str, str], dict[float, float]]:
    """By name, what is known."""
    return {
        (one["what"], one["of"]): {at: value for at, value in one["points"] if value is not None}
        for one in story["series"]
    }


def differences(report: dict[str, Any], by_journal: Run) -> list[str]:
    """Each figure of the story that another way leads to otherwise, with both."""
    story = report["story"]
    found, theirs = curves(story), curves(by_journal.story.plain())
    return [
        *_of_watches(found, theirs),
        *_of_load(found, report),
        *_of_rollbacks(story, report),
        *_of_tables(story, report),
        *([] if len(str(report)) < LARGEST else [f"{len(str(report)):,} characters"]),
        *(f"decided {one} instead of {other}" for one, other in _decided(story, report) if one != other),
        *(f"{name}: not passed by the journal" for name in _failed(by_journal) if not report["drills"]),
    ]


def _of_watches(found: dict[Any, dict[float, float]], theirs: dict[Any, dict[float, float]]) -> Iterable[str]:
    """What the gate had from CloudWatch, second by second, against the gateway's own count, where a minute has one second."""
    compared = 0
    for name in [(what, of) for what, of in theirs if what in ("requests", "errors", "p50", "p95")]:
        for at, value in theirs[name].items():
            mine = found[name].get(at)
            # A curve of a long run has fewer points.
            if mine is None and value == 0:
                continue
            compared += 1
            if mine is None or abs(mine - value) > ROUNDING:
                yield f"{name} at {at}: {mine} instead of {value}"
    if compared < 60:
        yield f"{compared} figures of watches"


def _of_load(found: dict[Any, dict[float, float]], report: dict[str, Any]) -> Iterable[str]:
    total, failed = report["requests"]["total"], report["requests"]["failed"]
    asked = round(sum(found["requests", "users"].values()))
    if not total <= asked <= total + COMMANDS:
        yield f"{asked} requests instead of the load's {total} and the commands'"
    if (errors := round(sum(found["errors", "users"].values()))) != failed:
        yield f"{errors} errors instead of {failed}"
    if not any(of == "forward" for what, of in found if what == "lag") or not found["lag", "reverse"]:
        yield "no lag"
    measured = found["weight", "measured"]
    if measured[max(measured)] < 99 and not report["drills"]:
        yield f"the share ended at {measured[max(measured)]} %"


def _of_rollbacks(story: dict[str, Any], report: dict[str, Any]) -> Iterable[str]:
    wanted = [one["seconds"] for one in report["drills"]] or [report["rollback"]["seconds"]]
    if [one["seconds"] for one in story["rollbacks"]] != wanted:
        yield f"rollbacks of {[one['seconds'] for one in story['rollbacks']]} s instead of {wanted}"
    for one in story["rollbacks"]:
        if not one["proven"] or abs(sum(one["phases"].values()) - one["seconds"]) > 0.01:
            yield f"a rollback of {one['seconds']} s in {one['phases']}, proven {one['proven']}"


def _of_tables(story: dict[str, Any], report: dict[str, Any]) -> Iterable[str]:
    for one in story["tables"]:
        if not one["equal"] or one["source_rows"] != one["target_rows"] or one["rows"] is None:
            yield f"{one}"
    made = {name: rows for name, rows in report["rows"].items() if name in {one["table"] for one in story["tables"]}}
    if len(made) != 6 or any(one["rows"] < made[one["table"]] for one in story["tables"]):
        yield f"{story['tables']} instead of at least {made}"
    told = max(curves(story)["told", "both sides"].values())
    if sum(one["count"] for one in story["conflicts"]) < told:
        yield f"{story['conflicts']} instead of {told:g} told"


def _decided(story: dict[str, Any], report: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    steps = [(one["weight"], one["decision"]) for one in report["steps"] if one["weight"]]
    watched = [(one["to"], one["decision"]) for one in story["decisions"]]
    yield from (
        zip(watched, steps, strict=False)
        if report["drills"]
        else zip(
            [one for one in watched if one[1] == "promote"], [one for one in steps if one[1] == "promote"], strict=False
        )
    )
    yield sum(decision == "promote" for _, decision in watched), sum(decision == "promote" for _, decision in steps)


def _failed(by_journal: Run) -> Iterable[str]:
    return (one.name for one in by_journal.criteria if not one.passed)


def assert_differences_are_found(report: dict[str, Any], by_journal: Run) -> None:
    """Each fault that it is there for, put into the story, is named."""

    def without_requests(story: dict[str, Any]) -> None:
        for one in story["series"]:
            if (one["what"], one["of"]) == ("requests", "users"):
                one["points"] = one["points"][: len(one["points"]) // 2]

    def one_request_more(story: dict[str, Any]) -> None:
        watched = max(curves(by_journal.story.plain())["requests", "task-service"])
        for one in story["series"]:
            if (one["what"], one["of"]) == ("requests", "task-service"):
                one["points"] = [(at, (value or 0) + (at == watched)) for at, value in one["points"]]

    def another_phase(story: dict[str, Any]) -> None:
        story["rollbacks"][0]["phases"]["fenced"] += 1

    def a_row_less(story: dict[str, Any]) -> None:
        story["tables"][0]["target_rows"] -= 1

    def untold(story: dict[str, Any]) -> None:
        # One more than the story lists, as users whose writes never met in this run have nothing told.
        listed = sum(one["count"] for one in story["conflicts"])
        for one in story["series"]:
            if (one["what"], one["of"]) == ("told", "both sides"):
                one["points"] = [(at, listed + 1) for at, _ in one["points"]]

    def a_decision_less(story: dict[str, Any]) -> None:
        del story["decisions"][0]

    faults: list[Callable[[dict[str, Any]], None]] = [
        without_requests, one_request_more, another_phase, a_row_less, untold, a_decision_less,
    ]  # fmt: skip
    for fault in faults:
        spoilt = copy.deepcopy(report)
        fault(spoilt["story"])
        assert differences(spoilt, by_journal), fault.__name__
