"""A rehearsal's story: what its journal tells, and what only somebody who stood beside it could measure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scripts.rehearsal.criteria import Evidence
from scripts.rehearsal.testbed import Testbed
from scripts.report.documents import Mark, Part, Story, TableRow


def tell(testbed: Testbed, seen: Evidence, marks: Sequence[Mark], began: float) -> Story:
    """The story of a rehearsal that ``began`` then (seconds since the epoch) and ends now."""
    compared = {} if seen.verify is None else {one.table: one for one in seen.verify.tables}
    return Story(
        began=began,
        ended=time.time(),
        series=[],
        limits=[],
        marks=sorted(marks, key=lambda mark: mark.at),
        tables=[
            TableRow(
                table=table,
                rows=None,
                bytes=None,
                seconds=None,
                source_rows=one.source_rows,
                target_rows=one.target_rows,
                equal=one.match,
            )
            for table, one in compared.items()
        ],
        conflicts=[],
        decisions=[],
        rollbacks=[],
        shadow=[],
        parts=parts(testbed.engine, testbed.plan.replication),
    )


def parts(engine: str, replication: str) -> list[Part]:
    """What was real in a rehearsal with this engine and this replication, and what stood in."""
    dms = replication == "dms"
    return [
        Part(part="PostgreSQL", how="real", what="two servers of version 16 on this machine"),
        Part(part="commands", how="real", what="each step is an operator's, in a process of its own"),
        Part(
            part="replication",
            how="stand-in" if dms else "real",
            what="a stand-in of AWS DMS that behaves as its documentation says" if dms else "PostgreSQL's own",
        ),
        Part(
            part="Pulumi",
            how="real" if engine == "pulumi" else "stand-in",
            what="its CLI with a local state" if engine == "pulumi" else "the program under the SDK's mock monitor",
        ),
        Part(part="AWS account", how="emulated", what="moto's server, with what the provider would refuse"),
        Part(part="CloudWatch", how="emulated", what="a minute has some seconds here; figures are the gateway's own"),
        Part(part="API Gateway and load balancer", how="stand-in", what="one process that reads the emulated rules"),
        Part(part="monolith and Task Service", how="stand-in", what="an application with the plan's endpoints"),
        Part(part="users", how="stand-in", what="Locust's, with tokens of an emulated Cognito"),
        Part(part="network", how="not there", what="everything runs on one machine: no latency, no zones"),
    ]
