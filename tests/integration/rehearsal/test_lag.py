"""The lag of each direction as a rehearsal samples it: by fences between two real servers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from scripts.rehearsal import sampling
from scripts.rehearsal.sampling import Sampler
from scripts.support.wait import wait_until
from tests.integration.test_chain import MakePair, running


def test_a_way_that_stands_still_has_a_lag_that_grows(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prevents a picture in which a stalled direction has no lag at all, or the same for ever."""
    pair = running(make_pair, rows=20)
    file = tmp_path / "Pulumi.x.yaml"
    config = pair.settings.config
    names = {
        "replicationEngine": "native",
        "subscription": config.subscription,
        "publication": config.publication,
        "replicationRole": config.replication_role,
    }
    file.write_text("config:\n" + "".join(f"  task-migration:{key}: {value}\n" for key, value in names.items()))
    monkeypatch.setattr(sampling, "LAG_SECONDS", 0.01)
    monkeypatch.setattr(sampling, "FENCE_SECONDS", 0.3)
    bed: Any = SimpleNamespace(
        load=SimpleNamespace(running=True), plan=SimpleNamespace(dms_lag=0.0), stack_file=file, state_dir=tmp_path,
        databases=SimpleNamespace(source_url=pair.settings.source(), target_url=pair.settings.target()),
    )  # fmt: skip
    sampler = Sampler(bed)
    ways = {way: sampler._points["lag", way] for way in ("forward", "reverse")}
    try:
        wait_until(lambda: min(map(len, ways.values())), lambda n: n > 3, what="looks at the lag", timeout=30)
        # Read it may be; the worker that applies waits.
        with psycopg.connect(pair.settings.source()) as holder:
            holder.execute("LOCK TABLE task_migration.target_writes IN SHARE MODE")
            grown = wait_until(
                lambda: [value or 0.0 for _, value in sorted(ways["reverse"].items())][-3:],
                lambda last: last[0] > 3 * sampling.FENCE_SECONDS,
                what="three looks at a lag beyond a fence's time",
                timeout=30,
            )
            beside = max(ways["forward"].items())[1]
    finally:
        sampler.close()
    # Each is as old as the last fence that came through; the other way goes on.
    assert grown[0] < grown[1] < grown[2]
    assert beside is not None
    assert beside < grown[0]
    assert set(sampler._points["told", "both sides"].values()) == {0}
