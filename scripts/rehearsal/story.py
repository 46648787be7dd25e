"""A rehearsal's story: what its journal tells, as any run's does, and what only somebody who stood beside it could measure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from components.config import ConfigError, MigrationConfig
from components.config_values import migration_config, read_stack_file
from scripts.canary import decisions
from scripts.rehearsal.testbed import Testbed
from scripts.report import journal
from scripts.report.documents import Mark, Part, Series, Story
from scripts.support.console import say
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings


def tell(testbed: Testbed, marks: Sequence[Mark], measured: Sequence[Series], began: float) -> Story:
    """The story of a rehearsal that ``began`` then (seconds since the epoch) and ends now.

    Args:
        measured: curves that take the place of the journal's, which knows watched periods alone.
    """
    told = _journaled(testbed)
    finer = {(one.what, one.of) for one in measured}
    kinds = {one.what for one in measured}
    rougher = [
        one for one in told.series if one.what not in kinds or (one.of == "asked" and (one.what, one.of) not in finer)
    ]
    return told.model_copy(
        update={
            "began": began,
            "ended": time.time(),
            "series": [*rougher, *measured],
            "marks": sorted((*told.marks, *marks), key=lambda mark: mark.at),
            "parts": [*parts(testbed.engine, testbed.plan.replication), *told.parts],
        }
    )


def _journaled(testbed: Testbed) -> Story:
    """What the commands journaled; of a machine that was not set up so far, nothing."""
    try:
        config = migration_config(read_stack_file(testbed.stack_file), testbed.stack_file.name)
    except (ConfigError, OSError):
        config = MigrationConfig()
    settings = Settings(config=config, stack=None, source_url=None, target_url=None, state_dir=testbed.state_dir)
    try:
        events = list(settings.journal.events())
        return journal.tell(events, decisions.kept(settings, events), gates=config.gates)
    except MigrationError as error:
        say(f"the story is without the journal: {error}", "yellow")
        return journal.tell([], {}, gates=config.gates)


def parts(engine: str, replication: str) -> list[Part]:
    """What was real in a rehearsal with this engine and this replication, and what stood in."""
    dms, cli = replication == "dms", engine == "pulumi"
    return [
        Part(part="PostgreSQL", how="real", what="two servers of version 16 on this machine"),
        Part(part="commands", how="real", what="each step is an operator's, in a process of its own"),
        Part(part="rows, rules and proofs", how="real", what="copied, recorded, compared and proven as in production"),
        Part(
            part="replication",
            how="stand-in" if dms else "real",
            what="a stand-in of AWS DMS that behaves as its documentation says" if dms else "PostgreSQL's own",
        ),
        Part(
            part="Pulumi",
            how="real" if cli else "stand-in",
            what="its CLI with a local state" if cli else "the program runs under the SDK's mock monitor",
        ),
        Part(part="AWS account", how="emulated", what="moto's server, and what the provider would refuse"),
        Part(
            part="CloudWatch",
            how="emulated",
            what="its minute has some seconds; the figures are the gateway's own count",
        ),
        Part(
            part="API Gateway and load balancer",
            how="stand-in",
            what="one process that goes by the emulated account's rules",
        ),
        Part(part="monolith and Task Service", how="stand-in", what="one application with the plan's endpoints, twice"),
        Part(part="users", how="stand-in", what="Locust's, with tokens of an emulated Cognito"),
        Part(
            part="network between them",
            how="not there",
            what="all runs on one machine, without zones and their latency",
        ),
    ]
