"""The worlds that the cases happen in, made once each for the module, and the entry point run within this process."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from scripts import __main__ as command_line
from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.sides import BOTH
from tests.conftest import AWKWARD_PASSWORD, pairs
from tests.integration.errors.case import Given, State
from tests.integration.roles import PASSWORDS, Cast

#: What no output may have, in any form.
SECRETS = (AWKWARD_PASSWORD, *PASSWORDS.values(), "Hidden-pw1", "hidden.token.text", "Smoke-Value-0123456789abcd")
#: Variables that lead a command anywhere; each case gives its own.
_LEADING = ("PULUMI", "TASK_", "SOURCE_", "TARGET_", "RESTORE_", "SCRATCH_", "AWS_", "PG", "GITHUB_")
#: What AWS refuses with.
CODES = {
    "ExpiredToken": 400,
    "ExpiredTokenException": 400,
    "InvalidAccessKeyId": 403,
    "UnrecognizedClientException": 400,
    "AccessDenied": 403,
    "AccessDeniedException": 400,
    "NoSuchBucket": 404,
    "InvalidBucketName": 400,
    "PermanentRedirect": 301,
    "ResourceNotFoundException": 400,
}
NOWHERE = "postgresql://app:Hidden-pw1@127.0.0.1:1/tasks"
#: Of the six, as each table more is the same again.
TABLES = ("tasks", "task_tag")
_STATE = """
SELECT json_build_object(
    'relations', (SELECT array_agg(oid::text || relname || relkind::text ORDER BY oid) FROM pg_class WHERE oid >= 16384 AND relkind <> 't'),
    'triggers', (SELECT array_agg(tgname || tgenabled::text ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal),
    'publications', (SELECT array_agg(pubname) FROM pg_publication),
    'subscriptions', (SELECT array_agg(subname || subenabled::text) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
    'slots', (SELECT array_agg(slot_name) FROM pg_replication_slots WHERE database = current_database()))
"""


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str
    messages: int
    seconds: float


class World:
    """The databases of one state, and the values that cases name."""

    def __init__(self, state: State, cast: Cast | None, aws: str) -> None:
        self.state, self.cast, self.aws = state, cast, aws

    @cached_property
    def config(self) -> dict[str, Any]:
        """The stack's file of this world."""
        if self.cast is None:
            return {"replicationEngine": "native"}
        config = self.cast.settings.config
        keys = (
            "replicationEngine",
            "subscription",
            "publication",
            "replicationRole",
            "passwordReaders",
            "requireShadow",
        )
        whole = config.model_dump(by_alias=True, mode="json")
        return {"tables": list(TABLES), **{key: whole[key] for key in keys}}

    def values(self, directory: Path) -> dict[str, str]:
        """What stands for ``{name}``."""
        found = {"dir": str(directory), "source": NOWHERE, "target": NOWHERE, "aws": self.aws}
        if self.cast is not None:
            config = self.cast.settings.config
            found |= {
                "source": self.cast.settings.source(),
                "target": self.cast.settings.target(),
                "monolith": self.cast.url("source", "myteacher_app_user"),
                "port": str(self.cast.pair.source_server.port),
                "database": self.cast.pair.source.info.dbname,
                "identifier": '"' + self.cast.pair.source.info.dbname.replace('"', '""') + '"',
                "quoted": quote(self.cast.pair.source.info.dbname, safe=""),
                "slot": config.subscription,
                "publication": config.publication,
                "role": config.replication_role,
            }
        return found

    def environment(self, directory: Path) -> dict[str, str]:
        """As an operator's shell has it, without credentials of AWS."""
        keys = "\n".join(f"  task-migration:{key}: {json.dumps(value)}" for key, value in self.config.items())
        (directory / "Pulumi.errors.yaml").write_text(f"config:\n{keys}\n")
        values = self.values(directory)
        return {
            "PULUMI_STACK": "errors",
            "SOURCE_DATABASE_URL": values["source"],
            "TARGET_DATABASE_URL": values["target"],
            "TASK_MIGRATION_STATE_DIR": str(directory / "state"),
            "HOME": str(directory / "home"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def execute(self, text: str, directory: Path) -> None:
        """``side: statement`` by a superuser."""
        assert self.cast is not None
        side, _, statement = text.partition(": ")
        assert side in BOTH
        self.cast.admin(side).execute(_filled(statement, self.values(directory)).encode())

    def seen(self) -> dict[str, Any]:
        """What stands in both databases, without rows' contents."""
        if self.cast is None:
            return {}
        found: dict[str, Any] = {}
        for side in BOTH:
            admin = self.cast.admin(side)
            found[side] = admin.execute(_STATE.encode()).fetchone()
            for table in TABLES:
                if admin.execute("SELECT to_regclass(%s)", (f"public.{table}",)).fetchone() != (None,):
                    found[f"{side} {table}"] = admin.execute(f"SELECT count(*) FROM public.{table}".encode()).fetchone()
        return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


class Shell:
    """One case's directory and variables, in which command lines run as the entry point runs them."""

    def __init__(
        self, world: World, directory: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.world, self.directory, self.patch, self.capture = world, directory, patch, capture
        (directory / "home").mkdir()
        for name in [name for name in os.environ if name.startswith(_LEADING)]:
            patch.delenv(name)
        for name, value in world.environment(directory).items():
            patch.setenv(name, value)
        patch.chdir(directory)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of the command before
        self.messages = 0
        real = command_line._say

        def counted(message: str, style: str) -> None:
            self.messages += 1
            real(message, style)

        patch.setattr(command_line, "_say", counted)

    def give(self, given: Given) -> None:
        """Files, variables, statements and commands that come before."""
        values = self.world.values(self.directory)
        for name, text in given.files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink(missing_ok=True)
                path.mkdir(exist_ok=True)
            elif isinstance(text, bytes):
                path.write_bytes(text)
            else:
                if path.is_dir():
                    path.rmdir()
                path.write_text(_filled(text, values))
                path.chmod(0o755 if text.startswith("#!") else 0o600)
        for name, value in given.env.items():
            if value is None:
                self.patch.delenv(name, raising=False)
            else:
                self.patch.setenv(name, _filled(value, values))
        for text in given.sql:
            self.world.execute(text, self.directory)
        for line in given.commands:
            ended = self.run(line)
            assert ended.status == 0, (line, ended)

    def filled(self, text: str) -> str:
        """With this world's values."""
        return _filled(text, self.world.values(self.directory))

    def run(self, line: str) -> Ended:
        """One command line. What is no exit, such as a traceback, is raised here."""
        words = shlex.split(self.filled(line))
        self.patch.setattr(sys, "argv", ["task-migration", *words])
        self.capture.readouterr()
        self.messages, begun = 0, time.monotonic()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        captured = self.capture.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err, self.messages, time.monotonic() - begun)

    def kept(self) -> str:
        """Everything in the state directory."""
        files = (self.directory / "state").rglob("*") if (self.directory / "state").is_dir() else ()
        return "".join(file.read_text(errors="replace") for file in files if file.is_file())


class _Refusing(BaseHTTPRequestHandler):
    """AWS as it refuses (Amazon S3, 'Error responses'; AWS JSON protocol): the bucket, or the secret's name, says with which code."""

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        secret = re.search(r"secret:([A-Za-z]+)", asked)
        code = secret[1] if secret else self.path.strip("/").split("/")[0].split("?")[0].replace("-", "")
        code = {one.lower(): one for one in CODES}.get(code.lower(), code)
        status = CODES.get(code, 400)
        xml = f"<Error><Code>{code}</Code><Message>said by AWS</Message><Region>us-west-2</Region></Error>"
        body = json.dumps({"__type": code, "message": "said by AWS"}) if secret else xml
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_PUT = do_POST = do_HEAD = _answer

    def log_message(self, format: str, *_: object) -> None:
        """Nothing."""


@contextmanager
def closing_server(server: ThreadingHTTPServer) -> Iterator[None]:
    """End it with the block."""
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def worlds(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[State, World]]:
    """Each state's world, made when the first case asks for it."""
    directory = tmp_path_factory.mktemp("worlds")
    refusing = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    Thread(target=refusing.serve_forever, daemon=True).start()
    aws = f"http://127.0.0.1:{refusing.server_port}"
    with closing_server(refusing), pairs(source_server, target_server, directory) as make:

        class Made(dict[State, World]):
            def __missing__(self, state: State) -> World:
                self[state] = world = World(
                    state, None if state == "nothing" else Cast(make(rows=10, tables=list(TABLES))), aws
                )
                if world.cast is not None and state != "new":
                    schema.apply(world.cast.settings)
                    if state in ("copied", "running"):
                        copy.run(world.cast.settings)
                    if state == "running":
                        replicate.start(world.cast.settings)
                return world

        yield Made()


@pytest.fixture
def shell_in(
    worlds: dict[State, World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Any:
    """A shell in the world of a state."""
    return lambda state: Shell(worlds[state], tmp_path, monkeypatch, capfd)
