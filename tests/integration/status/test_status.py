"""`status` on two real servers, as the operator, who is no superuser: in each main state, and with one or both of them away."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from scripts.canary import history
from scripts.cli.status_text import status as text
from scripts.cli.view import render
from scripts.copy import run as copy
from scripts.database import helper_schema, locks
from scripts.database.sides import open_side
from scripts.finish import finalize
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.status.documents import MigrationStatus
from scripts.status.look import look
from scripts.support import commands
from scripts.support.errors import MigrationError
from scripts.support.events import CanaryEvent, Step
from scripts.support.settings import PROJECT_ROOT, Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import Pair, slot_lost
from tests.integration.proxy import Proxy
from tests.integration.roles import MONOLITH, Cast

MakePair = Callable[..., Pair]


def screen(found: MigrationStatus, longest: int = 24) -> str:
    """What a person sees at 80 columns, which fits a terminal."""
    out = io.StringIO()
    render(text(found.redacted()), Console(file=out, width=80, highlight=False))
    assert len(out.getvalue().splitlines()) <= longest, out.getvalue()
    return out.getvalue()


def told(found: MigrationStatus) -> tuple[str, bool, str]:
    """Where, safe, next."""
    return found.place.step, found.safe, found.next


def moved(settings: Settings, begun: int, to: int) -> None:
    """A step that was promoted, as the source keeps it."""
    weights = {"from": begun, "to": to}
    history.record(settings, Step.CANARY, CanaryEvent.BEGUN, **weights)
    history.record(settings, Step.CANARY, CanaryEvent.MOVED, **weights, seconds=30.0)
    history.record(settings, Step.CANARY, CanaryEvent.DECIDED, **weights, decision="promote", reasons=[], seconds=60.0)


def variables(settings: Settings) -> dict[str, str]:
    """The environment of a command of the operator's; its stack's file is in the state directory's parent."""
    clean = {
        name: one for name, one in os.environ.items() if not name.startswith(("PULUMI", "TASK_", "SOURCE_", "TARGET_"))
    }
    config = settings.config.model_dump(mode="json", by_alias=True)
    keys = (
        "replicationEngine",
        "subscription",
        "publication",
        "replicationRole",
        "passwordReaders",
        "requireShadow",
        "walRunwayWarnHours",
    )
    lines = "".join(f"  task-migration:{key}: {json.dumps(config[key])}\n" for key in keys)
    (Path(settings.state_dir).parent / "Pulumi.night.yaml").write_text(f"config:\n{lines}", encoding="utf-8")
    return {
        **clean, "PYTHONPATH": str(PROJECT_ROOT), "PULUMI_STACK": "night", "TASK_MIGRATION_STATE_DIR": str(settings.state_dir),
        "SOURCE_DATABASE_URL": settings.source(), "TARGET_DATABASE_URL": settings.target(),
    }  # fmt: skip


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`task-migration status`, as it is typed."""
    line = [sys.executable, "-m", "scripts", "status", *arguments]
    cwd = Path(settings.state_dir).parent
    return subprocess.run(
        line, cwd=cwd, env=variables(settings), capture_output=True, text=True, check=False, timeout=120
    )


def test_a_migration_from_its_begin_to_its_end(make_pair: MakePair) -> None:
    """Prevents a status that says something else than the databases at any place of the plan."""
    # The server of a test is young, and writes much of its log at once.
    cast = Cast(make_pair(rows=100, walRunwayWarnHours=0.001))
    settings = cast.settings
    assert told(look(settings)) == ("nothing", True, commands.PREFLIGHT)
    schema.apply(settings)
    with (Path(settings.state_dir) / "journal.jsonl").open("a", encoding="utf-8") as journal:
        # Torn, foreign, and of a version that knew less.
        journal.write(
            '{"at": "2026-01-01\n{"of": "somebody"}\n{"at": "2026-01-01T00:00:00+00:00", "step": "canary", "event": "begun"}\n'
        )
    assert told(look(settings)) == ("schema", True, commands.COPY)

    # Killed behind its begin: the mark stands, nobody holds the lock.
    with open_side(settings, "target", "copy") as target:
        helper_schema.install(target)
        helper_schema.put(target, helper_schema.COPY, {"status": "running", "slot": "x", "run": "killed", "made": []})
        assert told(look(settings)) == ("copy", False, commands.COPY)
        locks.take(target, locks.COPY, "task-migration copy one")
        found = look(settings)
        assert (found.place.ended, found.safe, [one.who for one in found.at_work]) == (
            False,
            True,
            ["task-migration copy one from 127.0.0.1"],
        )
    copy.run(settings)
    found = look(settings)
    assert told(found) == ("copy", True, commands.START)
    assert [(one.side, one.active) for one in found.log] == [("source", False)]
    assert found.log[0].runway is not None
    assert "NOBODY reads it" in screen(found)

    replicate.start(settings)
    found = look(settings)
    assert told(found) == ("replicate", True, commands.VERIFY)
    assert (found.forward_seconds is not None, found.reverse_seconds is not None) == (True, True)
    assert found.way_back is not None
    assert found.way_back.ready
    assert [(one.side, one.active) for one in found.log] == [("source", True), ("target", True)]
    verify.run(settings)
    with cast.session("source", MONOLITH, application_name="laravel") as session:
        session.execute("UPDATE public.tasks SET title = title || '!' WHERE id IN (SELECT min(id) FROM public.tasks)")
    found = look(settings)
    assert told(found) == ("verify", True, commands.STEP)
    assert [(one.side, one.role, one.application) for one in found.writers] == [("source", MONOLITH, "laravel")]
    shown = screen(found)
    assert "SAFE. Both sides were found equal." in shown
    assert "who writes   source: myteacher_app_user as 'laravel' (1," in shown

    history.record(settings, Step.CANARY, CanaryEvent.BEGUN, **{"from": 0, "to": 5})
    assert told(look(settings)) == ("canary", False, commands.STEP)
    moved(settings, 0, 5)
    found = look(settings)
    assert (told(found), found.weight.declared) == (("canary", True, commands.STEP), 5)
    history.record(
        settings,
        Step.CANARY,
        CanaryEvent.DECIDED,
        **{"from": 5, "to": 5},
        decision="rollback",
        reasons=["errors"],
        seconds=1.0,
    )
    assert told(look(settings)) == ("rollback", False, commands.ROLLBACK)
    done = command(settings)
    assert (done.returncode, "NOT SAFE, 1 failing. A rollback is owed: errors." in done.stdout) == (10, True), (
        done.stdout + done.stderr
    )
    moved(settings, 5, 100)
    with open_side(settings, "source", "rollback") as source:
        helper_schema.put(source, history.KEPT, {"since": "2026-01-01T00:00:00+00:00", "reached": 100})
    assert told(look(settings)) == ("at 100 %", True, commands.LAST)

    with open_side(settings, "source", "rollback") as source, open_side(settings, "target", "rollback") as target:
        # Killed between the revoke and the comparison; then behind that.
        helper_schema.put(source, helper_schema.REVOKED, [["public", "tasks", None, "INSERT", False]])
        assert told(look(settings)) == ("finalize", False, commands.FINALIZE)
        helper_schema.put(source, helper_schema.REVOKED, None)
        helper_schema.put(target, helper_schema.FINALIZE, {"status": "verified"})
        assert told(look(settings)) == ("finalize", False, commands.FINALIZE)
        helper_schema.put(target, helper_schema.FINALIZE, None)
        # A real one refuses for some hours after the monolith's write above.
        helper_schema.put(source, helper_schema.ROUTED, {"weight": 50, "since": None})
    finalize.run(settings)
    done = command(settings, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["place"]["step"], document["place"]["ended"], document["next"]) == (
        0,
        "finalize",
        True,
        commands.END,
    )
    assert (document["stack"], document["events"][-1]["event"]) == ("night", "finalized")


@pytest.fixture
def replicating(make_pair: MakePair) -> Cast:
    """A migration at 5 %."""
    cast = Cast(make_pair(rows=50, walRunwayWarnHours=0.001))
    schema.apply(cast.settings)
    copy.run(cast.settings)
    replicate.start(cast.settings)
    verify.run(cast.settings)
    moved(cast.settings, 0, 5)
    return cast


def test_what_is_away_is_named_and_the_rest_is_shown(replicating: Cast) -> None:
    """Prevents a status that hangs, or shows nothing, in the very night in which a server is away."""
    settings, pair = replicating.settings, replicating.pair
    with Proxy(pair.target_server.port) as silent:
        cut = f"{settings.target().rpartition('?')[0] or settings.target()}".replace(
            f":{pair.target_server.port}/", f":{silent.port}/"
        )
        hanging = dataclasses.replace(settings, target_url=SecretStr(cut))
        silent.cut("silent")
        began = time.monotonic()
        found = look(hanging)
        assert time.monotonic() - began < 25
        assert ([one.what for one in found.unseen], found.safe, found.weight.declared) == (["target"], False, 5)
        assert found.next.startswith("task-migration rollback --reason TEXT, where users get errors")
    pair.target_server.stop()
    try:
        done = command(settings)
        assert done.returncode == 10, done.stderr
        assert " ".join(done.stdout.split()).startswith(
            "NOT KNOWN whether it is safe: no look at target. 5 % of the requests are on the Task Service."
        )
        # How long the monolith's disk bears that is what has to be known now.
        assert re.search(r"log +source: .* left, 0 of 10,240 MiB kept, NOBODY reads it", done.stdout)
        pair.source_server.stop()
        found = look(settings)
        assert ([one.what for one in found.unseen], found.place.step, found.weight.declared) == (
            ["source", "target"],
            "canary",
            5,
        )
    finally:
        pair.source_server.start()
        pair.target_server.start()
    unset = dataclasses.replace(settings, target_url=None)
    (missing,) = look(unset).unseen
    assert missing.why.startswith("TARGET_DATABASE_URL is not set and no stack is selected")
    # A URL that the environment lacks is the stack's; where that cannot be had, the rest is shown all the same.
    given = settings.target_url
    assert given is not None
    asked = dataclasses.replace(unset, stack="prod", deployed_url=lambda stack, side: given.get_secret_value())
    assert look(asked).unseen == []

    def away(stack: str, side: str) -> str:
        raise MigrationError(f"pulumi did not answer for the {side} of {stack}")

    found = look(dataclasses.replace(asked, deployed_url=away))
    assert [(one.what, one.why) for one in found.unseen] == [("target", "pulumi did not answer for the target of prod")]
    journal = Path(settings.state_dir) / "journal.jsonl"
    journal.rename(journal.with_name("elsewhere"))
    journal.symlink_to("elsewhere")
    found = look(settings)
    assert ([one.what for one in found.unseen], found.safe, found.weight.declared) == (["journal"], False, 5)
    assert "not read" in screen(found, 30)


def test_a_slot_that_is_lost_is_said_with_what_it_means(replicating: Cast) -> None:
    settings, admin = replicating.settings, replicating.admin("source")
    replicate.stop(settings)
    found = look(settings)
    assert (found.safe, found.next) == (False, commands.MEND)
    assert "task-migration replicate start" in screen(found, 30)
    with slot_lost(admin, settings.config.subscription):
        found = look(settings)
    assert (found.safe, found.next, found.log[0].wal_status) == (False, commands.MEND, "lost")
    assert "is lost (max_slot_wal_keep_size was passed)" in " ".join(screen(found, 30).split())
    assert found.way_back is not None
    assert not found.way_back.ready


def test_somebody_elses_helper_schema_is_no_crash(make_pair: MakePair) -> None:
    cast = Cast(make_pair(rows=10))
    cast.admin("source").execute("CREATE SCHEMA task_migration")
    found = look(cast.settings)
    assert [one.what for one in found.unseen] == ["source"]
    assert "belongs to postgres and not to operator_at_night" in found.unseen[0].why
    assert not found.safe


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo terminal of 80 by 24: our end, and the program's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_watch_draws_again_and_ends_with_ctrl_c(make_pair: MakePair, terminal: tuple[int, int]) -> None:
    """Prevents a watch that leaves the terminal without its cursor, or ends with a traceback."""
    cast = Cast(make_pair(rows=10))
    ours, theirs = terminal
    environment: Mapping[str, str] = {**variables(cast.settings), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", "status", "--watch"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=Path(cast.settings.state_dir).parent, start_new_session=True,
        preexec_fn=_takes_the_terminal,
    )  # fmt: skip
    os.close(theirs)
    seen = _until(ours, lambda text: text.count("Nothing was done yet") >= 1)
    assert "\x1b[?1049h" in seen
    schema.apply(cast.settings)
    seen += _until(ours, lambda text: "The target has the schema" in text)
    os.write(ours, b"\x03")
    seen += _until(ours, lambda text: "safe to run again" in text)
    assert process.wait(timeout=30) == 130
    # The screen of before is back with its cursor, and has the last picture.
    after = seen.rpartition("\x1b[?1049l")[2]
    assert "The target has the schema" in after
    assert "\x1b[?25h" in seen
    assert "Traceback" not in seen


def _takes_the_terminal() -> None:
    """So that its Ctrl-C is this program's; ignored signals are inherited."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until(terminal: int, done: Callable[[str], bool]) -> str:
    """What the program writes until ``done`` of it."""
    os.set_blocking(terminal, False)
    seen = bytearray()

    def read() -> str:
        with contextlib.suppress(OSError):
            seen.extend(os.read(terminal, 1 << 16))
        return seen.decode(errors="replace")

    return wait_until(read, done, what="the screen", timeout=60)
