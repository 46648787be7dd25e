"""The steps of the plan, each the command that an operator runs, and the evidence that they leave."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
from pydantic import ValidationError

from components.config import MigrationConfig
from components.naming import OPERATOR_SECRET
from scripts.api.documents import ApiCheck
from scripts.backup.documents import Backup
from scripts.canary.documents import CanaryStep, Rollback, ServiceStarted
from scripts.copy.documents import Copy
from scripts.finish.documents import Finalization
from scripts.preflight.documents import Preflight
from scripts.rehearsal import agreement, criteria, waits
from scripts.rehearsal.criteria import Evidence
from scripts.rehearsal.documents import LedgerCheck, Reads, Step
from scripts.rehearsal.fates import Cell, Told, check_ledger, told_losses
from scripts.rehearsal.gateway.routes import BALANCER
from scripts.rehearsal.ledger import read_ledger
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.processes import begin, end
from scripts.rehearsal.testbed import Testbed
from scripts.replication.documents import ReplicationRoles, Started, Status, Waited
from scripts.replication.fence import STANDS
from scripts.replication.writers import BOTH_SIDES
from scripts.schema.documents import OperatorRole, SchemaApplied, SchemaDiff
from scripts.shadow.documents import Shadow
from scripts.support import private
from scripts.support.console import say
from scripts.support.document import Document
from scripts.support.errors import DataDiffer, MigrationError, NotJudged, Refused, TimedOut
from scripts.support.process import uninterrupted
from scripts.support.redact import redact
from scripts.support.wait import wait_until
from scripts.verify.documents import Verification

D = TypeVar("D", bound=Document)

#: Seconds until the ledger surely holds every write that a database snapshot holds.
LEDGER_SECONDS = 2.0
#: Of the gateway's figures: the share of all requests, and of those that no cookie bound.
SHARES = ("share", "share_of_new")
#: Users whose answers are compared, and requests per second for it, beside the load's.
SHADOWED_USERS, SHADOW_RATE = 6, 50


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit status, its answer, what it said to people and in which log."""

    status: int
    answer: bytes
    said: str
    log: Path

    @property
    def last(self) -> str:
        """Its last words: the last line, with what is set in below it."""
        lines = self.said.rstrip().splitlines()
        begin = next((at for at in range(len(lines) - 1, 0, -1) if not lines[at][:1].isspace()), 0)
        return " ".join(" ".join(lines[begin:]).split())


