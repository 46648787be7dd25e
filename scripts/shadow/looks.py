"""One question put to both sides, again where the answers differ, and what all of them showed."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from scripts.api.session import SERVED_BY
from scripts.replication import fence
from scripts.shadow.compare import Answer, Compared, Difference, Kind, compare
from scripts.shadow.documents import FieldDifference, ShadowEndpoint
from scripts.support.errors import Refused
from scripts.support.progress import Work
from scripts.support.settings import Settings

#: Requests between a fence and the monolith's second answer, a side: the fewer, the less changes meanwhile.
BATCH = 8
#: So often a difference has to be seen.
LOOKS = 3


@dataclass(frozen=True)
class Ask:
    """One question of the user whose token has the number ``user`` in the file."""

    endpoint: str
    path: str
    user: int


@dataclass
class Tally:
    """What the answers of one endpoint showed."""

    answers: int = 0
    unsettled: int = 0
    named: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    respelled: set[str] = field(default_factory=set)
    differing: dict[Ask, set[Difference]] = field(default_factory=dict)

    def document(self, endpoint: str) -> ShadowEndpoint:
        """The same, by field."""
        grouped: defaultdict[tuple[str, Kind], list[tuple[Ask, Difference]]] = defaultdict(list)
        for ask, differences in self.differing.items():
            for one in sorted(differences, key=lambda one: one.row):
                grouped[one.name, one.kind].append((ask, one))
        return ShadowEndpoint(
            endpoint=endpoint,
            answers=self.answers,
            unsettled=self.unsettled,
            different=len(self.differing),
            differences=[
                FieldDifference(
                    field=name,
                    kind=kind,
                    detail=found[0][1].detail,
                    answers=len({ask for ask, _ in found}),
                    example=f"GET {found[0][0].path}" + (f", task {found[0][1].row}" if found[0][1].row else ""),
                )
                for (name, kind), found in sorted(grouped.items())
            ],
            unseen=sorted(self.named - self.seen),
            respelled=sorted(self.respelled),
        )


@dataclass
class Looks:
    """Asks both sides, at most ``rate`` requests per second, and tallies what differs."""

    settings: Settings
    monolith: httpx.Client
    service: httpx.Client
    tokens: Sequence[str] = field(repr=False)
    rate: float
    fence_timeout: float
    told: Work
    requests: int = 0
    fence_seconds: float = 0.0
    tally: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    #: By side, who its answers say that gave them.
    named: dict[str, set[str]] = field(default_factory=lambda: {"monolith": set(), "service": set()})
    _next: float = 0.0

    def look(self, asks: Iterable[Ask]) -> dict[Ask, tuple[Answer, Answer]]:
        """Ask all of this, what differs or moves up to :data:`LOOKS` times; the last answers of the monolith and the Task Service."""
        left = list(dict.fromkeys(asks))
        last: dict[Ask, tuple[Answer, Answer]] = {}
        #: What differed each time, and as it did the last time.
        suspects: dict[Ask, set[tuple[str, str]]] = {}
        differing: dict[Ask, set[Difference]] = {}
        judged = Counter[Ask]()
        for number in range(1, LOOKS + 1):
            asked, left = left, []
            for ask, (first, other, again) in self._batches(asked):
                last[ask] = first, other
                found = compare(first, other, again)
                if found is not None:
                    judged[ask] += 1
                    about = {one.about for one in found.differences}
                    suspects[ask] = suspects.get(ask, about) & about
                    differing[ask] = {one for one in found.differences if one.about in suspects[ask]}
                    self._note(ask, found)
                if found is not None and not suspects[ask]:
                    self._settle(ask, set())
                elif number < LOOKS:
                    left.append(ask)
                elif judged[ask] > 1:
                    self._settle(ask, differing[ask])
                else:
                    self.tally[ask.endpoint].unsettled += 1
        return last

    def _note(self, ask: Ask, found: Compared) -> None:
        tally = self.tally[ask.endpoint]
        tally.named |= found.named
        tally.seen |= found.seen
        tally.respelled |= found.respelled

    def _settle(self, ask: Ask, differences: set[Difference]) -> None:
        tally = self.tally[ask.endpoint]
        tally.answers += 1
        if differences:
            tally.differing[ask] = differences

    def _batches(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, tuple[Answer, Answer, Answer]]]:
        """Each question with the monolith's answer, the Task Service's after a fence, and the monolith's after that."""
        for begin in range(0, len(asks), BATCH):
            some = asks[begin : begin + BATCH]
            first = [self._of_monolith(ask) for ask in some]
            self.fence_seconds = max(self.fence_seconds, fence.forward(self.settings, self.fence_timeout))
            other = [self._get(self.service, "service", ask) for ask in some]
            again = [self._of_monolith(ask) for ask in some]
            if same := self.named["monolith"] & self.named["service"]:
                raise Refused(
                    f"both sides' answers say that {', '.join(sorted(same))} gave them: the smoke rule's header does not lead to the Task "
                    "Service alone, or the live rule not to the monolith; see task-migration preflight --account"
                )
            yield from zip(some, zip(first, other, again, strict=True), strict=True)

    def _of_monolith(self, ask: Ask) -> Answer:
        answer = self._get(self.monolith, "monolith", ask)
        if answer.status == 401:
            raise Refused(
                f"the token in line {ask.user + 1} of the file is refused (401); tokens of Cognito end after an hour by default: write "
                "fresh ones"
            )
        return answer

    def _get(self, client: httpx.Client, side: str, ask: Ask) -> Answer:
        """One request, not before its time."""
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate
        self.requests += 1
        self.told.advance()
        try:
            answer = client.get(ask.path, headers={"Authorization": f"Bearer {self.tokens[ask.user]}"})
        except httpx.HTTPError:
            return Answer(None)
        if name := answer.headers.get(SERVED_BY):
            self.named[side].add(name)
        try:
            return Answer(answer.status_code, answer.json())
        except ValueError:
            return Answer(answer.status_code, answer.text)
