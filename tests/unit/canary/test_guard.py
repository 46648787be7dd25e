"""What the deployment of a step may change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.canary.guard import LIVE_RULE, RULE_TYPE, beside
from scripts.deployment.deployer import Change, recurring

RULE = Change("urn:rule", RULE_TYPE, LIVE_RULE, "update", ("actions",))
BUCKET = Change("urn:b", "aws:s3/bucket:Bucket", "backups", "update", ("rules", "tags"))
BY_ITSELF = "deploy that first, by itself: pulumi up"


@pytest.mark.parametrize(
    ("change", "said", "unsaid"),
    [
        (replace(RULE, properties=("actions", "conditions")), [f"{LIVE_RULE} ({RULE_TYPE}); conditions: {BY_ITSELF}"], ["actions"]),
        (replace(RULE, op="replace"), ["replace routes-live-rule", f"actions: {BY_ITSELF}"], []),
        (replace(RULE, name="routes-smoke-rule"), ["update routes-smoke-rule"], []),
        (replace(RULE, type="aws:lb/listener:Listener"), ["(aws:lb/listener:Listener)"], []),
        (replace(BUCKET, op="create"), ["create backups (aws:s3/bucket:Bucket)", BY_ITSELF], ["rules", "ignore_changes"]),
        (replace(BUCKET, op="delete", properties=()), [f"delete backups (aws:s3/bucket:Bucket); {BY_ITSELF}"], ["ignore_changes"]),
        (replace(BUCKET, op="create", properties=("rules",), recurring=("rules",)), [f"create backups (aws:s3/bucket:Bucket); {BY_ITSELF}"], []),
        (BUCKET, [f"rules, tags: {BY_ITSELF}"], ["ignore_changes"]),
        (replace(BUCKET, recurring=("rules",)), [f"tags: {BY_ITSELF} and rules: declared as at the last", "pulumi refresh", "ignore_changes"], []),
        (replace(BUCKET, recurring=("rules", "tags")), ["rules, tags: declared as at the last deployment"], [BY_ITSELF]),
    ],
)  # fmt: skip
def test_each_difference_is_named_with_what_settles_it(change: Change, said: list[str], unsaid: list[str]) -> None:
    """Prevents a step that is refused for ever, since `pulumi up` does not settle what it is told to settle."""
    (text,) = beside([RULE, change])
    assert [part for part in said if part not in text] == []
    assert [part for part in unsaid if part in text] == []


def test_the_weights_alone_pass() -> None:
    """Prevents a guard that nothing passes."""
    assert beside([]) == beside([RULE]) == ()


def test_what_the_provider_tells_beside_a_change_is_no_difference_for_ever() -> None:
    """Prevents that `tagsAll`, which no program declares, is told of as one that needs ignore_changes."""
    assert recurring(["tags", "tagsAll"], {"tags": 1}, {"tags": 2}) == ()
    assert recurring(["policy"], {}, {}) == ("policy",)
    assert recurring(["a", "b"], {"a": 1, "b": 1}, {"a": 1, "b": 2}) == ("a",)
