"""What is no event of the journal is named and passed by: never taken for one, never an error, never in the way of the others."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from scripts.support import journal, journal_s3
from scripts.support.journal import LARGEST, FileJournal, event_of
from scripts.support.journal_s3 import open_s3_journal
from tests.journal import last

#: What somebody may have put there, none of it an event.
FOREIGN = {
    "empty": b"",
    "blank": b"  ",
    "torn": b'{"at": "2026-01-01T00:00:00+00:00", "step": "rollb',
    "binary": bytes(range(256)).replace(b"\n", b""),
    "huge": b'{"at": "' + b"x" * LARGEST + b'"}',
    "deep": b"[" * 100_000,
    "a number": b"7",
    "long number": b"1" * 10_000,
    "a list": b"[]",
    "null": b"null",
    "no event": b'{"hello": "world"}',
    "no time": b'{"at": "now", "step": "rollback", "event": "done"}',
    "no zone": b'{"at": "2026-01-01T00:00:00", "step": "rollback", "event": "done"}',
    "another kind of time": b'{"at": 5, "step": "rollback", "event": "done"}',
    "a step of nobody": b'{"at": "2026-01-01T00:00:00+00:00", "step": "billing", "event": "done"}',
    "ahead": json.dumps(
        {"at": (datetime.now(UTC) + timedelta(days=400)).isoformat(), "step": "rollback", "event": "done"}
    ).encode(),
    "the end of time": b'{"at": "9999-12-31T23:59:59.999999-23:59", "step": "rollback", "event": "done"}',
}


@pytest.mark.parametrize("line", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_event_is_passed_by_and_named(
    tmp_path: Path, line: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a command, a rollback's above all, that a stray line stops or misleads."""
    kept = FileJournal(tmp_path)
    kept.record("rollback", "begun", reasons=["a"])
    with kept.path.open("ab") as file:
        file.write(line + b"\n")
    kept.record("verify", "compared", match=True)
    assert [event["event"] for event in kept.events()] == ["begun", "compared"]
    assert last(kept, "rollback", "done") is None
    said = capfd.readouterr().err
    assert "what is no event of this program, passed by: line 2: " in said
    # Once is enough.
    list(kept.events())
    assert capfd.readouterr().err == ""


_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)
_facts = st.dictionaries(st.text().filter(lambda key: key not in ("at", "step", "event", "self")), _values, max_size=3)
_lines = st.one_of(
    st.tuples(st.just("ours"), _facts),
    st.tuples(st.just("theirs"), st.binary(max_size=80) | st.sampled_from(list(FOREIGN.values())[:4])),
    st.tuples(st.just("theirs"), _values.map(lambda value: json.dumps(value).encode())),
    st.tuples(st.just("torn"), st.integers(1, 30)),
)


class Bucket:
    """S3 as a client has it: one object a key, whoever put it there, listed in pages; in no order, as of a directory bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        #: Keys that are listed and gone by the time they are read.
        self.gone: set[str] = set()

    def put_object(self, Key: str, Body: bytes, **_: Any) -> None:
        self.objects[Key] = Body

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        if Key in self.gone:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def get_paginator(self, _: str) -> Any:
        listed = [{"Key": key, "Size": len(self.objects[key])} for key in sorted(self.objects, reverse=True)]
        pages = [{"Contents": listed[at : at + 3]} for at in range(0, len(listed), 3)] or [{}]
        return SimpleNamespace(paginate=lambda **_: pages)


#: What somebody may have put beside our events, by another name or by one of ours.
_NAMED = st.sampled_from(
    [
        "p/journal/",
        "p/journal/x.json",
        "p/journal/2026-01-01T00:00:00+00:00-0123abcd.json",
        "p/journal/9.json",
        "p/journal/é",
    ]
)


@given(st.lists(_lines, max_size=8), st.lists(_NAMED, min_size=8, max_size=8), st.sets(st.integers(0, 7)))
def test_whatever_lies_beside_them_in_s3_our_events_are_read_in_order(
    lines: list[tuple[str, Any]], names: list[str], gone: set[int]
) -> None:
    """Prevents an event that is lost, invented or moved by what somebody put beside ours, tore or took away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_s3, "client", lambda _: Bucket())
        kept = open_s3_journal("s3://b/p")
    bucket, ours = kept._client, []
    for (whose, what), name in zip(lines, names, strict=False):
        if whose == "ours":
            ours.append(kept.record("copy", "started", **what))
        else:
            bucket.objects[name] = what if whose == "theirs" else json.dumps(FOREIGN["torn"].decode()).encode()[:what]
    keys = [key for key in sorted(bucket.objects) if key not in names]
    if keys:
        # A copy of an event under another time's name would be one more, and at another place.
        bucket.objects["p/journal/2026-01-01T00:00:00+00:00-ffffffff.json"] = bucket.objects[keys[0]]
    bucket.gone = {keys[number] for number in gone if number < len(keys)}
    # As JSON keeps them, and without passwords.
    wanted = [json.loads(bucket.objects[key]) for key in keys if key not in bucket.gone]
    assert list(map(repr, kept.events())) == list(map(repr, wanted))
    assert [one["at"] for one in wanted] == [
        one["at"] for one, key in zip(ours, keys, strict=True) if key not in bucket.gone
    ]


@given(st.lists(_lines, max_size=12))
def test_whatever_lies_between_them_our_events_are_read_in_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, Any]]
) -> None:
    """Prevents an event that is lost, invented or moved by what somebody else wrote between ours, or by a kill."""
    kept, ours = FileJournal(tmp_path_factory.mktemp("state")), []
    for whose, what in lines:
        if whose == "ours":
            ours.append(kept.record("copy", "started", **what)["at"])
            continue
        kept.directory.mkdir(exist_ok=True)
        with kept.path.open("ab") as file:
            # Somebody's line may come after a torn one, and be torn itself.
            file.write(what if whose == "theirs" else b'{"at": "2026-01-01T00:00:00+00:00", "step": "copy"'[:what])
    assert [event["at"] for event in kept.events()] == ours


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_none(line: bytes) -> None:
    with suppress(ValueError):
        assert {"at", "step", "event"} <= set(event_of(line))


def test_an_event_too_large_to_be_read_back_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a rollback that is told to nobody, as its list of rows is longer than a reader takes."""
    monkeypatch.setattr(journal, "LARGEST", 500)
    kept = FileJournal(tmp_path)
    kept.record("rollback", "done", rows=["x" * 100] * 10)
    cut = last(kept, "rollback", "done")
    assert cut is not None
    assert "the limit is 500 bytes" in cut["left_out"]
