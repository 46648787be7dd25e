"""Errors that are said in other words on their way up."""

from __future__ import annotations

import pytest

from scripts.database.connections import NotConnected
from scripts.deployment.errors import CannotDeploy
from scripts.support.errors import DataDiffer, MigrationError


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (DataDiffer("old"), {}),
        (CannotDeploy("old", "locked", "by 7"), {"why": "locked", "locks": "by 7"}),
        (NotConnected("old", "way", "open it"), {"cause": "old", "kind": "way", "remedy": "open it"}),
    ],
)
def test_an_error_in_other_words_stays_what_it_is(error: MigrationError, fields: dict[str, str]) -> None:
    """Prevents a crash in the place of 'all routes are on the monolith', as an error's kind asks for more than a text."""
    other = error.reworded("new")
    assert (type(other), str(other), vars(other)) == (type(error), "new", fields)
    assert other.exit_status == error.exit_status
