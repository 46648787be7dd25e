"""Passwords leave no trace, a torn journal is read on, waits end, configuration errors name key, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_origin
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import ConfigError, MigrationConfig
from components.config_stack import StackConfig
from components.config_values import migration_config, parse, read_stack_file
from scripts.database import connections as postgres
from scripts.init.layout import values_of
from scripts.init.run import value_of
from scripts.support.aws import bucket_and_prefix, client, conninfo_of
from scripts.support.errors import MigrationError, TimedOut, UsageError
from scripts.support.journal import FileJournal
from scripts.support.redact import redact, remember_secret
from scripts.support.settings import load_settings
from scripts.support.wait import wait_until
from tests.foreign import read
from tests.journal import last


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=40))
def test_a_remembered_password_is_redacted_plain_and_encoded(password: str) -> None:
    marked = f"Zq{password}"
    remember_secret(marked)
    for written in (marked, quote(marked, safe="")):
        remember_secret(written)
        assert redact(f"could not connect: {written}!") == "could not connect: ***!"
        url = f"postgresql://app:{quote(marked, safe='')}@db:5432/x"
        assert redact(url) == "postgresql://app:***@db:5432/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:hunter22@h/db", "postgresql://u:***@h/db"),
        ("host=h password=hunter22 user=u", "host=h password=*** user=u"),
        (r"PASSWORD = 'hun''ter \' 22' x", r"PASSWORD = ***'ter \' 22' x"),
        ("nobody's secret", "nobody's secret"),
    ],
)
def test_a_password_nobody_remembered_is_redacted_by_its_place(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_bad_url_is_refused_without_its_text() -> None:
    with pytest.raises(UsageError) as caught:
        postgres.parameters("postgresql://u:sEcRet9@h:5432/db?nonsense=1", "SOURCE_DATABASE_URL")
    assert "SOURCE_DATABASE_URL" in str(caught.value)
    assert "sEcRet9" not in str(caught.value)


def test_the_journal_passes_over_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record("copy", "begun", tables=1)
    with journal.path.open("a") as file:
        file.write('{"at": "2026-01-01", "st')
    journal.record("copy", "done", rows=7)
    assert [event["event"] for event in journal.events()] == ["begun", "done"]
    assert last(journal, "copy", "done") == {**json.loads(journal.path.read_text().splitlines()[-1])}


def test_a_journal_line_ends_at_the_line_feed_alone(tmp_path: Path) -> None:
    """Prevents an event that is lost, or a journal that cannot be read, for a character in a reason or a row's text."""
    journal = FileJournal(tmp_path)
    reasons = ["a\u2028b", "a\u0085b", "a\u2029\x0b\x0c\x1c\r\nb"]
    for reason in reasons:
        journal.record("rollback", "begun", reasons=[reason])
    with journal.path.open("ab") as file:
        file.write('{"step": "copy", "event": "書'.encode()[:-1])
    journal.record("rollback", "done")
    assert [event["reasons"] for event in journal.events("rollback") if "reasons" in event] == [
        [one] for one in reasons
    ]
    assert last(journal, "rollback", "done") is not None


