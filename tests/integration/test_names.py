"""What others make in a database is never called by name: every command looks names up in pg_catalog alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from scripts.backup import run as backup
from scripts.canary import readiness, rollback, status
from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.finish import abandon, finalize
from scripts.preflight import run as preflight
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from tests.cloud import Cloud
from tests.integration.roles import MONOLITH, OPERATOR, PASSWORDS, SERVICE, Cast
from tests.integration.test_chain import MakePair

APPLICATIONS: dict[Side, str] = {"source": MONOLITH, "target": SERVICE}
PINNED = {"options": "-c search_path=pg_catalog,pg_temp"}
#: What a role that may make objects in `public` puts there: beside each function of pg_catalog that our SQL names, those that fit our
#: arguments better (`name` for `text`), and beside each operator those for pairs of types that pg_catalog casts for. Who calls one
#: leaves a trace that no rollback takes away.
PLANTS = r"""
CREATE SEQUENCE public.called;
GRANT USAGE, SELECT ON SEQUENCE public.called TO PUBLIC;
CREATE TYPE public.lure AS ENUM ('a');
CREATE FUNCTION public.lured(public.lure) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.called'::pg_catalog.regclass); RETURN 'a'; END $$;
CREATE CAST (public.lure AS text) WITH FUNCTION public.lured(public.lure) AS IMPLICIT;
DO $do$
DECLARE
    body constant text := ' LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.nextval(''public.called''::pg_catalog.regclass); RETURN NULL; END $$';
    types constant text[] := ARRAY['name', 'text', 'varchar', '"char"', 'oid', 'regclass', 'int2', 'int4', 'int8', 'jsonb', 'xid', 'numeric'];
    f record; l text; r text; o text; v text;
BEGIN
    FOR f IN SELECT DISTINCT p.proname, replace(oidvectortypes(p.proargtypes), 'VARIADIC ', '') AS args FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs BETWEEN 1 AND 3
             AND p.proname = ANY(%(names)s) LOOP
        FOREACH v IN ARRAY ARRAY['name', 'varchar', 'oid'] LOOP
            BEGIN
                EXECUTE format('CREATE FUNCTION public.%%I(%%s) RETURNS text', f.proname,
                    regexp_replace(f.args, '\m(text|"any"|anyelement|bigint|regclass)\M', v, 'g')) || body;
            EXCEPTION WHEN others THEN NULL;
            END;
        END LOOP;
    END LOOP;
    FOREACH l IN ARRAY types LOOP
        FOREACH r IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION public.planted(%%s, %%s) RETURNS boolean', l, r) || body;
            FOREACH o IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '->>', '~', '+', '-'] LOOP
                BEGIN
                    EXECUTE format('CREATE OPERATOR public.%%s (LEFTARG = %%s, RIGHTARG = %%s, FUNCTION = public.planted)', o, l, r);
                EXCEPTION WHEN others THEN NULL;
                END;
            END LOOP;
        END LOOP;
    END LOOP;
