"""Nobody gets code of his own run as the operator: the tables are the operator's, and what others left on them is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.finish import abandon, finalize
from scripts.preflight import run as preflight
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.support.sides import Side
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.roles import MONOLITH, OPERATOR, SERVICE, Cast

MakePair = Callable[..., Pair]
#: By side, the role that attacks: it owns `attack`, and a function there that does what only the operator may.
ATTACKERS: dict[Side, str] = {"source": MONOLITH, "target": SERVICE}
GAIN = "GRANT SELECT ON task_migration.settings TO PUBLIC"
#: What an attacker has left, by name: SQL, the words by which it is refused. The admin carries it out, as whoever it was that could.
LEFT = {
    "trigger": (
        "CREATE TRIGGER become AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tasks EXECUTE FUNCTION attack.fire(); "
        "ALTER TABLE tasks ENABLE ALWAYS TRIGGER become",
        "the trigger become of tasks fires ALWAYS",
    ),
    "replica trigger": (
        "CREATE TRIGGER become AFTER INSERT OR UPDATE OR DELETE ON tasks EXECUTE FUNCTION attack.fire(); "
        "ALTER TABLE tasks ENABLE REPLICA TRIGGER become",
        "the trigger become of tasks fires on REPLICA",
    ),
    # By our trigger's own name: nothing is trusted for how it is called.
    "trigger of our name": (
        'CREATE TRIGGER "00_task_migration_capture" AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION attack.fire(); '
        'ALTER TABLE tasks ENABLE ALWAYS TRIGGER "00_task_migration_capture"',
        '"00_task_migration_capture" of tasks fires ALWAYS',
    ),
    "rule": (
        "CREATE RULE become AS ON UPDATE TO task_tag DO ALSO SELECT attack.gain()",
        "the rule become rewrites statements on task_tag",
    ),
    "event trigger": (
        "CREATE EVENT TRIGGER become_of_test ON ddl_command_end EXECUTE FUNCTION attack.on_ddl()",
        r"the event trigger become_of_test calls attack.on_ddl\(\) of",
    ),
    "check": ("ALTER TABLE tasks ADD CHECK (attack.ok(title)) NOT VALID", r"tasks calls attack.ok\(text\) of"),
    "default": (
        "ALTER TABLE tasks ALTER COLUMN span SET DEFAULT attack.number()",
        r"tasks calls attack.number\(\) of",
    ),
    "index": ("CREATE INDEX become ON tasks (attack.low(title))", r"tasks calls attack.low\(text\) of"),
    "operator of a check": (
        "ALTER TABLE tasks ADD CHECK (title OPERATOR(attack.===) title) NOT VALID",
        r"tasks calls attack.same\(text,text\) of",
    ),
    "check of a domain": (
        "ALTER TABLE tasks ADD COLUMN kind attack.word DEFAULT 'a'",
        r"tasks calls attack.ok\(text\) of",
    ),
    "cast of a type": (
        "ALTER TABLE tasks ADD COLUMN mood attack.mood DEFAULT 'sad'",
        r"tasks (uses the type attack.mood|calls attack.said\(attack.mood\)) of",
    ),
    "owner": ("ALTER TABLE task_images OWNER TO {attacker}", "the table task_images belongs to {attacker}"),
    "schema": ("ALTER SCHEMA public OWNER TO {attacker}", "the schema public belongs to {attacker}"),
}
ARSENAL = (
    "CREATE SCHEMA attack AUTHORIZATION {attacker}",
    "GRANT USAGE ON SCHEMA attack TO PUBLIC",
    "SET ROLE {attacker}",
    "SET search_path = pg_catalog",
    "CREATE FUNCTION attack.gain() RETURNS int LANGUAGE plpgsql AS $f$BEGIN " + GAIN + "; RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 1; END$f$",
    "CREATE FUNCTION attack.fire() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN PERFORM attack.gain(); RETURN NULL; END$f$",
    "CREATE FUNCTION attack.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $f$BEGIN IF tg_tag <> 'GRANT' THEN PERFORM attack.gain(); END IF; END$f$",
    "CREATE FUNCTION attack.ok(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN PERFORM attack.gain(); RETURN true; END$f$",
    "CREATE FUNCTION attack.same(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN PERFORM attack.gain(); RETURN true; END$f$",
    "CREATE OPERATOR attack.=== (FUNCTION = attack.same, LEFTARG = text, RIGHTARG = text)",
    "CREATE FUNCTION attack.low(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN PERFORM attack.gain(); RETURN lower($1); END$f$",
    "CREATE FUNCTION attack.number() RETURNS int LANGUAGE plpgsql AS $f$BEGIN RETURN attack.gain(); END$f$",
    "CREATE DOMAIN attack.word AS text CHECK (attack.ok(VALUE))",
    "CREATE TYPE attack.mood AS ENUM ('sad', 'happy')",
    "CREATE FUNCTION attack.said(attack.mood) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN PERFORM attack.gain(); RETURN 'sad'; END$f$",
    "CREATE CAST (attack.mood AS text) WITH FUNCTION attack.said(attack.mood)",
    "RESET ROLE",
    "RESET search_path",
)  # fmt: skip


def arm(cast: Cast, side: Side) -> None:
    """Give the side's attacker a schema with what attacks; nobody has been hurt yet."""
    for statement in ARSENAL:
        cast.admin(side).execute(statement.format(attacker=ATTACKERS[side]).encode())


