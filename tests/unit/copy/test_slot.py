"""A slot's state as the sentences of refusals and checks have it."""

from __future__ import annotations

from scripts.copy.slot import SlotState


def test_a_slot_is_told_in_words() -> None:
    """Prevents a refusal at night that shows a Python dictionary."""
    busy = SlotState(True, 12, "reserved", "0/16B3748", 3 * 2**20, 5)
    lost = SlotState(False, None, "lost", "0/16B3748", None, 5)
    assert f"{busy}" == "in use by process 12, confirmed up to 0/16B3748, its WAL is reserved, 3.0 MiB kept"
    assert f"{lost or 'none'}" == "not in use, confirmed up to 0/16B3748, its WAL is lost"
