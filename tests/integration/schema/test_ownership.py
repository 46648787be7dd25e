"""Nobody gets code of his own run as the operator: the tables are the operator's, and what others left on them is refused by name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import psycopg
import pytest

from scripts.canary import readiness
from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.finish import abandon, finalize
from scripts.preflight import run as preflight
from scripts.replication import run as replicate
from scripts.schema import ownership
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.sides import Side
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.cloud import Cloud
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
        "the trigger become of public.tasks fires ALWAYS",
    ),
    "replica trigger": (
        "CREATE TRIGGER become AFTER INSERT OR UPDATE OR DELETE ON tasks EXECUTE FUNCTION attack.fire(); "
        "ALTER TABLE tasks ENABLE REPLICA TRIGGER become",
        "the trigger become of public.tasks fires on REPLICA",
    ),
    # By our trigger's own name: nothing is trusted for how it is called.
    "trigger of our name": (
        'CREATE TRIGGER "00_task_migration_capture" AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION attack.fire(); '
        'ALTER TABLE tasks ENABLE ALWAYS TRIGGER "00_task_migration_capture"',
        '"00_task_migration_capture" of public.tasks fires ALWAYS',
    ),
    "rule": (
        "CREATE RULE become AS ON UPDATE TO task_tag DO ALSO SELECT attack.gain()",
        "the rule become rewrites statements on public.task_tag",
    ),
    "event trigger": (
        "CREATE EVENT TRIGGER become_of_test ON ddl_command_end EXECUTE FUNCTION attack.on_ddl()",
        r"the event trigger become_of_test calls attack.on_ddl\(\) of",
    ),
    "check": ("ALTER TABLE tasks ADD CHECK (attack.ok(title)) NOT VALID", r"public.tasks calls attack.ok\(text\) of"),
    "default": (
        "ALTER TABLE tasks ALTER COLUMN span SET DEFAULT attack.number()",
        r"public.tasks calls attack.number\(\) of",
    ),
    "index": ("CREATE INDEX become ON tasks (attack.low(title))", r"public.tasks calls attack.low\(text\) of"),
    "operator of a check": (
        "ALTER TABLE tasks ADD CHECK (title OPERATOR(attack.===) title) NOT VALID",
        r"public.tasks calls attack.same\(text,text\) of",
    ),
    "check of a domain": (
        "ALTER TABLE tasks ADD COLUMN kind attack.word DEFAULT 'a'",
        r"public.tasks calls attack.ok\(text\) of",
    ),
    "cast of a type": (
        "ALTER TABLE tasks ADD COLUMN mood attack.mood DEFAULT 'sad'",
        r"public.tasks (uses the type attack.mood|calls attack.said\(attack.mood\)) of",
    ),
    "owner": ("ALTER TABLE task_images OWNER TO {attacker}", "the table public.task_images belongs to {attacker}"),
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


def owners(cast: Cast) -> set[str]:
    """Who owns the target's tables and their sequences."""
    rows = cast.admin("target").execute(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')"
    )
    return {row[0] for row in rows}


def as_the_former_version_left_it(cast: Cast) -> None:
    """The service owns the tables, and the operator is in its role to act on them."""
    admin = cast.admin("target")
    with cast.session("target", OPERATOR) as operator:
        operator.execute(f"GRANT {SERVICE} TO {OPERATOR}".encode())
    admin.execute(f"GRANT CREATE ON SCHEMA public TO {SERVICE}".encode())
    for name in cast.settings.config.tables:
        admin.execute(f"ALTER TABLE {name} OWNER TO {SERVICE}".encode())
    admin.execute(f"REVOKE CREATE ON SCHEMA public FROM {SERVICE}".encode())