def test_a_wait_ends_at_its_deadline_and_says_what_it_saw() -> None:
    with pytest.raises(TimedOut, match=r"the slot: not so after 0\.05 s .*last seen: 41"):
        wait_until(lambda: 41, lambda seen: seen == 42, what="the slot", timeout=0.05, interval=0.01)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("canaryWeight", 101, "less than or equal to 100"),
        ("canaryWeight", -1, "greater than or equal to 0"),
        ("replicationEngine", "debezium", "'dms', 'native' or 'none'"),
        ("canaryLadder", [5, 50], "must rise and end at 100"),
        ("tables", ["tasks", "tasks"], "stands in it twice"),
        ("tables", ["users"], "either moves or stays"),
        ("referencedTables", ["public.tasks", "auth.tasks"], "public.tasks: a table either moves or stays"),
        ("referencedTables", ["auth."], "is no identifier"),
        ("bogusKey", 1, "unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StackConfig, {key: value})
    line = next(line for line in str(caught.value).splitlines() if said in line)
    assert key in line or key == "tables"  # both lists are right on their own: either may be named
    assert "orrect" in line or "pulumi config set" in line


def test_a_missing_listener_is_named_with_the_command_that_sets_it() -> None:
    with pytest.raises(ConfigError, match=r"listenerArn: no value.*pulumi config set task-migration:listenerArn"):
        parse(StackConfig, {"listenerArn": ""})


_FIELDS = {field.alias or name: (name, field) for name, field in StackConfig.model_fields.items()}
LISTS = sorted(key for key, (_, field) in _FIELDS.items() if get_origin(field.annotation) is tuple)


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("written", ["[]", "'[]'"], ids=["--path", "text"])
def test_an_empty_list_means_none_however_it_is_written(key: str, written: str, tmp_path: Path) -> None:
    """Prevents `droppedForeignKeys: []` that means the eight of the plan; `pulumi config set` keeps a list as a text."""
    path = tmp_path / "Pulumi.x.yaml"
    path.write_text(f"config:\n  task-migration:{key}: {written}\n")
    values = read_stack_file(path)
    assert values == {key: []}
    name, field = _FIELDS[key]
    own = MigrationConfig if name in MigrationConfig.model_fields else StackConfig
    if any(getattr(one, "min_length", None) for one in field.metadata):
        said = (
            f"{key}: no value" if field.is_required() else f"{key}: an empty list, which means none; limit: at least 1"
        )
        with pytest.raises(ConfigError, match=said):
            parse(own, values)
    elif own is MigrationConfig:
        assert getattr(migration_config(values), name) == ()
    # `init` too: it is nobody's gap where the key has a default of more.
    assert values_of(path.read_text()) == (values if field.default and not field.is_required() else {})
    assert value_of(key, "") == value_of(key, "[]") == []


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_database_part_of_each_stack_file_needs_nothing_filled_in(stack: str) -> None:
    values = read_stack_file(Path(__file__).parents[3] / f"Pulumi.{stack}.yaml")
    assert migration_config(values).tables == MigrationConfig().tables


def test_an_unknown_stack_and_an_unknown_key_are_usage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="does not exist; name another stack"):
        load_settings("nowhere")
    (tmp_path / "Pulumi.x.yaml").write_text("config:\n  task-migration:tabels: [a]\n")
    with pytest.raises(UsageError, match="tabels: unknown key"):
        load_settings("x")


OUTPUTS = {"targetEndpoint": "db.example:5432", "targetPort": 5432, "targetDatabase": "task_service_production"}


def test_a_stacks_connection_string_keeps_a_password_of_any_characters_and_checks_the_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    password = 'it\'s 50% @ \\ "x" '
    text = conninfo_of("target", OUTPUTS, json.dumps({"username": "master", "password": password}))
    values = postgres.parameters(text, "target")
    assert (values["host"], values["password"], values["sslmode"]) == ("db.example", password, "verify-full")


@pytest.mark.parametrize("secret", ["hunter2222", '{"username": "x"}', '["a"]'])
def test_a_secret_of_another_shape_is_named_without_its_text(secret: str) -> None:
    with pytest.raises(MigrationError) as caught:
        conninfo_of("target", {**OUTPUTS, "targetSecretArn": "arn:x"}, secret)
    assert "arn:x" in str(caught.value)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://b", ("b", "")),
        ("s3://b/", ("b", "")),
        # Letters of a key like others: as a URL's they would cut it off, and two states be one.
        ("s3://b/a/run#2?x", ("b", "a/run#2?x")),
        ("s3://b/%41", ("b", "%41")),
        *((url, None) for url in ("s3://", "s3:///x", "s3://[x", "s3://b\n/x", "s3://u@b/x", "https://b/x")),
    ],
)
def test_a_place_in_s3_is_the_bucket_and_the_whole_key(url: str, place: tuple[str, str] | None) -> None:
    found, refused = read(lambda: bucket_and_prefix(url))
    assert found == place
    assert refused == ("" if place else f"{url!r} is no S3 location; write s3://bucket/prefix")


def test_a_region_that_is_none_is_named_as_that() -> None:
    with pytest.raises(MigrationError, match=r"no client of AWS dms: .*'x y' .*none of AWS: export AWS_REGION"):
        client("dms", "x y")


def test_without_urls_and_stack_a_command_says_what_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOURCE_DATABASE_URL", "TARGET_DATABASE_URL", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="SOURCE_DATABASE_URL is not set.*export SOURCE_DATABASE_URL=postgresql://"):
        load_settings(None).source()
