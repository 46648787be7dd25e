"""Notices to the alarm topic, and to the summary of a GitHub job: what people read at each decision. They inform; they never decide and
never stop anything.

Each says in its first lines what is now, then what decided, what was watched, what happens next, and where the decision stands. It is
plain text that is good Markdown too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from scripts.canary.documents import CanaryStep, Rollback
from scripts.canary.figures import Observed
from scripts.support import commands
from scripts.support.events import CanaryEvent, Step
from scripts.support.figure import counted, short
from scripts.support.journal import note
from scripts.support.redact import redact
from scripts.support.settings import Settings

STEP, BACK, EXPLAIN = commands.STEP, commands.ROLLBACK, "task-migration canary status --explain"
#: Of a promotion each rule is good: so many tell enough.
REASONS = 12
#: Longest notice, in bytes: SNS takes 262,144 (SNS API reference, 'Publish'), GitHub 1 MiB a step ('Adding a job summary').
LONGEST = 100_000
_NOT_PROVEN = "All requests are on the monolith. It is NOT proven that it has every write of the Task Service"
_MEND = (
    "keep both databases as they are; `task-migration replicate status` says what to mend",
    f"then `{BACK}` again",
)


class Notices:
    """Sends to one SNS topic, and writes into the summary of the GitHub job that runs this.

    Args:
        client: boto3's SNS client, with short timeouts: a rollback must not wait for a notice.
        topic: the topic's ARN; None sends nothing.
    """

    def __init__(self, client: Any, topic: str | None) -> None:
        self._client, self._topic = client, topic

    @property
    def region(self) -> str | None:
        """The topic's, where the bucket of the decisions is too."""
        return self._topic.split(":")[3] if self._topic else None

    def send(self, settings: Settings, subject: str, text: str) -> None:
        """Send one notice; a failure is journaled and goes no further."""
        subject = redact(subject).replace("\n", " ")
        whole = redact(text).encode()[:LONGEST].decode(errors="ignore")
        for way in (self._publish, partial(_summarize, settings.job_summary)):
            try:
                way(subject, whole)
            except (ClientError, BotoCoreError, OSError) as error:
                note(settings.journal, Step.CANARY, CanaryEvent.NOTICE_FAILED, subject=subject, reason=str(error))

    def _publish(self, subject: str, text: str) -> None:
        if self._topic is not None:
            # SNS API reference, 'Publish': a subject is ASCII, without line breaks, of at most 100 characters.
            line = subject.encode("ascii", "replace").decode()[:100]
            self._client.publish(TopicArn=self._topic, Subject=line, Message=f"{subject}\n\n{text}")


def _summarize(place: str | None, subject: str, text: str) -> None:
    if place is not None:
        with Path(place).open("a", encoding="utf-8") as summary:
            summary.write(f"### {subject}\n\n{text}\n\n")


def decided(document: CanaryStep, region: str | None = None, *, unattended: bool = False) -> str:
    """Of a step that did not roll back: what is now, what decided, what happens next. Pure.

    Args:
        region: of the bucket that decisions are kept in, for a link.
        unattended: `canary run` goes on by itself.
    """
    gets, watch = f"The Task Service gets {document.to} % of the requests", "mend what is said above, then"
    if document.decision == "promote":
        now = f"{gets}, and all that was watched is within its limits."
        after = f"`{STEP}` raises the weight by the ladder's next step"
        if document.to == 100:
            after = "`task-migration verify`, then `task-migration finalize`, once nobody has written on the source for silentHours"
        elif unattended:
            after = "`canary run` goes on with the ladder's next step by itself"
    elif document.decision == "hold":
        now = f"{gets}; nothing moved back, and nothing moves on, as the watch did not decide."
        again = "`canary run` watches again, watchRounds times in all, and stops then; " if unattended else ""
        after = f"{again}{watch} `{STEP}` watches again; or back: `{BACK} --reason TEXT`"
    else:
        now = f"Refused: nothing was changed by this step to {document.to} %. The weight stays as it is, and no watch looks at it."
        after = f"{watch} `{STEP}`"
    return _text(now, document.reasons, document.evidence, [after], document.document, region)