def test_tables_of_a_former_version_are_taken_over_while_people_write(make_pair: MakePair) -> None:
    """Prevents an installation that stays open for good, rights that the service loses on the way, and requests that hang behind it."""
    cast = Cast(make_pair(rows=20))
    settings = cast.settings
    schema.apply(settings)
    copy.run(settings)
    replicate.start(settings)
    as_the_former_version_left_it(cast)
    with pytest.raises(Refused, match=f"the table public.tasks belongs to {SERVICE}"):
        replicate.start(settings)
    longest, stop = [0.0], threading.Event()

    def requests() -> None:
        with cast.session("target", SERVICE) as service:
            while not stop.wait(0.005):
                began = time.monotonic()
                service.execute("UPDATE tasks SET title = 'x' WHERE id = (SELECT min(id) FROM tasks)")
                longest[0] = max(longest[0], time.monotonic() - began)

    with cast.session("target", SERVICE) as long:
        long.execute("BEGIN")
        long.execute("UPDATE tasks SET title = 'long' WHERE id = (SELECT max(id) FROM tasks)")
        live = threading.Thread(target=requests)
        taker = threading.Thread(target=lambda: schema.apply(settings))
        live.start()
        taker.start()
        # It waits for the long transaction, again and again, and nobody else does for longer than one try.
        tries: set[datetime] = set()
        asking = "SELECT query_start FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = %s"

        def tried() -> int:
            tries.update(row[0] for row in cast.pair.target.execute(asking, (OPERATOR,)))
            return len(tries)

        wait_until(
            tried,
            lambda seen: seen >= 3,
            what="three tries of the takeover",
            timeout=30,
            interval=0.02,
        )
        assert owners(cast) == {OPERATOR, SERVICE}
        long.execute("COMMIT")
    taker.join(60)
    stop.set()
    live.join()
    assert owners(cast) == {OPERATOR}
    assert ownership.LOCK_MS == 300
    assert longest[0] < 1.0, longest
    with cast.session("target", OPERATOR) as operator:
        assert operator.execute("SELECT pg_has_role(%s, 'USAGE')", (SERVICE,)).fetchone() == (False,)
    with cast.session("target", SERVICE) as service:
        service.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'mine' FROM tasks")
    replicate.start(settings)
    assert verify.run(settings).match


def test_tables_that_laravel_made_are_named_with_the_sql_that_hands_them_over(make_pair: MakePair) -> None:
    """Prevents a copy into tables whose owner could put a trigger on them at any moment."""
    cast = Cast(make_pair(rows=20))
    settings, admin = cast.settings, cast.admin("target")
    schema.apply(settings)
    as_the_former_version_left_it(cast)
    with cast.session("target", OPERATOR) as operator:
        operator.execute(f"REVOKE {SERVICE} FROM {OPERATOR}".encode())
    for command in (schema.apply, copy.run):
        with pytest.raises(Refused, match=f"the table public.tasks belongs to {SERVICE}") as refused:
            command(settings)
    for statement in re.findall(r"BEGIN; .*?; COMMIT", str(refused.value)):
        admin.execute(statement.encode())
    assert owners(cast) == {OPERATOR}
    assert schema.apply(settings).match
    copy.run(settings)
    with (
        cast.session("target", SERVICE) as service,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
    ):
        service.execute("UPDATE tasks SET title = 'x'")


