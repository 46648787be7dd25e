"""Each decision as one JSON document with its evidence, in the state directory or S3, and explained again from it alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.config_gates import GateLimits
from scripts.canary.documents import Decided, Explanation
from scripts.canary.figures import Observed, observed
from scripts.canary.gates import decide
from scripts.support import private
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import CanaryEvent, Step
from scripts.support.figure import figure
from scripts.support.journal import passed_by
from scripts.support.redact import redact
from scripts.support.settings import Settings

FOLDER = "decisions"


def keep(settings: Settings, at: str, document: Mapping[str, Any]) -> str:
    """Write one decision; returns where it stands.

    Args:
        at: when it was made, ISO 8601; with weights and verdict it makes the name, so names sort by time.

    Raises:
        MigrationError: it cannot be written.
    """
    moment = at.replace(":", "").replace("+0000", "Z")
    name = f"{moment}-{document['from']}-{document['to']}-{document['decision']}.json"
    text = redact(json.dumps({"at": at, **document}, ensure_ascii=False, indent=1, default=str)) + "\n"
    location = str(settings.state_dir)
    place = _place(settings, name)
    failed, remedy = f"the decision {name} cannot be kept in {location}", "check TASK_MIGRATION_STATE_DIR and rights"
    if "://" in location:
        from scripts.support import aws  # only here: a folder needs nothing of AWS

        bucket, key = aws.bucket_and_prefix(place)
        facts = {"ContentType": "application/json", "ChecksumAlgorithm": "SHA256", "IfNoneMatch": "*"}
        with aws.refusals(failed, remedy):
            aws.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode(), **facts)
        return place
    try:
        private.directory(private.directory(Path(location), narrow=True) / FOLDER, narrow=True)
        private.write(Path(place), text)
        return place
    except OSError as error:
        raise MigrationError(f"{failed}: {error}; {remedy}") from None


def evidence(settings: Settings, document: str) -> Observed | None:
    """As :func:`scripts.canary.figures.observed`, of the decision at ``document``, as the journal has it.

    Raises:
        MigrationError: it cannot be read.
        ValueError: it is no decision of this version.
    """
    return observed(read(_place(settings, document)))


def _place(settings: Settings, document: str) -> str:
    # Only its name is taken from there: a journal that somebody else wrote must not lead to any file.
    location, name = str(settings.state_dir), document.rpartition("/")[2]
    return "/".join((location.rstrip("/"), FOLDER, name)) if "://" in location else str(Path(location) / FOLDER / name)


def newest(settings: Settings) -> Decided | None:
    """The newest decision as the journal has it; what calls itself one and is none is named and passed by.

    Raises:
        MigrationError: the journal cannot be read.
    """
    found = None
    for event in settings.journal.events(Step.CANARY):
        if event["event"] == CanaryEvent.DECIDED:
            try:
                found = Decided.model_validate(event)
            except ValidationError:
                passed_by(str(settings.state_dir), [f"{event['at']}: no decision"])
    return found


def read(location: str) -> dict[str, Any]:
    """The decision at a path or ``s3://`` address. Raises MigrationError when it cannot be read."""
    failed, remedy = f"the decision {location} cannot be read", "name one that is there"
    try:
        if "://" not in location:
            return dict(json.loads(Path(location).read_text(encoding="utf-8")))
        from scripts.support import aws

        bucket, key = aws.bucket_and_prefix(location)
        with aws.refusals(failed, remedy):
            return dict(json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise MigrationError(f"{failed}: {error}; {remedy}") from None


def kept(settings: Settings, events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The documents of the decisions among these events, by the name of their file; one that cannot be read is named and left out."""
    found = {}
    for event in events:
        if (event.get("step"), event.get("event")) == (Step.CANARY, CanaryEvent.DECIDED) and event.get("document"):
            name = str(event["document"]).rpartition("/")[2]
            try:
                found[name] = read(_place(settings, name))
            except MigrationError as error:
                passed_by(str(settings.state_dir), [f"{name}: {error}"])
    return found


def explain(settings: Settings) -> Explanation:
    """The newest decision of the journal, judged anew from nothing but its own evidence.

    Raises:
        Refused: nothing was decided yet.
        MigrationError: the document cannot be read.
    """
    last = newest(settings)
    if last is None or last.document is None:
        raise Refused("nothing was decided yet; the first decision comes with: task-migration canary step")
    location = _place(settings, last.document)
    try:
        return _explained(read(location), location)
    except (KeyError, TypeError, ValueError) as error:
        raise MigrationError(f"{location} is no decision ({error}); name the directory that has it") from None


def _explained(kept: Mapping[str, Any], location: str) -> Explanation:
    known = ("at", "from", "to", "decision", "reasons", "findings")
    answer = Explanation(**{key: kept[key] for key in known}, location=location, again=None, same=None)
    if (seen := observed(kept)) is None:
        return answer
    if not (seconds := figure(kept["watch_seconds"])):
        raise ValueError(f"a watch of {kept['watch_seconds']!r} s")
    judged = decide(seen, GateLimits.model_validate(kept["limits"]), seconds)
    same = (judged.verdict, list(judged.reasons)) == (answer.decision, answer.reasons)
    return answer.model_copy(update={"again": judged.verdict, "same": same, "findings": list(judged.findings)})