def gained(cast: Cast) -> list[str]:
    """The sides on which PUBLIC got what the operator alone can give."""
    return [
        side
        for side in ATTACKERS
        if cast.admin(side)
        .execute(
            "SELECT 1 FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = to_regclass('task_migration.settings') AND a.grantee = 0"
        )
        .fetchone()
    ]


def test_the_services_own_trigger_never_comes_to_be(make_pair: MakePair) -> None:
    """Prevents a service that becomes the operator by an ENABLE ALWAYS trigger, with no other right than `schema apply` gives."""
    cast = Cast(make_pair(rows=20))
    schema.apply(cast.settings)
    attack = (
        f"CREATE FUNCTION pg_temp.become() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {GAIN}; RETURN NULL; END$$",
        "CREATE TRIGGER become AFTER INSERT OR UPDATE OR DELETE ON tasks EXECUTE FUNCTION pg_temp.become()",
        "ALTER TABLE tasks ENABLE ALWAYS TRIGGER become",
    )
    with cast.session("target", SERVICE) as service:
        for statement in attack:
            with suppress(psycopg.errors.InsufficientPrivilege):
                service.execute(statement)
        copy.run(cast.settings)
        replicate.start(cast.settings)
        cast.admin("target").execute("UPDATE tasks SET title = 'x' WHERE id = (SELECT min(id) FROM tasks)")
        assert verify.run(cast.settings, repair="source").match
        # Now it may write rows, and that is all.
        service.execute("UPDATE tasks SET title = 'y' WHERE id = (SELECT max(id) FROM tasks)")
        for refused in (
            *attack[1:],
            "CREATE RULE r AS ON UPDATE TO tasks DO ALSO SELECT 1",
            "ALTER TABLE tasks ADD CHECK (true)",
            "TRUNCATE task_images",
            "SELECT setval('tasks_id_seq', 1)",
            "CREATE TEMP TABLE mine (task_id bigint REFERENCES tasks)",
        ):
            with pytest.raises(psycopg.errors.Error, match="must be owner|permission denied|temporary tables"):
                service.execute(refused)
    assert gained(cast) == []


@pytest.mark.parametrize("side", ATTACKERS)
def test_what_others_left_is_refused_by_name_before_any_write(make_pair: MakePair, side: Side) -> None:
    """Prevents code of the monolith's or the service's that runs as the operator, from a time when the tables were theirs."""
    cast = Cast(make_pair(rows=20))
    schema.apply(cast.settings)
    arm(cast, side)
    settings = cast.settings
    with pytest.raises(Refused, match="no complete copy"):
        replicate.start(settings)
    before = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    _each_is_refused(cast, side, [lambda: copy.run(settings)], tuple(LEFT))
    if side == "target":
        _each_is_refused(cast, side, [lambda: schema.apply(settings)], ("trigger", "event trigger", "schema"))
    assert cast.admin("source").execute(before).fetchone() == (0,)
    copy.run(settings)
    few = ("trigger", "rule", "event trigger", "check")
    _each_is_refused(cast, side, [lambda: replicate.start(settings)], few)
    assert cast.admin("target").execute(before).fetchone() == (0,)
    replicate.start(settings)
    _each_is_refused(
        cast,
        side,
        [
            lambda: verify.run(settings, repair="newest"),
            lambda: replicate.start(settings),
            lambda: finalize.run(settings),
            lambda: abandon.run(settings),
            lambda: abandon.start_over(settings, "copy", 0),
        ],
        few,
    )
    assert verify.run(settings).match
    assert gained(cast) == []


def _each_is_refused(cast: Cast, side: Side, commands: list[Callable[[], object]], kinds: tuple[str, ...]) -> None:
    """Leave each thing, run each command, and take it back."""
    admin, attacker = cast.admin(side), ATTACKERS[side]
    for kind in kinds:
        statement, words = (text.replace("{attacker}", attacker) for text in LEFT[kind])
        admin.execute(statement.encode())
        for command in commands:
            with pytest.raises(Refused, match=words):
                command()
        # `preflight` runs what is in indexes, to see whether it works.
        told = " ".join(
            one.detail for one in preflight.run(cast.settings, wal_seconds=0.0).checks if one.status == "fail"
        )
        assert re.search(words, told) or (kind, side) == ("owner", "target"), (kind, told)
        assert gained(cast) == [], kind
        admin.execute(_undo(kind).encode())


def _undo(kind: str) -> str:
    return {
        "trigger": "DROP TRIGGER become ON tasks",
        "replica trigger": "DROP TRIGGER become ON tasks",
        "trigger of our name": 'DROP TRIGGER "00_task_migration_capture" ON tasks',
        "rule": "DROP RULE become ON task_tag",
        "event trigger": "DROP EVENT TRIGGER become_of_test",
        "check": "ALTER TABLE tasks DROP CONSTRAINT tasks_title_check",
        "default": "ALTER TABLE tasks ALTER COLUMN span DROP DEFAULT",
        "index": "DROP INDEX become",
        "operator of a check": "ALTER TABLE tasks DROP CONSTRAINT tasks_title_check",
        "check of a domain": "ALTER TABLE tasks DROP COLUMN kind",
        "cast of a type": "ALTER TABLE tasks DROP COLUMN mood",
        "owner": f"ALTER TABLE task_images OWNER TO {OPERATOR}",
        "schema": "ALTER SCHEMA public OWNER TO pg_database_owner",
    }[kind]