@pytest.mark.parametrize("hands_over", [False, True])
def test_finalize_hands_the_tables_over_when_told_to_and_ends_it_after_a_kill(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, hands_over: bool
) -> None:
    """Prevents a service that owns its tables while the operator still writes to them, half a handing over, a right that stays lent."""
    pair = make_pair(rows=20)
    pair.config(handOverOwnership=hands_over)
    cast = Cast(pair)
    settings = cast.settings
    schema.apply(settings)
    copy.run(settings)
    replicate.start(settings)
    if hands_over:
        given, real = [0], ownership.giving

        def killed(*arguments: object) -> object:
            given[0] += 1
            if given[0] == 3:
                raise KeyboardInterrupt
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ownership, "giving", killed)
        with pytest.raises(KeyboardInterrupt):
            finalize.run(settings)
        monkeypatch.undo()
        assert owners(cast) == {OPERATOR, SERVICE}
    done = finalize.run(settings)
    assert len(done.handed_over) == (len(settings.config.tables) - 2 if hands_over else 0)
    assert owners(cast) == {SERVICE if hands_over else OPERATOR}
    assert finalize.run(settings).handed_over == []
    admin = cast.admin("target")
    assert admin.execute("SELECT has_schema_privilege(%s, 'public', 'CREATE')", (SERVICE,)).fetchone() == (False,)
    assert admin.execute("SELECT pg_has_role(%s, %s, 'USAGE')", (OPERATOR, SERVICE)).fetchone() == (False,)
    with cast.session("target", SERVICE) as service:
        service.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'mine' FROM tasks")
        service.execute("DELETE FROM tasks WHERE title = 'mine'")
        if hands_over:
            service.execute("ALTER TABLE tasks ADD COLUMN mine int")


#: What is done to what is ours, as whoever could, and how it is told.
CHANGED = (
    (
        "CREATE OR REPLACE FUNCTION task_migration.arrive() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END'",
        r"the function task_migration.arrive\(\) is not as it was made",
    ),
    (
        "ALTER FUNCTION task_migration.arrived() RESET search_path",
        r"the function task_migration.arrived\(\) is not as it was made",
    ),
    ("ALTER FUNCTION task_migration.arrived() SECURITY INVOKER", r"task_migration.arrived\(\) is not as it was made"),
    (
        "ALTER TABLE task_migration.{peer} DISABLE TRIGGER task_migration_arrive",
        "the trigger task_migration_arrive of {peer} is switched off",
    ),
    ("DROP TRIGGER task_migration_arrived ON task_migration.{peer}", "task_migration_arrived of {peer} is gone"),
    ("DROP FUNCTION task_migration.no_truncate() CASCADE", r"task_migration.no_truncate\(\) is gone"),
    (
        "CREATE FUNCTION task_migration.one_more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        r"task_migration.one_more\(\) is none of ours",
    ),
)


@pytest.mark.parametrize("side", ATTACKERS)
def test_our_own_functions_and_triggers_are_watched(make_pair: MakePair, side: Side) -> None:
    """Prevents a rule that was replaced, and is found by nobody: status, readiness and `verify` compare them with what was made."""
    cast = Cast(make_pair(rows=20))
    settings, admin = cast.settings, cast.admin(side)
    schema.apply(settings)
    copy.run(settings)
    replicate.start(settings)
    assert verify.run(settings).match
    peer = "target_writes" if side == "source" else "source_writes"
    cloud = Cloud(weight=5)
    for statement, words in CHANGED:
        admin.execute(statement.replace("{peer}", peer).encode())
        words = words.replace("{peer}", peer)
        found = {one.what: one.detail for one in replicate.status(settings, 1.0).findings if one.status == "fail"}
        assert re.search(words, found[f"{side}: triggers"]), (statement, found)
        seen = verify.run(settings, fence_timeout=1.0) if "arriv" not in statement else None
        assert seen is None or (
            not seen.match and any(re.search(f"{side}: .*{words}", text) for text in seen.recording)
        )
        if statement == CHANGED[-1][0]:
            ready = readiness.observe(Stage(settings, cloud, cloud, None, cloud, metrics=cloud))  # type: ignore[arg-type]
            assert any(re.search(words, text) for text in ready.failing)
            admin.execute("DROP FUNCTION task_migration.one_more()")
        replicate.start(settings)
    assert verify.run(settings, repair="newest").match
    assert replicate.status(settings).status != "fail"


