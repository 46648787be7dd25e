"""A story's tables: what each says of a run, cell by cell, and in words where there is nothing to say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scripts.report.documents import Series, Story
from scripts.report.shown import Figure, clock, decimals, elapsed, figure

Tone = Literal["", "number", "good", "bad", "unknown", "moment"]


@dataclass(frozen=True)
class Cell:
    """One cell: its lines, and how they are to be read."""

    lines: tuple[str, ...]
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table of a page; ``empty`` stands in its place where it has no rows."""

    name: str
    title: str
    lead: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    empty: str

    @property
    def numbers(self) -> tuple[bool, ...]:
        """Of each column, whether it holds figures."""
        return tuple(any(row[number].tone == "number" for row in self.rows) for number, _ in enumerate(self.columns))


class StaleReads(Protocol):
    """Answers of one side at one weight in which users did not see a write of their own; who keeps cookies may be told apart."""

    @property
    def side(self) -> str: ...
    @property
    def weight(self) -> int | None: ...
    @property
    def reads(self) -> int: ...
    @property
    def stale(self) -> int: ...


#: As people say it.
NAMES = {
    "monolith": "Monolith", "task-service": "Task Service", "task_service": "Task Service",
    "users": "all users", "asked": "asked for", "measured": "measured",
    "forward": "to the Task Service's database", "reverse": "to the monolith's database",
}  # fmt: skip


def named(name: str) -> str:
    """What a report calls it."""
    return NAMES.get(name, name)


def text(value: str | None) -> Cell:
    """Words; None is a dash."""
    return Cell(("–",), "unknown") if value is None else Cell((value,))


def verdict(passed: bool | None, good: str, bad: str, unknown: str = "not compared") -> Cell:
    """A judgement in words, with a sign before it."""
    return (
        Cell((unknown,), "unknown") if passed is None else Cell((good if passed else bad,), "good" if passed else "bad")
    )


def figures(values: Iterable[Figure | None]) -> list[Cell]:
    """A column of figures, all with the decimals that the finest of them needs."""
    listed = list(values)
    places = decimals(listed)
    return [
        Cell(("–",), "unknown")
        if value is None
        else Cell((figure(value, places if isinstance(value, float) else 0),), "number")
        for value in listed
    ]


def moments(story: Story, seconds: Iterable[float]) -> list[Cell]:
    """A column of moments (seconds since the epoch): since the begin, and by the clock."""
    return [Cell((elapsed(at - story.began), f"{clock(at)} UTC"), "moment") for at in seconds]


def of_story(story: Story, stale: Sequence[StaleReads]) -> list[Table]:
    """Every table of the page, in its order."""
    return [_copied(story), _decisions(story), _rollbacks(story), _conflicts(story), _stale(stale), _shadow(story)]


