"""A slot's state as the sentences of refusals and checks have it."""

from __future__ import annotations

from scripts.copy.documents import SlotState


def test_a_slot_is_told_in_words() -> None:
    """Prevents a refusal at night that shows a Python dictionary."""
    busy = SlotState(
        active=True,
        active_pid=12,
        wal_status="reserved",
        confirmed_lsn="0/16B3748",
        retained_bytes=3 * 2**20,
        lag_bytes=5,
    )
    lost = busy.model_copy(update={"active": False, "wal_status": "lost", "retained_bytes": None})
    assert f"{busy}" == "in use by process 12, confirmed up to 0/16B3748, its WAL is reserved, 3.0 MiB kept"
    assert f"{lost or 'none'}" == "not in use, confirmed up to 0/16B3748, its WAL is lost"
