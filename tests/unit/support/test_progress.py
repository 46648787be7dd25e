"""What is shown of long work, without any work."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from scripts.support import console, progress_display
from scripts.support.progress import SILENT, Work
from scripts.support.progress_display import Lines, display
from scripts.support.wait import wait_until


def work(done: float, total: float | None, unit: str = "MiB") -> Work:
    made = Work("copy: rows", total, unit)
    made.at(done)
    return made


def test_a_plain_line_has_rate_and_time_left() -> None:
    """Prevents a copy of an hour that says nothing in a log, or that claims the end before it."""
    half = work(50, 100)
    text = half.line(half.started + 5)
    assert text == "copy: rows: 50% of about 100 MiB, 10.0 MiB/s, about 5 s left; 5 s so far"
    over = work(200, 100)
    assert (
        over.line(over.started + 40) == "copy: rows: 99% of about 100 MiB, 5.0 MiB/s, time left not known; 40 s so far"
    )
    begun = work(0, 100)
    assert "time left not known;" in begun.line(begun.started)
    endless, waiting = work(30, None, "rows"), work(3, 60, "s")
    assert endless.line(endless.started + 10) == "copy: rows: 30 rows, 3.0 rows/s; 10 s so far"
    assert waiting.line(waiting.started + 3) == "copy: rows: 3 of 60 s"
    assert waiting.line(waiting.started + 7) == "copy: rows: 7 of 60 s"


def test_lines_come_seldom_and_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents progress inside the JSON document, a line for every chunk, and one for every part."""
    with Lines().work("a", 1000, "rows") as told:
        for _ in range(100):
            told.advance(4)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress_display, "LINE_SECONDS", 0.01)
    hasty = Lines()
    with hasty.work("a", 1000, "rows") as told, hasty.work("part", 10, "rows", detail=True):
        told.advance(400)
        seen = wait_until(capsys.readouterr, lambda seen: bool(seen.err), what="a line", timeout=20, interval=0.1)
    assert seen.out == ""
    assert "a: 40% of about 1,000 rows" in seen.err
    assert "part" not in seen.err


def test_bars_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents bars that stay at the start, that claim the end too early, or that stay on the screen of a command that failed."""
    out = StringIO()
    monkeypatch.setattr(console, "err", Console(file=out, force_terminal=True, width=100))
    shown = display()
    with shown.work("rows", 2000, "MiB") as rows, shown.work("  tasks", 2000, "MiB", detail=True) as tasks:
        rows.advance(1000)
        tasks.at(5000)
        # Drawn four times a second.
        wait_until(
            out.getvalue,
            lambda drawn: all(part in drawn for part in ("  50%", " 99%", "MiB/s")),
            what="bars at the work's shares",
            timeout=20,
        )
    # The work came to its end, so its bar is full: the total was an estimate.
    assert out.getvalue().count("100%") >= 2
    begun = len(out.getvalue())
    with pytest.raises(RuntimeError), shown.work("more", None, "s"):
        raise RuntimeError
    left = out.getvalue()[begun:]
    assert "more" in left
    assert "tasks" not in left
    assert left.count("\x1b[?25h") == 1, "the cursor is there again"


def test_what_shows_nothing_counts_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a library call that prints."""
    with SILENT.work("a", 10, "rows") as told:
        told.advance(3)
    assert told.done == 3
    assert capsys.readouterr() == ("", "")