def _rows(*columns: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    return list(zip(*columns, strict=True))


def _copied(story: Story) -> Table:
    rows = story.tables
    return Table(
        "rows",
        "What was copied, and compared",
        "Rows and bytes as they were copied; both sides' rows and the checksums as the last verification found them.",
        ("table", "rows copied", "bytes", "seconds", "source rows", "target rows", "checksums"),
        _rows(
            [text(row.table) for row in rows],
            figures(row.rows for row in rows),
            figures(row.bytes for row in rows),
            figures(row.seconds for row in rows),
            figures(row.source_rows for row in rows),
            figures(row.target_rows for row in rows),
            [verdict(row.equal, "equal", "differ") for row in rows],
        ),
        "Nothing was copied in this run, and no table was compared.",
    )


def _decisions(story: Story) -> Table:
    rows = story.decisions
    tones: dict[str, Tone] = {"promote": "good", "rollback": "bad", "refused": "bad"}
    return Table(
        "decisions",
        "Decisions of the canary",
        "Each with its reasons and the figures that it rests on.",
        ("at", "weight", "decision", "seconds", "reasons", "evidence"),
        _rows(
            moments(story, (row.at for row in rows)),
            [Cell((f"{row.from_} → {row.to} %",)) for row in rows],
            [Cell((row.decision,), tones.get(row.decision, "unknown")) for row in rows],
            figures(row.seconds for row in rows),
            [Cell(tuple(row.reasons) or ("none given",)) for row in rows],
            [text(row.evidence or None) for row in rows],
        ),
        "Nothing was decided: the canary did not begin in this run.",
    )


def _rollbacks(story: Story) -> Table:
    rows = story.rollbacks
    phases = list(dict.fromkeys(phase for row in rows for phase in row.phases))
    return Table(
        "rollbacks",
        "Rollbacks, phase by phase",
        "Seconds that each part took, in the order in which they ran; the proof compares every row that the Task Service wrote.",
        ("at", "from %", *phases, "seconds in all", "limit", "rows compared", "proof"),
        _rows(
            moments(story, (row.at for row in rows)),
            figures(row.from_ for row in rows),
            *(figures(row.phases.get(phase) for row in rows) for phase in phases),
            figures(row.seconds for row in rows),
            figures(row.limit_seconds for row in rows),
            figures(row.rows_compared for row in rows),
            [verdict(row.proven, "nothing missing", "not proven") for row in rows],
        ),
        "Nothing was rolled back in this run.",
    )


def _conflicts(story: Story) -> Table:
    rows = story.conflicts
    return Table(
        "conflicts",
        "Conflicts, and how they were decided",
        "Writes of both sides that did not know of each other.",
        ("table", "conflict", "kept", "times"),
        _rows(
            [text(row.table) for row in rows],
            [text(row.kind) for row in rows],
            [text(row.decided) for row in rows],
            figures(row.count for row in rows),
        ),
        "No two writes met: the conflict logs of both sides are empty.",
    )


def _stale(rows: Sequence[StaleReads]) -> Table:
    kept: list[bool | None] = [getattr(row, "cookies", None) for row in rows]
    told = any(one is not None for one in kept)
    return Table(
        "stale",
        "Stale reads",
        "Answers in which a user did not see an own write that was acknowledged before. They are counted and fail nothing.",
        ("weight %", "answered by", *(("cookies",) if told else ()), "reads", "stale"),
        _rows(
            figures(row.weight for row in rows),
            [text(named(row.side)) for row in rows],
            *(
                [[text({True: "kept", False: "none"}.get(one) if one is not None else None) for one in kept]]
                if told
                else []
            ),
            figures(row.reads for row in rows),
            figures(row.stale for row in rows),
        ),
        "Nobody looked for stale reads in this run.",
    )


def _shadow(story: Story) -> Table:
    rows = story.shadow
    return Table(
        "shadow",
        "Shadow reads",
        "The same request to both sides at weight 0, and their answers compared field by field.",
        ("endpoint", "answers", "different"),
        _rows(
            [text(row.endpoint) for row in rows],
            figures(row.answers for row in rows),
            figures(row.different for row in rows),
        ),
        "No shadow reads were made in this run.",
    )


def of_curves(story: Story, curves: Sequence[Series], most: int) -> Table:
    """A picture's figures: a row per moment at which any curve has a point, at most ``most`` of them, evenly taken."""
    known: dict[float, dict[int, Figure | None]] = {}
    for number, curve in enumerate(curves):
        for at, value in curve.points:
            known.setdefault(at, {})[number] = value
    every = -(-len(known) // most) or 1
    rows = [known[at] for at in sorted(known)[::every]]
    lead = "" if every == 1 else f"One of every {every} of {len(known):,} moments; report.json has them all."
    return Table(
        f"figures-{curves[0].what}" if curves else "figures",
        "",
        lead,
        ("since begin", "UTC", *(named(curve.of) for curve in curves)),
        _rows(
            [Cell((elapsed(at - story.began),), "moment") for at in sorted(known)[::every]],
            [Cell((clock(at),), "moment") for at in sorted(known)[::every]],
            *(figures(row.get(number) for row in rows) for number, _ in enumerate(curves)),
        ),
        "",
    )
