"""Faults of the Task Service and of what is known of it: its release, its tasks, its figures, its scheduler."""

from __future__ import annotations

import signal

from scripts.rehearsal.app.faults import Fault
from scripts.rehearsal.emulated.metrics import FAULTY
from scripts.rehearsal.scenarios.night import Night
from scripts.replication.writers import BOTH_SIDES
from scripts.support.wait import wait_until

#: Of a slow release: one answer of so many comes so many seconds late.
EVERY, LATE = 50, 3.0
#: Of a bad one: every second answer is an error.
BROKEN = Fault(every=2, status=500)


def bad(night: Night) -> None:
    """Every second answer is a 500; its health check is fine."""
    try:
        night.stepped("the new release answers 500", lambda: night.release(BROKEN))
    finally:
        night.release(None)


def slow(night: Night) -> None:
    """One answer of fifty comes three seconds late, which is no error and moves no P95."""
    try:
        night.stepped(
            "one answer of fifty is slow", lambda: night.release(Fault(EVERY, LATE)), gates={"p99Ms": 1000 * LATE * 2 / 3}
        )  # fmt: skip
    finally:
        night.release(None)


def deserted(night: Night) -> None:
    """All tasks go while the weight is 25 %."""
    night.stepped("no task is left", lambda: night.desired(0), sign="no target of the Task Service is healthy")
    night.steps.start_service()
    _healthy(night)


def killed(night: Night) -> None:
    """Every task is killed and stays registered: the load balancer, without a healthy one, sends requests on to the dead ones."""
    processes = night.bed.processes
    try:
        night.stepped("all tasks are killed", lambda: processes.stop("task-service", how=signal.SIGKILL))
    finally:
        night.bed.start("task-service")
    _healthy(night)


def _healthy(night: Night) -> None:
    """Returns when every target of the Task Service is."""
    balancer = night.bed.aws.client("elbv2")

    def states() -> set[str]:
        found = balancer.describe_target_health(TargetGroupArn=night.bed.task_group)["TargetHealthDescriptions"]
        return {one["TargetHealth"]["State"] for one in found}

    wait_until(
        states, lambda seen: bool(seen) and seen <= {"healthy", "draining"}, what="healthy targets", timeout=60.0
    )


def unseen(night: Night) -> None:
    """CloudWatch has nothing of any load balancer any more; users see nothing of it."""
    try:
        night.stepped("no figures of the load balancer", lambda: _withhold(night, True))
    finally:
        _withhold(night, False)


def _withhold(night: Night, on: bool) -> None:
    where = [{"Name": "Namespace", "Value": "AWS/ApplicationELB"}]
    datum = {"MetricName": "Withheld", "Dimensions": where, "Value": float(on)}
    night.bed.aws.client("cloudwatch").put_metric_data(Namespace=FAULTY, MetricData=[datum])


def twice(night: Night) -> None:
    """The scheduler runs on both sides: its work is done twice, and rolling back would not end that."""
    try:
        night.stepped(
            "the scheduler runs on both sides", lambda: night.bed.schedule_on("monolith", "task-service"), watch=0.6, sign=BOTH_SIDES
        )  # fmt: skip
    finally:
        night.bed.schedule_on()
    if night.found.decision == "hold":
        night.over("nothing moved while the scheduler ran twice; it rests on both sides again")
