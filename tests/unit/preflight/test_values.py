"""How large a row may be: what a record of writes can hold, and what each engine carries."""

from __future__ import annotations

from typing import Literal

import pytest

from components.config import MigrationConfig
from scripts.preflight.server import least_version
from scripts.preflight.values import FIELD_BYTES, JSONB_BYTES, LARGE_ROW_BYTES, Measured, judge
from scripts.support.settings import Settings
from scripts.support.sides import BOTH

ENGINES: tuple[Literal["dms", "native"], ...] = ("dms", "native")
LIMIT = "the limit is 268435455 bytes as JSON text, which is jsonb's"


@pytest.mark.parametrize(
    ("size", "status", "detail"),
    [
        (LARGE_ROW_BYTES, "pass", "the limit is 16777216 bytes; rows 16777216 bytes"),
        (LARGE_ROW_BYTES + 1, "warn", "rows (16777217 bytes), the limit is 16777216 bytes"),
        (JSONB_BYTES, "warn", "rows (268435455 bytes), the limit is 16777216 bytes"),
        (JSONB_BYTES + 1, "fail", f"rows (268435456 bytes), {LIMIT}"),
        (FIELD_BYTES + 1, "fail", f"rows (more than 1073741823 bytes), {LIMIT}"),
    ],
)
def test_a_row_that_jsonb_cannot_take_is_a_failure(size: int, status: str, detail: str) -> None:
    """Prevents a worker that stops at the first write of such a row, or a live write that is refused, weeks after preflight passed."""
    native = Settings(MigrationConfig(replication_engine="native"), None, None, None, "nowhere")
    *_, check = judge(native, [Measured("rows", size)])
    assert (check.name, check.status, check.detail) == ("source: largest rows", status, detail)


def test_the_least_version_is_the_engines() -> None:
    """Prevents a plan that ends at a server which PostgreSQL's own subscriptions need newer, or one that DMS would take refused."""
    engines = {
        name: Settings(MigrationConfig(replication_engine=name), None, None, None, "nowhere") for name in ENGINES
    }
    found = {(name, side): least_version(engines[name], side) for name in ENGINES for side in BOTH}
    assert found == {("dms", "source"): 14, ("dms", "target"): 16, ("native", "source"): 16, ("native", "target"): 16}
