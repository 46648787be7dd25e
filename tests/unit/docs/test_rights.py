"""The runbook's tables of rights are those that the program has and tries."""

from __future__ import annotations

import re
from pathlib import Path

from components import ci_roles
from scripts.preflight import operator
from tests.unit.components.test_ci_roles import PLACE

RUNBOOK = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_the_actions_of_the_operator_are_those_of_his_role() -> None:
    """Prevents a notice, or a way back, that is refused at night for an action that nobody was told of."""
    named = set(re.findall(r"`([a-z0-9-]+:[A-Z]\w+)`", RUNBOOK))
    # What Pulumi's state is kept by is what `pulumi up` does.
    state = {"s3:DeleteObject", "kms:Encrypt"}
    assert named - state == ci_roles.actions(PLACE, "operator") - state


def test_what_preflight_tries_is_in_the_table() -> None:
    """Prevents a right that is tried and not documented."""
    for _, _, _, remedy in operator.RIGHTS:
        assert f"`{remedy.format('op')}`" in RUNBOOK
