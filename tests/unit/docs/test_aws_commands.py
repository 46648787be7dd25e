"""Each `aws ...` that a document, a stack file or a message says to type is an operation of AWS, with options that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

ROOT = Path(__file__).parents[3]
#: A command, to the end of its code, cell or sentence; `, describe-listeners` after one is the same service's.
COMMAND = re.compile(
    r"(?<![\w/.`-])`?aws (?P<service>[a-z0-9]+(?:-[a-z0-9]+)*) (?P<operation>[a-z]+(?:-[a-z0-9]+)+)(?P<rest>[^`\"\n|;]*)"
    r"(?P<more>(?:`, `(?:describe|list|get)-[a-z0-9-]+)*)"
)
FURTHER = re.compile(r",\s+`?(?P<operation>(?:describe|list|get)-[a-z0-9-]+)")
OPTION = re.compile(r"(?<=\s)--(?P<name>[a-z][a-z0-9-]*)")
#: Of every command (AWS CLI, 'Global options'), and what the CLI itself makes of `s3 cp`.
GLOBAL = frozenset({"region", "output", "query", "profile", "no-cli-pager"})


@cache
def operations(service: str) -> dict[str, frozenset[str]]:
    """The operations of a service as the CLI names them, each with its options."""
    name = {"s3api": "s3"}.get(service, service)
    session: Any = botocore.session.get_session()
    if name not in session.get_available_services():
        return {}
    model = session.get_service_model(name)
    found = {}
    for one in model.operation_names:
        members = model.operation_model(one).input_shape
        names = [xform_name(member, "-") for member in (members.members if members else ())]
        found[xform_name(one, "-")] = frozenset([*names, *(f"no-{name}" for name in names)])
    return found


def wrong(text: str) -> Iterator[str]:
    """The commands in ``text`` that AWS does not have, or not with these options."""
    for found in COMMAND.finditer(text):
        known = operations(found["service"])
        further = [one["operation"] for one in FURTHER.finditer(found["rest"] + found["more"])]
        options = {one["name"] for one in OPTION.finditer(found["rest"])} - GLOBAL
        if not {found["operation"], *further} <= known.keys() or not options <= known[found["operation"]]:
            yield found[0].strip()


def pages() -> list[str]:
    written = [
        *ROOT.glob("docs/**/*"),
        *ROOT.glob("Pulumi.*.yaml"),
        ROOT / "README.md",
        ROOT / "scripts/init/template.yaml",
    ]
    sources = [file for folder in ("scripts", "components") for file in (ROOT / folder).rglob("*.py")]
    return sorted(
        str(file.relative_to(ROOT)) for file in (*written, *sources) if file.is_file() and file.suffix != ".png"
    )


def test_what_aws_is_asked_is_what_it_answers() -> None:
    """Prevents a command that fails at night for a misspelt option, where somebody copies it from a remedy."""
    said = {page: list(wrong((ROOT / page).read_text(encoding="utf-8").replace("\\\n", " "))) for page in pages()}
    assert {page: commands for page, commands in said.items() if commands} == {}
    assert sum(len(COMMAND.findall((ROOT / page).read_text(encoding="utf-8"))) for page in pages()) > 40


@pytest.mark.parametrize(
    "text",
    [
        "`aws dms import-certificates --certificate-identifier rds`",
        "`aws dms import-certificate --name rds`",
        "aws rdss describe-db-instances",
        "`aws elbv2 describe-load-balancers`, `describe-listener`",
    ],
)
def test_a_command_that_is_none_is_found(text: str) -> None:
    assert len(list(wrong(text))) == 1, text