def went_back(document: Rollback, decision: str | None = None, region: str | None = None) -> str:
    """Of a rollback that has ended, proven or not, with the ``decision`` that led to it where one did. Pure."""
    rows = document.rows
    now = (
        f"All requests are on the monolith, with every write of the Task Service: {document.seconds:.0f} s, the limit is "
        f"{document.limit_seconds:g} s."
        if rows.proven
        else f"{_NOT_PROVEN}: {rows.problem()}."
    )
    after = [
        "the scheduler runs on the monolith again, and on the Task Service no more (docs/runbook.md, 'The scheduler')",
        f"read what decided, mend it, then `{STEP}` begins at the ladder's first weight",
    ]
    drift = [] if document.drift is None else [document.drift]
    return _text(now, document.reasons, None, [*drift, *(after if rows.proven else _MEND)], decision, region)


def not_moved(reason: str) -> str:
    """Of a rollback that could not move the routes. Pure."""
    after = [f"at once, and without Pulumi: `{BACK} --emergency --reason TEXT`"]
    return _text("The requests are where they were, or nobody knows: the routes did NOT move.", [reason], None, after)


def stopped(reason: str) -> str:
    """Of `canary run` that an error ended, while nobody looked. Pure."""
    after = [
        "`task-migration canary status` says where the weight is",
        f"mend what is said above, then `task-migration canary run` goes on from there; or back: `{BACK} --reason TEXT`",
    ]
    return _text(
        "`canary run` was ended by an error: the weight stays where it is, and nothing watches it.",
        [reason],
        None,
        after,
    )


def unproven(reason: str) -> str:
    """Of a rollback whose proof could not be tried. Pure."""
    return _text(f"{_NOT_PROVEN}.", [reason], None, _MEND)


def alarm(found: Iterable[str]) -> str:
    """Of what a watch sees and nobody should wait to hear of. Pure."""
    after = ["the watch goes on, and nothing is promoted while this lasts", f"back at once: `{BACK} --reason TEXT`"]
    return _text("The canary is on hold.", list(found), None, after)


def _text(
    now: str,
    reasons: Sequence[str],
    evidence: Observed | None,
    following: Sequence[str],
    location: str | None = None,
    region: str | None = None,
) -> str:
    more = [f"and {len(reasons) - REASONS} more, in the decision"] if len(reasons) > REASONS else []
    parts = [
        ("What decided", [*reasons[:REASONS], *more]),
        ("What was watched", list(_watched(evidence))),
        ("What happens next", list(following)),
    ]
    if location is not None:
        parts.append(("The decision with its evidence", [*_places(location, region), f"judged again: `{EXPLAIN}`"]))
    told = [f"{head}:\n{chr(10).join(f'- {line}' for line in lines)}" for head, lines in parts if lines]
    return "\n\n".join([now, *told])


def _places(location: str, region: str | None) -> list[str]:
    """Where a decision stands, and in a bucket the console's page of it."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not location.startswith("s3://") or region is None:
        return [location]
    return [
        location,
        f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix={quote(key)}",
    ]


def _watched(evidence: Observed | None) -> Iterable[str]:
    """Each side over the whole watch, a line each."""
    for name, seen in evidence.sides() if evidence else ():
        if seen.requests:
            latencies = [
                f"typical {word} {ms:.0f} ms"
                for word, ms in (("P50", seen.p50_ms), ("P95", seen.p95_ms))
                if ms is not None
            ]
            counts = [counted(seen.requests, "request"), f"{short(seen.error_rate_percent, 2)} % errors"]
            yield f"{name}: {', '.join([*counts, *latencies])}"
