"""Each decision as one JSON document with its evidence, in the state directory or S3, and explained again from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.config import GateLimits
from scripts.canary.documents import Evidence, Explanation
from scripts.canary.gates import decide
from scripts.support import private
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import CanaryEvent, Step
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
    failed, remedy = f"the decision {name} cannot be kept in {location}", "check TASK_MIGRATION_STATE_DIR and rights"
    if "://" in location:
        from scripts.support import aws  # only here: a folder needs nothing of AWS

        bucket, prefix = aws.bucket_and_prefix(location)
        key = "/".join(part for part in (prefix, FOLDER, name) if part)
        with aws.refusals(failed, remedy):
            aws.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType="application/json")
        return f"s3://{bucket}/{key}"
    try:
        place = private.directory(private.directory(Path(location), narrow=True) / FOLDER, narrow=True) / name
        private.write(place, text)
        return str(place)
    except OSError as error:
        raise MigrationError(f"{failed}: {error}; {remedy}") from None


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
    except (OSError, ValueError) as error:
        raise MigrationError(f"{failed}: {error}; {remedy}") from None


def explain(settings: Settings) -> Explanation:
    """The newest decision of the journal, judged anew from nothing but its own evidence.

    Raises:
        Refused: nothing was decided yet.
        MigrationError: the document cannot be read.
    """
    last = settings.journal.last(Step.CANARY, CanaryEvent.DECIDED)
    if last is None:
        raise Refused("nothing was decided yet; the first decision comes with: task-migration canary step")
    kept = read(str(last["document"]))
    known = ("at", "from", "to", "decision", "reasons", "findings")
    answer = Explanation(**{key: kept[key] for key in known}, location=str(last["document"]), again=None, same=None)
    if kept["evidence"] is None:
        return answer
    observed = Evidence.model_validate(kept["evidence"]).observed()
    judged = decide(observed, GateLimits.model_validate(kept["limits"]), float(kept["watch_seconds"]))
    same = (judged.verdict, list(judged.reasons)) == (answer.decision, answer.reasons)
    return answer.model_copy(update={"again": judged.verdict, "same": same, "findings": list(judged.findings)})