def test_policies_of_others_are_never_asked(make_pair: MakePair) -> None:
    """Prevents a policy's function that runs as the operator, who only looks at a row: of a table that moves, or one that stays."""
    cast = Cast(make_pair(rows=20))
    settings, source = cast.settings, cast.admin("source")
    schema.apply(settings)
    arm(cast, "source")
    copy.run(settings)
    replicate.start(settings)
    source.execute("CREATE POLICY become ON users USING (attack.ok(name))")
    source.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    cast.admin("target").execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'x' FROM tasks")
    # What arrives holds the user's row; without a policy's answer it says so instead, and goes on when it may.
    with pytest.raises(TimedOut, match="not through"):
        replicate.wait(settings, 3)
    told = [
        one
        for one in preflight.run(settings, wal_seconds=0.0).checks
        if one.name == "source: hold rows of public.users"
    ]
    assert [(one.status, "BYPASSRLS" in one.remedy) for one in told] == [("fail", True)]
    assert gained(cast) == []
    source.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    replicate.wait(settings, 60)
    source.execute("CREATE POLICY become ON tasks USING (attack.ok(title))")
    source.execute("ALTER TABLE tasks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    with pytest.raises(MigrationError, match="row-level security policy"):
        verify.run(settings)
    assert gained(cast) == []


def test_a_view_in_the_place_of_a_table_that_stays_is_not_read(make_pair: MakePair) -> None:
    """Prevents the owner of a table that rows refer to, who puts a view there, from having its functions run as the operator."""
    cast = Cast(make_pair(rows=20))
    settings, source = cast.settings, cast.admin("source")
    source.execute(f"ALTER TABLE users OWNER TO {MONOLITH}; GRANT CREATE ON SCHEMA public TO {MONOLITH}".encode())
    schema.apply(settings)
    copy.run(settings)
    replicate.start(settings)
    arm(cast, "source")
    with cast.session("source", MONOLITH) as monolith:
        monolith.execute("ALTER TABLE users RENAME TO people")
        monolith.execute("CREATE VIEW users AS SELECT * FROM people WHERE attack.ok(name)")
        monolith.execute(f"GRANT SELECT, UPDATE ON users TO {OPERATOR}".encode())
        cast.admin("target").execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'x' FROM tasks")
        with pytest.raises(TimedOut, match="not through"):
            replicate.wait(settings, 3)
        preflight.run(settings, wal_seconds=0.0)
        with suppress(MigrationError):
            verify.run(settings, fence_timeout=1.0)
        assert gained(cast) == []
        monolith.execute("DROP VIEW users")
        monolith.execute("ALTER TABLE people RENAME TO users")
    replicate.wait(settings, 60)
    assert verify.run(settings).match


def test_a_function_that_an_index_of_the_source_names_is_looked_up_on_the_target(make_pair: MakePair) -> None:
    """Prevents a service whose function has the name that an index of the source calls: `copy` makes that index on the target."""
    cast = Cast(make_pair(rows=20))
    settings = cast.settings
    for side in ATTACKERS:
        arm(cast, side)
    source = cast.admin("source")
    source.execute(f"ALTER FUNCTION attack.low(text) OWNER TO {OPERATOR}".encode())
    source.execute(f"ALTER FUNCTION attack.same(text, text) OWNER TO {OPERATOR}".encode())
    source.execute(
        "CREATE OR REPLACE FUNCTION attack.low(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)'"
    )
    source.execute("CREATE INDEX lower_titles ON tasks (attack.low(title))")
    schema.apply(settings)
    words = rf"attack.low\(text\) of {SERVICE}, which an index or a key of the source calls"
    with pytest.raises(Refused, match=words):
        copy.run(settings)
    told = {one.name: one for one in preflight.run(settings, wal_seconds=0.0).checks}[
        "target: functions that `copy` calls"
    ]
    assert (told.status, bool(re.search(words, told.detail))) == ("fail", True)
    target = cast.admin("target")
    target.execute(f"ALTER FUNCTION attack.low(text) OWNER TO {OPERATOR}".encode())
    target.execute(
        "CREATE OR REPLACE FUNCTION attack.low(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)'"
    )
    assert copy.run(settings).status == "complete"
    assert gained(cast) == []
