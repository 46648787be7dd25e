"""The stacks' files are their template's output: a key that one of them lacks, or explains otherwise, is found here."""

from __future__ import annotations

import pytest
import yaml

from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import known_keys
from scripts.init.layout import STACKS, laid_out, stack_text, values_of
from scripts.support.settings import PROJECT_ROOT


@pytest.mark.parametrize("stack", STACKS)
def test_a_stacks_file_is_laid_out_as_the_template_says(stack: str) -> None:
    """Fails when a key is added to one file alone, so that `init` would never write it. Add it to scripts/init/template.yaml, then `make docs`."""
    text = (PROJECT_ROOT / f"Pulumi.{stack}.yaml").read_text()
    assert text == laid_out(stack, text)


@pytest.mark.parametrize("stack", STACKS)
def test_the_template_has_only_keys_that_are_known(stack: str) -> None:
    keys = {key for key in yaml.safe_load(stack_text(stack))["config"] if not key.startswith("aws:")}
    assert keys <= {f"{PROJECT}:{key}" for key in known_keys(StackConfig)}


def test_the_template_says_what_the_program_takes_where_a_file_says_nothing() -> None:
    """Fails when a default is changed in one of the two places, or a key that has to be filled in has no line to fill."""
    declared, template = yaml.safe_load(stack_text("staging"))["config"], values_of(stack_text("staging"))
    fields = {field.alias or name: field for name, field in StackConfig.model_fields.items()}
    assert {key for key, field in fields.items() if field.is_required()} <= {key.partition(":")[2] for key in declared}
    # A stack's own buckets; an administrator's boundary, which a rehearsal has none of; and the cookie that goes with DMS's lag, which
    # nobody gets who did not ask for it.
    own = {"environment", "backupBucket", "stateBucket", "permissionsBoundary", "canaryStickySeconds"}
    defaults = {key: fields[key].default for key in template}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    assert {key for key, value in template.items() if plain[key] != value} == own


def test_a_value_a_secret_and_what_pulumi_keeps_beside_survive_a_new_layout() -> None:
    """Fails when a new comment in the template costs a team a value, or the key of its secrets."""
    old = (
        "secretsprovider: awskms://alias/x\nencryptedkey: AQIC==\nconfig:\n"
        f"  {PROJECT}:environment: prod\n  {PROJECT}:vpcId: vpc-1\n  {PROJECT}:privateSubnetIds:\n    - subnet-1\n    - subnet-2\n"
        f"  {PROJECT}:smokeHeaderValue:\n    secure: v1:abc\n  other:key: 7\n"
    )
    text = laid_out("prod", old)
    read, had = yaml.safe_load(text), yaml.safe_load(old)
    assert {key: read[key] for key in had if key != "config"} == {key: had[key] for key in had if key != "config"}
    assert {key: read["config"][key] for key in had["config"]} == had["config"]
    assert laid_out("prod", text) == text
    comments = [line for line in text.splitlines() if "#" in line]
    assert comments == [line for line in stack_text("prod").splitlines() if "#" in line]