class Steps:
    """The commands of one rehearsal, run on ``testbed``; what they prove is in :attr:`evidence`."""

    def __init__(self, testbed: Testbed, view: LiveView) -> None:
        self.testbed, self.view = testbed, view
        self.evidence = Evidence()
        self.config = MigrationConfig()
        #: When the last command began (seconds since the epoch), and the CPU seconds of all by name.
        self.began = time.time()
        self.spent: defaultdict[str, float] = defaultdict(float)
        #: The reads of all users until the last move of the weight.
        self._reads: Counter[tuple[int | None, bool, str]] = Counter()
        self._told: dict[Cell, set[str | None]] = {}

    def command(
        self,
        document: type[D],
        *arguments: str,
        timeout: float = 240.0,
        accept: Sequence[int] = (0,),
        variables: Mapping[str, str] | None = None,
    ) -> D:
        """Run one command as an operator would, with --json; its document.

        Raises:
            TimedOut: it did not end in time, or gave a wait up.
            MigrationError: another exit status than the accepted ones, with the end of what it said, or a direction stands, which no
                time would have helped; or another document.
        """
        ran = self.run(*arguments, timeout=timeout, variables=variables)
        if ran.status not in accept:
            tail = redact((ran.said + ran.answer.decode(errors="replace"))[-2000:])
            by_time = ran.status == TimedOut.exit_status and STANDS not in ran.said
            kind = TimedOut if by_time else MigrationError
            raise kind(f"task-migration {' '.join(arguments)} ended with {ran.status}: {tail}")
        try:
            return document.model_validate_json(ran.answer)
        except ValidationError as error:
            what = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, what["loc"])) or "the whole"
            raise MigrationError(
                f"task-migration {' '.join(arguments)} did not print a {document.__name__}: {where}: {what['msg']}; see {ran.log.name}"
            ) from None

    def run(
        self,
        *arguments: str,
        timeout: float = 240.0,
        variables: Mapping[str, str] | None = None,
        begun: Callable[[subprocess.Popen[bytes]], None] | None = None,
    ) -> Ran:
        """Run one command as an operator would, with --json, to whatever end it comes; ``begun`` gets its process.

        Raises:
            TimedOut: it did not end in ``timeout`` seconds.
            MigrationError: something of the testbed ended.
        """
        name = "-".join(word for word in arguments[:2] if not word.startswith("-"))
        self.view.moment.step = f"task-migration {' '.join(arguments[:2])}"
        errors = self.testbed.logs / f"{name}.log"
        written = errors.stat().st_size if errors.exists() else 0
        command = [sys.executable, "-m", "scripts", *arguments, "--json"]
        environment = {**os.environ, **self.testbed.environment(), **(variables or {})}
        self.began, before = time.time(), _spent_by_children()
        with ExitStack() as left:
            with uninterrupted():
                child = begin(command, environment, errors, self.testbed.directory, subprocess.PIPE)
                left.callback(_interrupt, child)
            if begun is not None:
                begun(child)
            try:
                answer, _ = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise TimedOut(f"task-migration {name} did not end within {timeout:g} s; see {errors.name}") from None
        self.spent[" ".join(arguments[:2])] += _spent_by_children() - before
        self.testbed.processes.check()
        said = errors.read_bytes()[written:].decode(errors="replace")
        return Ran(child.returncode, answer, redact(said), errors)

    def failed(self, error: MigrationError) -> None:
        """Keep why it ended, and whether that was nothing but time while others kept the machine busy."""
        machine, evidence = self.testbed.machine.share(self.began), self.evidence
        by_time = isinstance(error, NotJudged | TimedOut)
        evidence.by_machine = isinstance(error, NotJudged) or (by_time and criteria.busy(machine))
        text = f"{error}; {waits.described(machine)}" if evidence.by_machine and machine else str(error)
        evidence.failure = redact(text)
        say(text, "red")

    def appoint_operator(self) -> None:
        """The role that all commands after this one log in with on the target, and its password."""
        bases = self.testbed.databases
        master = {"TARGET_MASTER_DATABASE_URL": self.testbed.by_groups("target", bases.master_url)}
        made = self.command(OperatorRole, "schema", "role", "--operator", variables=master)
        secret = self.testbed.aws.client("secretsmanager").get_secret_value(SecretId=OPERATOR_SECRET)
        bases.know_operator(str(json.loads(secret["SecretString"])["password"]))
        self.view.event(f"the target's operator: {made.role}, by the master, with a secret of its own")

    def start_service(self) -> None:
        """The Task Service's tasks, which run and are healthy by what ECS and the load balancer say."""
        started = self.command(ServiceStarted, "canary", "start-service")
        self.view.event(f"the Task Service: {started.tasks} tasks run, {started.healthy} are healthy")

    def replicate(self) -> None:
        """Preflight to replication both ways, under load."""
        seen, event = self.evidence, self.view.event
        looked = self.command(Preflight, "preflight", "--account")
        event(f"preflight: {len(looked.checks)} checks passed")
        seen.backup = self.command(Backup, "backup", "--output", f"s3://{self.testbed.bucket}/database/rehearsal")
        event(f"backup: {seen.backup.bytes:,} bytes in S3, restored and compared")
        self.command(SchemaApplied, "schema", "apply")
        self.command(SchemaDiff, "schema", "diff")
        event("schema: made on the target, the two catalogs agree")
        self.command(ReplicationRoles, "schema", "role", "--replication")
        copied = self.command(Copy, "copy")
        rows = sum(table.rows for table in copied.tables)
        event(f"copy: {rows:,} rows of {len(copied.tables)} tables under the snapshot at {copied.lsn}")
        self.command(Started, "replicate", "start")
        event(f"replicate ({self.testbed.plan.replication}): both directions run, a fence returned each way")

    def check_api(self) -> None:
        """The contract of the API on the Task Service, at weight 0, through the smoke rule."""
        first, second = self.testbed.token_files
        checked = self.command(
            ApiCheck,
            "api-check",
            "--smoke",
            "--base-url",
            self.testbed.gateway,
            "--token-file",
            str(first),
            "--other-token-file",
            str(second),
            "--balancer-url",
            self.testbed.gateway + BALANCER,
            *(word for file in self.testbed.refused_files for word in ("--refused-token-file", str(file))),
            *(word for option, user in self.testbed.neighbours().items() for word in (option, str(user))),
        )
        if checked.not_checked:
            raise MigrationError(f"the generated data leaves clauses unchecked: {'; '.join(checked.not_checked)}")
        if checked.served_by != ["task-service"]:
            raise MigrationError(f"the smoke rule led to {', '.join(checked.served_by)}, not to the Task Service alone")
        self.evidence.api_check = checked
        self.view.event(f"api-check: {len(checked.checks)} checks of {len(checked.endpoints)} endpoints at weight 0")

    def shadow(self) -> None:
        """Both sides' answers, compared at weight 0 while users write. Raises MigrationError when they differ."""
        compared = self.command(
            Shadow,
            "shadow",
            *("--base-url", self.testbed.gateway, "--token-file", str(self.testbed.users_file)),
            *("--users", str(SHADOWED_USERS), "--rate", str(SHADOW_RATE)),
        )
        if not compared.told_apart:
            raise MigrationError("the answers that were compared do not say which side gave them")
        answers = sum(one.answers for one in compared.endpoints)
        self.view.event(f"shadow: {answers} answers of both sides compared, field by field, none differs")

    def climb(self) -> None:
        """Up to half, back, and up the whole ladder; the scheduler is switched over before its end."""
        self.testbed.schedule_on("monolith")
        for weight in (5, 25, 50):
            self.raise_to(weight)
        self.roll_back()
        *lower, last = self.config.canary_ladder
        for weight in lower:
            if weight == lower[-1]:
                self.testbed.schedule_on()
            self.raise_to(weight)
        self.start_scheduler()
        self.raise_to(last)

    def start_scheduler(self) -> None:
        """On the Task Service, after the monolith's has rested for a watch: seen to run there alone, as docs/runbook.md says."""
        self.testbed.schedule_on("task-service")
        seen = wait_until(
            lambda: self.command(Status, "replicate", "status", accept=(0, Refused.exit_status)),
            lambda seen: any(one.side == "target" and "scheduler" in one.application for one in seen.writers),
            what="the scheduler on the Task Service",
            timeout=30.0,
        )
        for one in seen.findings:
            if one.what == BOTH_SIDES:
                raise MigrationError(f"the scheduler was switched over, and yet: {one.detail}")
        self.view.event("the scheduler: stopped on the monolith, started on the Task Service, seen on one side")

    def raise_to(self, weight: int) -> None:
        """One canary step; anything but a promotion ends the rehearsal."""
        since = time.time()
        document = self.command(CanaryStep, "canary", "step", accept=(0, Refused.exit_status))
        changed = document.changed
        if document.decision == "hold":
            # As an operator does, and `canary run`: one busy moment at a watch's end is watched on.
            self.view.event(f"canary at {weight} %: hold, {'; '.join(document.reasons)}; watched again")
            document = self.command(CanaryStep, "canary", "step", accept=(0, Refused.exit_status))
        step = self.note(weight, since, document.seconds, document.decision)
        self._check_figures(document)
        self.evidence.changed.append(changed)
        if document.decision != "promote" or document.to != weight:
            text = f"the step to {weight} % was not promoted: {document.decision}: {'; '.join(document.reasons)}"
            if waits.explain(document.findings) and criteria.busy(step.machine):
                raise NotJudged(text)
            raise MigrationError(text)
        self.view.event(f"canary {document.from_} -> {weight} %: promote, measured share {step.share} %")

    def _check_figures(self, document: CanaryStep) -> None:
        """Whether the step was decided by what the gateway measured."""
        periods = document.evidence.periods if document.evidence else []
        if periods:
            measured = self.testbed.stats(periods[0].at, self.testbed.minute)["periods"]
            groups = (self.testbed.task_group, str(self.testbed.outputs["monolithTargetGroupArn"]))
            self.evidence.periods += len(periods)
            self.evidence.differing += agreement.differences(periods, measured, *groups)

    def note(self, weight: int, since: float, seconds: float, decision: str) -> Step:
        """Keep what a step came to, with the share that was measured while it was watched."""
        # Of the step, the last watch alone: the weight moved somewhere before it.
        window = max(since, time.time() - self.testbed.plan.watch)
        stats, group = self.testbed.stats(window), self.testbed.task_group
        share, new = (None if (one := stats[name].get(group)) is None else round(100.0 * one, 2) for name in SHARES)
        found = self._fresh_reads()
        kept, none = (
            Reads(reads=found[weight, cookies, "reads"], stale=found[weight, cookies, "stale"])
            for cookies in (True, False)
        )
        step = Step(
            weight=weight,
            share=share,
            new_share=new,
            cookies=kept,
            no_cookies=none,
            seconds=seconds,
            decision=decision,
            machine=self.testbed.machine.share(since),
        )
        self.evidence.steps.append(step)
        return step

    def _fresh_reads(self) -> Counter[tuple[int | None, bool, str]]:
        """What users read since this was last asked, and what of it was stale, by weight and cookies."""
        found: Counter[tuple[int | None, bool, str]] = Counter()
        for one in self.testbed.load.stale_reads():
            found[one.weight, one.cookies, "reads"] += one.reads
            found[one.weight, one.cookies, "stale"] += one.stale
        before, self._reads = self._reads, found
        return found - before

    def roll_back(self) -> None:
        """Back to the monolith, timed; then every acknowledged write is looked up in the monolith's database."""
        back = self.command(Rollback, "rollback", "--reason", "rehearsed")
        self.evidence.rollback = back
        self._fresh_reads()
        self.evidence.steps.append(Step(weight=0, seconds=back.seconds, decision="rollback"))
        found = self.look_up("ledger-rollback.json")
        self.evidence.rollback_ledger = found
        self.view.event(f"rollback {back.from_} -> 0 % in {back.seconds} s; {criteria.lost(found)}")
        # Until the cookies of before have ended, a step is refused.
        time.sleep(self.testbed.sticky)

    def look_up(self, name: str) -> LedgerCheck:
        """Every write acknowledged until now in the monolith's database, under load; kept under ``name``."""
        until = time.time()
        with psycopg.connect(self.testbed.databases.source_url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT 1")  # takes the snapshot
            time.sleep(LEDGER_SECONDS)
            entries = list(read_ledger(self.testbed.load.ledger))
            found = check_ledger(entries, connection, self.told(), until=until)
        self._keep(name, found)
        return found

    def told(self) -> Told:
        """What the conflict logs of both sides say now, or said when this was asked before: a new copy begins new ones."""
        bases = self.testbed.databases
        with psycopg.connect(bases.source_url) as source, psycopg.connect(bases.target_url) as target:
            for cell, values in told_losses(source, target).items():
                self._told.setdefault(cell, set()).update(values)
        return self._told

    def verify_live(self) -> None:
        """Compare every row of both sides under load, which each step of the canary wants; a difference ends the rehearsal."""
        self.command(Waited, "replicate", "wait")
        live = self.command(Verification, "verify")
        equal = sum(table.match for table in live.tables)
        self.view.event(f"verify under load: {equal} of {len(live.tables)} tables equal")

    def verify(self) -> int:
        """Compare every row of both sides, after a fence; how many tables are equal."""
        self.command(Waited, "replicate", "wait")
        self.evidence.verify = self.command(Verification, "verify", accept=(0, DataDiffer.exit_status))
        return sum(table.match for table in self.evidence.verify.tables)

    def finish(self) -> None:
        """Verify live and at rest, finalize under load, then look every acknowledged write up on the target."""
        event, tables = self.view.event, len(self.config.tables)
        self.verify_live()
        # Equal counts can only be shown while nothing is written; users are back before the next step.
        self.testbed.schedule_on()
        self.testbed.load.stop()
        event(f"verify at rest: {self.verify()} of {tables} tables equal on both sides")
        # At 100 % the Task Service alone takes writes, so nothing can be told after this; and finalize takes the log away.
        told = self.told()
        self.testbed.schedule_on("task-service")
        self.testbed.start_load()
        self.evidence.finalize = self.command(Finalization, "finalize")
        event("finalize under load: replication gone from both catalogs, the old tables are read-only")
        self.testbed.schedule_on()
        time.sleep(LEDGER_SECONDS)
        self.testbed.load.stop()
        with psycopg.connect(self.testbed.databases.target_url) as connection:
            found = check_ledger(read_ledger(self.testbed.load.ledger), connection, told)
        self._keep("ledger-final.json", found)
        self.evidence.ledger = found
        event(f"on the target {criteria.lost(found)}")

    def _keep(self, name: str, found: LedgerCheck) -> None:
        private.write(self.testbed.directory / name, json.dumps(found.plain(), ensure_ascii=False, indent=2))


def _spent_by_children() -> float:
    """CPU seconds of this process's children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    # As Ctrl-C does, so that it stops what it started itself: a backup's scratch server, for one.
    if child.poll() is None:
        end(child, 20.0, signal.SIGINT)