END
$do$
"""


def commands(cast: Cast, directory: Path) -> Iterator[str]:
    """Every command that speaks to a database, as the operator, in the order of a night with a way back; then once more to its end."""
    settings = cast.settings

    def written(text: str) -> None:
        for side, role in APPLICATIONS.items():
            with cast.session(side, role, **PINNED) as session:
                session.execute(
                    "INSERT INTO public.tasks (user_id, title) SELECT min(user_id), %s FROM public.tasks", (text,)
                )

    preflight.run(settings, wal_seconds=0.2)
    yield "preflight"
    backup.run(settings, str(directory / "backup"))
    yield "backup"
    schema.apply(settings, role_password=SecretStr(PASSWORDS[SERVICE]))
    assert schema.diff(settings).match
    yield "schema"
    copy.run(settings)
    yield "copy"
    replicate.start(settings)
    yield "replicate start"
    written("both ways")
    replicate.wait(settings)
    replicate.status(settings)
    yield "replicate status"
    with cast.admin("target").transaction():
        cast.admin("target").execute("SET LOCAL session_replication_role = replica")
        cast.admin("target").execute("SET LOCAL task_migration.applying = 'on'")
        cast.admin("target").execute("UPDATE public.tasks SET title = 'unrecorded' WHERE id = 1")
    assert verify.run(settings, repair="source").match
    yield "verify"
    cloud = Cloud(weight=25)
    stage = Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]
    readiness.observe(stage)
    status.status(stage)
    yield "canary"
    assert rollback.run(stage).rows.proven
    yield "rollback"
    replicate.stop(settings)
    abandon.run(settings)
    abandon.start_over(settings, "copy", 0, "copied anew", force=True)
    yield "rollback --abandon"
    copy.run(settings)
    replicate.start(settings)
    assert finalize.run(settings).status == "finalized"
    yield "finalize"


def _named() -> list[str]:
    """Functions that our SQL names, wherever it stands."""
    texts = [path.read_text() for path in Path("scripts").rglob("*") if path.suffix in (".py", ".sql")]
    return sorted({name for text in texts for name in re.findall(r"\b([a-z][a-z0-9_]+)\(", text)})


def test_nothing_that_others_made_is_called(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a function, operator or cast of a served role that runs with the operator's rights because it fits better."""
    cast = Cast(make_pair(rows=40))
    for side, role in APPLICATIONS.items():
        admin = cast.admin(side)
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
        with cast.session(side, role, **PINNED) as session:
            session.execute(psycopg.ClientCursor(session).mogrify(PLANTS, {"names": _named()}).encode())
        admin.execute("SET search_path = pg_catalog, pg_temp")

    def called(side: Side) -> tuple[int, bool]:
        row = cast.admin(side).execute("SELECT last_value, is_called FROM public.called").fetchone()
        assert row is not None
        return int(row[0]), bool(row[1])

    for step in commands(cast, tmp_path):
        for side in BOTH:
            assert called(side) == (1, False), (step, side)
    for side in BOTH:
        # They would be: by any session that looks into `public`.
        with cast.session(side, OPERATOR) as session:
            session.execute("SELECT quote_ident(current_user)")
        assert called(side) == (1, True)


def test_every_session_is_pinned(make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a way of connecting that leaves the path to a role's or a database's setting, or to what the URL says."""
    cast = Cast(make_pair(rows=40))
    for side in BOTH:
        admin = cast.admin(side)
        admin.execute(f"ALTER ROLE {OPERATOR} SET search_path = public".encode())
    seen: dict[str, set[str]] = defaultdict(set)
    real = psycopg.connect

    def connect(conninfo: str = "", **kwargs: Any) -> psycopg.Connection[Any]:
        connection = real(conninfo, **kwargs)
        replication = bool(connection.info.get_parameters().get("replication"))
        row = connection.execute("SHOW search_path").fetchone()
        assert row is not None
        seen[
            connection.info.get_parameters().get("application_name", "") + (" (replication)" if replication else "")
        ].add(row[0])
        if not connection.autocommit:
            connection.rollback()
        return connection

    monkeypatch.setattr(psycopg, "connect", connect)
    for _ in commands(cast, tmp_path):
        pass
    for side in BOTH:
        cast.admin(side).execute(f"ALTER ROLE {OPERATOR} RESET search_path".encode())
    ours = {name: paths for name, paths in seen.items() if name.startswith("task-migration ")}
    assert ours == {name: {"pg_catalog,pg_temp"} for name in ours}
    steps = {"abandon", "arrival", "backup", "compare", "copy", "copy read", "copy write", "fence", "finalize", "lock"}
    steps |= {
        "preflight",
        "preflight (replication)",
        "probe",
        "prune",
        "remove",
        "repair",
        "replicate",
        "role",
        "rollback",
    }
    steps |= {"schema", "slot (replication)", "status", "verify"}
    assert {f"task-migration {step}" for step in steps} <= set(ours)


def test_no_other_way_to_connect() -> None:
    """Prevents a session of the product that nobody pinned; the rehearsal's applications are not the product."""
    found = [
        str(path)
        for path in Path("scripts").rglob("*.py")
        if re.search(r"psycopg\.(?:Async)?(?:connect|Connection\.connect|AsyncConnection\.connect)\(", path.read_text())
    ]
    assert [path for path in found if not path.startswith("scripts/rehearsal/")] == ["scripts/database/connections.py"]
