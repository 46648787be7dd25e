"""One scenario, from its begin to what became of it."""

from __future__ import annotations

from scripts.rehearsal import criteria
from scripts.rehearsal.documents import Criterion, ScenarioOutcome
from scripts.rehearsal.plan import ScenarioName
from scripts.rehearsal.scenarios.judge import judge
from scripts.rehearsal.scenarios.night import Night
from scripts.rehearsal.scenarios.table import SCENARIOS
from scripts.support.errors import MigrationError

#: What became of a fault, and whether that is what it had to come to.
Played = tuple[ScenarioOutcome, list[Criterion]]


def play(night: Night, name: ScenarioName) -> Played:
    """Bring the fault about and look until it is over; then look up every acknowledged write. What broke on the way is the evidence's failure.

    Raises:
        MigrationError: the night is not fit to begin it, or its ledger cannot be looked up.
    """
    scenario = SCENARIOS[name]
    night.begin(replicating=scenario.replicating)
    night.view.event(f"scenario {name}: {scenario.what}")
    try:
        scenario.play(night)
    except MigrationError as error:
        night.steps.failed(error)
    ledger = night.steps.evidence.ledger = night.steps.look_up(f"ledger-{name}.json")
    outcome = night.outcome(name, scenario.what, scenario.must)
    busy = criteria.busy(night.bed.machine.share(night.found.at or 0.0))
    return outcome, judge(outcome, scenario.judged, ledger, night.bed.minute, busy=busy)
