"""The whole migration on this machine: real PostgreSQL, emulated AWS, stand-in applications, live load, real commands.

Each step of the plan is the same command that an operator runs, in a process of its own; the rehearsal only starts what
they act on, watches, and judges the evidence.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from components.config import MigrationConfig
from scripts.rehearsal import drill as drilling
from scripts.rehearsal import report
from scripts.rehearsal.engine.pulumi_cli import EngineName
from scripts.rehearsal.ledger import check_ledger
from scripts.rehearsal.live import View
from scripts.rehearsal.processes import Processes, end
from scripts.rehearsal.setting import ReplicationName, Setting
from scripts.support.console import say
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.redact import redact

#: Seconds until the ledger surely holds every write that a database snapshot holds.
LEDGER_SETTLES = 2.0


@dataclass(frozen=True)
class Plan:
    """What to rehearse. ``rate`` is requests per second of all ``users``; ``watch`` seconds per canary step."""

    rows: int
    users: int
    rate: float
    watch: float
    seed: int
    engine: EngineName
    output: Path
    #: The rollback drill from every weight instead of the whole plan.
    drill: bool = False
    replication: ReplicationName = "native"


class Rehearsal:
    """One run. The constructor starts nothing; :func:`rehearse` does and stops everything again."""

    def __init__(self, plan: Plan, setting: Setting, processes: Processes, view: View) -> None:
        self.plan, self.setting, self.processes, self.view = plan, setting, processes, view
        self.evidence = report.Evidence()
        self.config = MigrationConfig()

    def command(self, *arguments: str, timeout: float = 240.0, accept: Sequence[int] = (0,)) -> dict[str, Any]:
        """Run one command as an operator would, with --json; its document.

        Raises:
            MigrationError: another exit status than the accepted ones, with the end of what it said.
        """
        name = "-".join(word for word in arguments[:2] if not word.startswith("-"))
        self.view.picture.step = f"task-migration {' '.join(arguments[:2])}"
        errors = self.setting.logs / f"{name}.log"
        with errors.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "scripts", *arguments, "--json"],
                cwd=self.plan.output,
                env={**os.environ, **self.setting.environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
            try:
                answer, _ = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise MigrationError(
                    f"task-migration {name} did not end within {timeout:g} s; see {errors.name}"
                ) from None
            finally:
                if child.poll() is None:
                    # As Ctrl-C does, so that it stops what it started itself: a backup's scratch server, for one.
                    end(child, 20.0, signal.SIGINT)
        self.processes.check()
        if child.returncode not in accept:
            tail = redact((errors.read_text(errors="replace") + answer.decode(errors="replace"))[-2000:])
            raise MigrationError(f"task-migration {' '.join(arguments)} ended with {child.returncode}: {tail}")
        return dict(json.loads(answer))

    def data_plane(self) -> None:
        """Preflight to replication both ways, under load."""
        seen, event = self.evidence, self.view.event
        seen.preflight = self.command("preflight")
        event(f"preflight: {len(seen.preflight['checks'])} checks passed")
        seen.backup = self.command("backup", "--output", f"s3://{self.setting.bucket}/database/rehearsal")
        event(f"backup: {seen.backup['bytes']:,} bytes in S3, restored and compared")
        self.command("schema", "apply")
        self.command("schema", "diff")
        event("schema: made on the target, the two catalogs agree")
        seen.copy = self.command("copy")
        rows = sum(int(table["rows"]) for table in seen.copy["tables"])
        event(f"copy: {rows:,} rows of {len(seen.copy['tables'])} tables under the snapshot at {seen.copy['lsn']}")
        self.command("replicate", "start")
        event(f"replicate ({self.plan.replication}): both directions run, a fence returned each way")

    def smoke(self) -> None:
        """The contract of the API on the Task Service, at weight 0, through the smoke rule."""
        first, second = self.setting.token_files
        checked = self.command(
            "api-check",
            "--smoke",
            "--base-url",
            self.setting.gateway,
            "--token-file",
            str(first),
            "--other-token-file",
            str(second),
            *(word for option, user in self.setting.neighbours().items() for word in (option, str(user))),
        )
        if checked["not_checked"]:
            raise MigrationError(f"the generated data leaves clauses unchecked: {'; '.join(checked['not_checked'])}")
        if checked["served_by"] != ["task-service"]:
            raise MigrationError(f"the smoke rule led to {checked['served_by']}, not to the Task Service alone")
        self.evidence.api_check = checked
        self.view.event(
            f"api-check: {len(checked['checks'])} checks of {len(checked['endpoints'])} endpoints at weight 0"
        )

    def step(self, weight: int) -> None:
        """One canary step; anything but a promotion ends the rehearsal."""
        since = time.time()
        document = self.command("canary", "step", accept=(0, Refused.exit_status))
        changed = document.get("changed", [])
        if document["decision"] == "hold":
            # As an operator does, and `canary run`: one busy moment at a watch's end is watched on.
            self.view.event(f"canary at {weight} %: hold, {'; '.join(document['reasons'])}; watched again")
            document = self.command("canary", "step", accept=(0, Refused.exit_status))
        self.note(weight, since, document["seconds"], document["decision"])
        self.evidence.changed.append(changed)
        if document["decision"] != "promote" or document["to"] != weight:
            raise MigrationError(
                f"the step to {weight} % was not promoted: {document['decision']}: {document['reasons']}"
            )
        self.view.event(
            f"canary {document['from']} -> {weight} %: {document['decision']}, {'; '.join(document['reasons'][:5])}"
        )

    def note(self, weight: int, since: float, seconds: float, decision: str) -> None:
        """Keep what a step came to, with the share that was measured while it was watched."""
        # Of the step, the last watch alone: the weight moved somewhere before it.
        window = max(since, time.time() - self.plan.watch)
        stats = self.setting.stats(window)
        share = stats["share"].get(self.setting.outputs["taskTargetGroupArn"])
        self.evidence.steps.append(
            {
                "weight": weight,
                "share": None if share is None else round(100.0 * share, 2),
                "seconds": seconds,
                "decision": decision,
            }
        )

    def roll_back(self) -> None:
        """Back to the monolith, timed; then every acknowledged write is looked up in the monolith's database."""
        back = self.command("rollback", "--reason", "rehearsed")
        self.evidence.rollback = back
        self.evidence.steps.append({"weight": 0, "share": None, "seconds": back["seconds"], "decision": "rollback"})
        found = self.look_up("ledger-rollback.json")
        self.evidence.rollback_ledger = found
        self.view.event(
            f"rollback {back['from']} -> 0 % in {back['seconds']} s; {found['lost']} of {found['total']} acknowledged writes lost"
        )

    def climb(self) -> None:
        """Up to half, back, up the whole ladder, and to the end."""
        for weight in (5, 25, 50):
            self.step(weight)
        self.roll_back()
        for weight in self.config.canary_ladder:
            self.step(weight)
        self.finish()

    def look_up(self, name: str) -> dict[str, Any]:
        """Every write acknowledged until now in the monolith's database, under load; kept under ``name``."""
        until = time.time()
        with psycopg.connect(self.setting.source_url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT 1")  # takes the snapshot
            time.sleep(LEDGER_SETTLES)
            found = check_ledger(self.setting.ledger, connection, until=until)
        self._keep(name, found)
        return found

    def finish(self) -> None:
        """Verify live and at rest, finalize under load, then look every acknowledged write up on the target."""
        plan, event = self.plan, self.view.event
        self.command("replicate", "wait")
        live = self.command("verify")
        event(
            f"verify under load: {sum(bool(table['match']) for table in live['tables'])} of {len(live['tables'])} tables equal"
        )
        # Equal counts can only be shown while nothing is written; users are back before the next step.
        self.setting.stop_load()
        self.command("replicate", "wait")
        self.evidence.verify = self.command("verify", accept=(0, DataDiffer.exit_status))
        equal = sum(bool(table["match"]) for table in self.evidence.verify["tables"])
        event(f"verify at rest: {equal} of {len(self.evidence.verify['tables'])} tables equal on both sides")
        self.setting.start_load(plan.users, plan.rate)
        self.evidence.finalize = self.command("finalize")
        event("finalize under load: replication gone from both catalogs, the old tables are read-only")
        time.sleep(LEDGER_SETTLES)
        self.setting.stop_load()
        with psycopg.connect(self.setting.target_url) as connection:
            found = check_ledger(self.setting.ledger, connection)
        self._keep("ledger-final.json", found)
        self.evidence.ledger = found
        event(f"{found['lost']} of {found['total']} acknowledged writes lost on the target")

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        (self.plan.output / name).write_text(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def _sampler(setting: Setting) -> Callable[[Any], None]:
    """What the live view shows, from the gateway, the load and, less often, the databases."""
    asked = 0.0

    def sample(picture: Any) -> None:
        nonlocal asked
        if not setting.loading:
            return
        stats = setting.stats(time.time() - 5.0)
        group = setting.outputs["taskTargetGroupArn"]
        weights = stats["weights"]
        picture.weight = round(100 * weights.get(group, 0) / sum(weights.values())) if weights else None
        share = stats["share"].get(group)
        picture.share = None if share is None else 100.0 * share
        picture.load = setting.load_figures()
        if time.monotonic() - asked > 2.0:
            asked = time.monotonic()
            picture.lag = setting.lag()

    return sample


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the rehearsal as Ctrl-C does, so that nothing outlives it."""

    def interrupt(*_: object) -> None:
        _undisturbed()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _undisturbed() -> None:
    """From here on everything is being stopped: an impatient second Ctrl-C must not leave half of it running."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def rehearse(plan: Plan) -> dict[str, Any]:
    """Run the plan; write ``report.json`` and return it. Every process is stopped, whatever happens.

    Raises:
        KeyboardInterrupt: Ctrl-C; after everything was stopped.
        MigrationError: the machine could not be set up.
    """
    started = time.monotonic()
    if plan.output.exists():
        shutil.rmtree(plan.output)
    with _interruptible(), ExitStack() as cleanup:
        setting = cleanup.enter_context(
            Setting(plan.output, rows=plan.rows, seed=plan.seed, engine=plan.engine, replication=plan.replication)
        )
        cleanup.callback(_undisturbed)
        processes = setting.processes
        with View(_sampler(setting)) as view:
            run = Rehearsal(plan, setting, processes, view)
            try:
                setting.prepare(view.event, users=plan.users, rate=plan.rate, watch=plan.watch, patient=plan.drill)
                setting.start_load(plan.users, plan.rate)
                view.event(f"load: {plan.users} users, {plan.rate:g} requests/s through the gateway, weight 0")
                run.data_plane()
                run.smoke()
                if plan.drill:
                    drilling.drill(run)
                else:
                    run.climb()
            except MigrationError as error:
                run.evidence.failure = redact(str(error))
                say(str(error), "red")
                if setting.loading:
                    setting.stop_load()
            run.evidence.load = setting.load_total()
        document = report.document(
            run.evidence,
            run.config.tables,
            run.config.canary_ladder,
            plan.users,
            plan.rate,
            seconds=round(time.monotonic() - started, 1),
            engine=setting.engine,
            rows=setting.rows_made,
            load=run.evidence.load,
            drill=plan.drill,
        )
        report.save(plan.output / "report.json", document)
    return document
