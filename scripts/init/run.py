"""Fills a stack's file: what the account says, what a person says, and nothing that the file had without being asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError

from components.config import PROJECT, SECRET_KEYS, ConfigError
from components.config_stack import StackConfig
from components.config_values import known_keys, parse, read_stack_file, typed
from scripts.deployment.stack_file import read, refuse_unknown, replaced, write
from scripts.deployment.stack_secrets import SMOKE, encrypt_new
from scripts.init.account import survey
from scripts.init.documents import Init
from scripts.init.layout import STACKS, laid_out, stack_text, values_of
from scripts.init.survey import Ask, Survey
from scripts.preflight.account.asking import Clients, clients
from scripts.support.errors import MigrationError, UsageError

#: The provider's own key: accounts that it does something in.
ACCOUNTS = "aws:allowedAccountIds"


def init(
    stack: str,
    file: Path,
    given: Mapping[str, str],
    *,
    force: bool = False,
    dry_run: bool = False,
    ask: Ask | None = None,
    secrets_provider: str | None = None,
    aws: Clients | None = None,
) -> Init:
    """Write ``Pulumi.<stack>.yaml``, or fill in what is empty in the one that is there.

    Args:
        given: values by key, as texts; they win over the file's and the account's.
        force: what is found in the account wins over the file's.
        ask: asks a person for what stays open.
        secrets_provider: by which a stack that is not there yet encrypts its secrets, such as ``awskms://alias/x?region=...``.
        aws: clients of the account; else those of the environment's credentials, in the stack's region.

    Raises:
        UsageError: a given key is unknown or secret, or a value is not usable; nothing was written.
        ConfigError: the file that is there is no stack's file.
        MigrationError: the file cannot be written.
    """
    words = {key: value_of(key, text) for key, text in given.items()}
    if file.exists():
        read_stack_file(file)  # one that is none is named
    before = read(file) if file.exists() else ""
    environment = words.get("environment") or values_of(before).get("environment") or stack
    if environment not in STACKS:
        raise UsageError(f"a stack {stack} is of no known environment; --set environment={' or '.join(STACKS)}")
    template = stack_text(stack, environment)
    # `pulumi stack init` leaves a file without configuration: what encrypts the secrets, and nothing else.
    configured = (yaml.safe_load(before) or {}).get("config")
    text, defaults = before if configured else laid_out(stack, before, environment), values_of(template)
    had = values_of(text)
    region = words.get("region") or had.get("region") or defaults["region"]
    ask_aws = aws or clients(region)
    found = Survey(ask_aws, words, had, defaults, force, ask)
    survey(found)
    if not yaml.safe_load(text)["config"].get(ACCOUNTS):
        found.attempt((), "the account", lambda: _account(found))
    for key in words:
        found.rest(key, "", required=False)
    settled = {key: one.value for key, one in found.keys.items() if one.value is not None and key != ACCOUNTS}
    values = {**had, **settled}
    missing = _unset(values, file.name)
    listed = [key.removeprefix(f"{PROJECT}:") for key in yaml.safe_load(template)["config"]]
    for key in (*listed, *missing):
        if key in missing or not (key in {**defaults, **values} or key.startswith("aws:")):
            found.rest(key, "nothing in the account says it", required=key in missing)
    for key, one in found.keys.items():
        if one.state in ("found", "given"):
            text = replaced(text, key if key == ACCOUNTS else f"{PROJECT}:{key}", one.value)
    if "region" in words:
        text = replaced(text, "aws:region", region)
    if text != before and not dry_run:
        write(file, text)
    keys = [one.model_copy(update={"required": one.required or one.key in missing}) for one in found.keys.values()]
    secrets, remedy = _secrets(stack, file, text, secrets_provider, dry_run)
    return Init(
        file=file.name,
        written=text != before and not dry_run,
        keys=sorted(keys, key=lambda one: listed.index(one.key) if one.key in listed else len(listed)),
        secrets=secrets,
        secrets_remedy=remedy,
    )


def _account(found: Survey) -> None:
    account = str(found.aws("sts").get_caller_identity()["Account"])
    found.all(ACCOUNTS, "the account of these credentials: nothing is done in another one", [account])


def value_of(key: str, text: str) -> Any:
    """A value as somebody types it: JSON, or the text itself; ``a,b`` for a list.

    Raises:
        UsageError: the key is unknown, or a secret one, which has no place in a command line.
    """
    refuse_unknown({key: text})
    if key in SECRET_KEYS:
        raise UsageError(f"{key}: secret; it is made and encrypted by init itself, or by pulumi config set --secret")
    value = typed(key, text)
    field = next(one for name, one in StackConfig.model_fields.items() if key == (one.alias or name))
    if get_origin(field.annotation) is tuple and not isinstance(value, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    return value


def _unset(values: Mapping[str, Any], origin: str) -> set[str]:
    """Keys that the program does not run without and that have no value yet. Raises UsageError for a value that is not usable."""
    try:
        StackConfig.model_validate(dict(values))
    except ValidationError as error:
        names = {name: field.alias or name for name, field in StackConfig.model_fields.items()}
        empty = {key for key in known_keys(StackConfig) if key not in values}
        unset = {names.get(str(one["loc"][0]), str(one["loc"][0])) for one in error.errors(include_url=False)} & empty
        if any(names.get(str(one["loc"][0]), str(one["loc"][0])) not in empty for one in error.errors()):
            try:
                parse(StackConfig, values, f"what {origin} would hold")
            except ConfigError as named:
                wrong = [
                    line for line in str(named).splitlines() if not any(line.startswith(f"  {one}:") for one in unset)
                ]
                raise UsageError("\n".join(wrong)) from None
        return unset
    return set()


def _secrets(
    stack: str, file: Path, text: str, provider: str | None, dry_run: bool
) -> tuple[dict[str, bool], str | None]:
    """The secret keys, made where they are missing: never as plain text, so never without the CLI."""
    config = yaml.safe_load(text)["config"]
    there = {key: isinstance(config.get(f"{PROJECT}:{key}"), dict) for key in sorted(SECRET_KEYS)}
    missing = [key for key, kept in there.items() if not kept]
    if not missing or dry_run:
        return there, f"{', '.join(missing)}: made and encrypted when init runs without --dry-run" if missing else None
    try:
        encrypt_new(stack, file, provider)
    except MigrationError as error:
        return there, f"{error}. By hand: {SMOKE.format(stack=json.dumps(stack)[1:-1])}"
    return dict.fromkeys(there, True), None
