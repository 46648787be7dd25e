"""The plan, carried out by an operator who has what the runbook's table gives, and no more."""

from __future__ import annotations

from scripts.copy import run as copy
from scripts.finish import finalize
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from tests.integration.roles import MONOLITH, OPERATOR, SERVICE, Cast
from tests.integration.test_chain import MakePair


def test_the_documented_rights_are_enough(make_pair: MakePair) -> None:
    """Prevents a right that is missed at night, and tests of attacks on an operator who could do anything."""
    cast = Cast(make_pair(rows=60))
    settings = cast.settings
    for side in BOTH:
        row = cast.admin(side).execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (OPERATOR,))
        assert row.fetchone() == (False,)
    assert schema.apply(settings).match
    copy.run(settings)
    replicate.start(settings)
    writers: dict[Side, str] = {"source": MONOLITH, "target": SERVICE}
    for side, role in writers.items():
        with cast.session(side, role) as session:
            session.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), %s FROM tasks", (role,))
    replicate.wait(settings)
    assert verify.run(settings).match
    assert finalize.run(settings).status == "finalized"
