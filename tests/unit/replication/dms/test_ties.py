"""Which of two tied versions stays, of what both sides know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.replication.dms.ties import Version, choose

START = datetime(2026, 11, 23, tzinfo=UTC)
T1, T2, T3 = (START + timedelta(milliseconds=n) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("known", "source", "target", "expected"),
    [
        # Created on the source, changed on the target in the same second: the source kept its own, and logged it.
        ({"a": T1}, Version("a", T1), Version("b", T2), ("b", True)),
        # Both overwrote: the target's later write is in its log alone.
        ({"a": T1, "b": T2}, Version("a", T1), Version("a", None), ("b", True)),
        ({"a": T2, "b": T1}, Version("a", T2), Version("a", None), (None, True)),
        # Something newer was applied since, whose time nobody knows here: it is not written over.
        ({"a": T1, "b": T2}, Version("a", T1), Version("c", None), (None, False)),
        ({"a": T1, "b": T2}, Version("c", None), Version("c", None), (None, True)),
        # A deletion is under way, or stands.
        ({"a": T1}, None, Version("b", T2), (None, False)),
        # A later local write of either side is the newest.
        ({"a": T1, "b": T2}, Version("c", T3), Version("b", T2), ("c", True)),
    ],
)
def test_the_later_commit_stays(
    known: dict[str, datetime], source: Version | None, target: Version | None, expected: tuple[str | None, bool]
) -> None:
    assert choose(known, {"source": source, "target": target}) == expected


TIMES = st.integers(0, 5).map(lambda n: START + timedelta(milliseconds=n))
VERSIONS = st.one_of(st.none(), st.builds(Version, st.sampled_from("abc"), st.one_of(st.none(), TIMES)))


@given(known=st.dictionaries(st.sampled_from("abc"), TIMES), source=VERSIONS, target=VERSIONS)
def test_nothing_of_unknown_age_is_written_over(
    known: dict[str, datetime], source: Version | None, target: Version | None
) -> None:
    """Prevents a settled tie from undoing a newer write that has just been applied."""
    best, over = choose(known, {"source": source, "target": target})
    if best is None:
        assert not over or (source is not None and target is not None and source.text == target.text)
        return
    assert over
    timed = set(known) | {version.text for version in (source, target) if version and version.written_at}
    for version in (source, target):
        assert version is not None
        assert version.text in timed
        if version.written_at is not None and version.text != best:
            times = [at for v in (source, target) if v is not None and v.text == best and (at := v.written_at)]
            assert version.written_at <= max([*times, *([known[best]] if best in known else [])])
