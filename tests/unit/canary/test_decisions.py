"""A decision is kept whole where the journal's place is, is found again by its name alone, and is judged anew from nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from pydantic import TypeAdapter

from components.config import MigrationConfig
from scripts.canary import decisions
from scripts.canary.figures import Observed
from scripts.canary.gates import decide
from scripts.support import aws
from scripts.support.errors import MigrationError, Refused
from scripts.support.redact import remember_secret
from scripts.support.settings import Settings
from tests.unit.canary.test_gates import LIMITS, WATCH, watched

AT = "2026-11-26T01:02:03.000004+00:00"
NAME = "2026-11-26T010203.000004Z-5-25-promote.json"


def facts(seen: Observed | None = None, **changes: Any) -> dict[str, Any]:
    """A decision as a step keeps it."""
    judged = None if seen is None else decide(seen, LIMITS, WATCH)
    return {
        "from": 5,
        "to": 25,
        "decision": judged.verdict if judged else "refused",
        "reasons": list(judged.reasons) if judged else ["not ready"],
        "findings": [vars(one) for one in judged.findings] if judged else [],
        "seconds": 1.0,
        "evidence": None if seen is None else TypeAdapter(Observed).dump_python(seen, mode="json"),
        "limits": LIMITS.model_dump(by_alias=True),
        "watch_seconds": WATCH,
        **changes,
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(MigrationConfig(), None, None, None, tmp_path / "state")


def decided(settings: Settings, document: str | None, **facts: Any) -> None:
    """What the journal has of a decision."""
    known: dict[str, Any] = {"from": 5, "to": 25, "decision": "promote", "reasons": ["fine"], "seconds": 1.0, **facts}
    settings.journal.record("canary", "decided", **known, document=document)


def test_a_decision_is_kept_whole_and_for_the_operator_alone(settings: Settings) -> None:
    """Prevents a decision that somebody else reads, that has a password in it, or that sorts before an older one."""
    remember_secret("s3cret-of-the-night")
    # Others could read what was there.
    (folder := settings.state_dir / "decisions").mkdir(parents=True)  # type: ignore[operator]
    for one in (folder.parent, folder):
        (one / "older.json").write_text("{}")
        one.chmod(0o755)
    given = facts(watched(), reasons=["語", "s3cret-of-the-night"], project=Path("/x"))
    place = Path(decisions.keep(settings, AT, given))
    assert place == settings.state_dir / "decisions" / NAME  # type: ignore[operator]
    assert [one.stat().st_mode & 0o777 for one in (place, folder, folder.parent)] == [0o600, 0o700, 0o700]
    text = place.read_text(encoding="utf-8")
    assert "s3cret" not in text
    assert "語" in text
    kept = json.loads(text)
    assert {**kept, "reasons": given["reasons"]} == {"at": AT, **given, "project": "/x"}
    assert decisions.read(str(place)) == kept
    assert decisions.evidence(settings, f"s3://elsewhere/{NAME}") == watched()


def test_a_decision_in_s3_is_put_once_and_got_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents one that replaces another, or that lies beside the journal's place."""
    client = boto3.client("s3", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr(aws, "client", lambda name: {"s3": client}[name])
    settings = Settings(MigrationConfig(), None, None, None, "s3://state/X/")
    where = {"Bucket": "state", "Key": f"X/decisions/{NAME}"}
    body = json.dumps({"at": AT, **facts(decision="promote")}, ensure_ascii=False, indent=1).encode() + b"\n"
    asked = {
        **where, "Body": body, "ContentType": "application/json", "ChecksumAlgorithm": "SHA256", "IfNoneMatch": "*",
    }  # fmt: skip
    with Stubber(client) as stub:
        stub.add_response("put_object", {}, asked)
        assert decisions.keep(settings, AT, facts(decision="promote")) == f"s3://state/X/decisions/{NAME}"
        stub.add_client_error("put_object", "AccessDenied")
        with pytest.raises(MigrationError, match=rf"the decision {NAME} cannot be kept in s3://state/X/: .*rights"):
            decisions.keep(settings, AT, facts(decision="promote"))
        stub.add_client_error("get_object", "NoSuchKey", expected_params=where)
        with pytest.raises(
            MigrationError,
            match=rf"the decision s3://state/X/decisions/{NAME} cannot be read: .*there is no such object",
        ):
            decisions.evidence(settings, NAME)
        stub.add_response("get_object", {"Body": StreamingBody(BytesIO(body), len(body))}, where)
        assert decisions.read(f"s3://state/X/decisions/{NAME}") == json.loads(body)
        stub.assert_no_pending_responses()


def test_what_cannot_be_kept_or_read_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(MigrationError) as kept:
        decisions.keep(replace(settings, state_dir=tmp_path / "state" / "below"), AT, facts(decision="promote"))
    assert f"the decision {NAME} cannot be kept in {tmp_path}/state/below: " in str(kept.value)
    assert str(kept.value).endswith("; check TASK_MIGRATION_STATE_DIR and rights")
    broken = tmp_path / "x.json"
    for text in ("{", "[1]", "5", "[" * 200_000, ""):
        broken.write_text(text)
        with pytest.raises(MigrationError, match=r"x\.json cannot be read: .*; name one that is there"):
            decisions.read(str(broken))
    with pytest.raises(MigrationError, match=r"none\.json cannot be read"):
        decisions.read(str(tmp_path / "none.json"))


def test_the_newest_decision_is_found_past_what_is_none(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """Prevents a traceback, or an older decision in silence, as one line of the journal is somebody else's."""
    assert decisions.newest(settings) is None
    decided(settings, "a.json", to=5)
    decided(settings, "b.json")
    settings.journal.record("canary", "begun", **{"from": 25, "to": 50})
    settings.journal.record(
        "verify", "decided", **{"from": 25, "to": 50, "decision": "hold", "reasons": [], "seconds": 1.0}
    )
    settings.journal.record("canary", "decided", **{"from": "five", "document": "/etc/passwd"})
    found = decisions.newest(settings)
    assert found is not None
    assert (found.to, found.document) == (25, "b.json")
    assert f"the journal in {settings.state_dir} holds what is no event of this program" in capfd.readouterr().err


def test_decisions_among_events_are_read_from_their_folder_alone(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a report that reads whatever a journal names, and one that ends at a decision which is gone."""
    place = decisions.keep(settings, AT, facts(decision="promote"))
    (tmp_path / "secret.json").write_text("{}")
    event = {"step": "canary", "event": "decided", "document": place}
    events: list[dict[str, Any]] = [
        event,
        {**event, "document": str(tmp_path / "secret.json")},
        {**event, "document": None},
        {**event, "step": "verify", "document": "v.json"},
        {**event, "event": "begun", "document": "w.json"},
    ]
    assert decisions.kept(settings, events) == {NAME: decisions.read(place)}
    told = capfd.readouterr().err
    assert (
        f"the journal in {settings.state_dir} holds what is no event of this program, passed by: secret.json: the decision"
        in told
    )
    assert "v.json" not in told
    assert "w.json" not in told


def test_an_explanation_judges_the_evidence_by_the_limits_of_then(settings: Settings) -> None:
    """Prevents an explanation that repeats the verdict, or that judges by today's limits."""
    with pytest.raises(
        Refused, match="nothing was decided yet; the first decision comes with: task-migration canary step"
    ):
        decisions.explain(settings)
    decided(settings, None)
    with pytest.raises(Refused, match="nothing was decided yet"):
        decisions.explain(settings)

    def explained(given: dict[str, Any]) -> Any:
        place = Path(settings.state_dir or "") / "decisions" / NAME
        place.unlink(missing_ok=True)
        assert decisions.keep(settings, AT, {**given, "decision": "promote"}) == str(place)
        if given["decision"] != "promote":
            place.write_text(json.dumps({**json.loads(place.read_text()), "decision": given["decision"]}))
        decided(settings, f"/on/another/machine/{NAME}")
        return decisions.explain(settings)

    seen = watched()
    answer = explained(facts(seen))
    assert (answer.at, answer.from_, answer.to, answer.decision) == (AT, 5, 25, "promote")
    assert (answer.again, answer.same) == ("promote", True)
    assert tuple(answer.findings) == decide(seen, LIMITS, WATCH).findings
    # The same verdict for other reasons is not the same.
    other = explained(facts(seen, reasons=["fine"]))
    assert (other.again, other.same) == ("promote", False)
    # CPU is 20 % in it.
    strict = explained(facts(seen, limits={**LIMITS.model_dump(by_alias=True), "cpuPercent": 20.0}))
    assert (strict.decision, strict.again, strict.same) == ("promote", "rollback", False)
    assert [one.rule for one in strict.findings if one.state == "breach"] == ["CPU"]
    assert explained(facts(seen, watch_seconds=3600.0)).again == "hold"
    unwatched = explained(facts(findings=[{"rule": "status", "state": "breach", "text": "not ready"}]))
    assert (unwatched.decision, unwatched.again, unwatched.same) == ("refused", None, None)
    assert [one.text for one in unwatched.findings] == ["not ready"]
    for value in (0, float("nan"), "long", -1.0):
        with pytest.raises(MigrationError, match=r"is no decision \(a watch of .* s\); name the directory that has it"):
            explained(facts(seen, watch_seconds=value))
    lacking = facts(seen)
    del lacking["limits"]
    with pytest.raises(MigrationError, match=r"is no decision \('limits'\)"):
        explained(lacking)
