"""Whatever stands in a stack's file is what it says, as PyYAML reads it, or is refused by name: never a traceback, never another value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.config import ConfigError
from components.config_stack import StackConfig
from components.config_values import migration_config, parse, read_stack_file
from tests.foreign import read
from tests.unit.components.declared_helpers import FILLED

WHOLE = {**FILLED, "environment": "staging"}
_FIELDS = {field.alias or name: (name, field) for name, field in StackConfig.model_fields.items()}
#: What YAML makes of `yes`, `1`, `"1"`, `.nan`, `null`, and texts that are JSON of something.
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8), st.dates(),
    st.sampled_from(["", "null", "true", "[]", "{}", "1", "-1", "1e400", "NaN", '"a"', "arn:x", "[" * 2000, "7" * 5000]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda one: (
        st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["secure", "p95Ms", "a", "b"]), one, max_size=3)
    ),
    max_leaves=5,
)


def same(written: Any, had: Any) -> bool:
    """Whether a value of the model is the one that was written; a text may write a number, or yes and no, as YAML 1.1 does."""
    if isinstance(had, bool):
        no = ("no", "off", "false", "0", "n", "f", 0)
        return had is not (str(written).lower() in no if isinstance(written, str) else written in no)
    if isinstance(written, bool):
        return False
    if isinstance(had, int | float):
        return math.isfinite(had) and float(written) == had
    if isinstance(had, tuple):
        return len(written) == len(had) and all(map(same, written, had))
    if isinstance(had, dict):
        return written.keys() == had.keys() and all(same(written[key], had[key]) for key in had)
    return bool(written == had)


@settings(max_examples=150)
@example({"gates": None})
@given(st.dictionaries(st.sampled_from(sorted(_FIELDS)), _VALUES, min_size=1, max_size=2))
def test_a_value_is_taken_as_it_was_written_or_its_key_is_named(values: dict[str, Any]) -> None:
    """Prevents `replicationEngine: "null"` that means dms, `canaryLadder: [yes, 100]` that begins at 1 %, and a number of 5,000 digits
    that ends in a traceback."""
    found, refused = read(lambda: parse(StackConfig, {**WHOLE, **values}))
    if found is None:
        assert any(f"  {key}" in refused for key in values)
        assert any(word in refused for word in ("Correct it", "Set it", "Remove it"))
        assert len(refused) < 5000 * len(values)
        return
    for key, value in values.items():
        name, field = _FIELDS[key]
        had = getattr(found, name)
        if value in ("", None):
            assert had == (WHOLE.get(key) or field.get_default(call_default_factory=True))
        elif key == "gates":
            assert all(same(one, getattr(had, {"p95Ms": "p95_ms"}[limit])) for limit, one in value.items())
        else:
            assert same(value, had), (key, value)


@pytest.mark.parametrize(
    ("key", "written", "said"),
    [
        ("replicationEngine", "'null'", "value 'null'; limit: Input should be 'dms', 'native' or 'none'"),
        ("canaryLadder", "[yes, 100]", "limit: a number, not yes or no"),
        ("copyMemoryMb", f"'{'7' * 5000}'", r"\(5002 characters\); limit: Unable to parse"),
        ("copyMemoryMb", f"0x{'f' * 5000}", "value of thousands of digits; limit: Input should be"),
        ("tables", f"'{'[' * 100_000}'", r"\(100002 characters\); limit: Input should be a valid tuple"),
        ("tables", "!!set {a, b}", r"tag:yaml.org,2002:set is no kind of a value here\n.*line 2, column 26"),
        ("tables", "&a [*a]", r"it stands in itself\n.*line 2, column 26"),
        ("gates", "{p95Ms: 1, p50Ms: 1, p95Ms: 2}", r"p95Ms stands in it twice\n.*line 2, column 46"),
        ("serviceImageTag", "2026-13-01", r"'2026-13-01' is no timestamp; a text like that stands in quotes\n.*line 2"),
        ("copyMemoryMb", "!!int many", "'many' is no int"),
        ("protected", "!!bool maybe", "'maybe' is no bool"),
        ("copyMemoryMb", "7" * 5000, r"\(5002 characters\) is no int"),
        ("tables", "[" * 5000, "too many to be read"),
    ],
)
def test_what_python_cannot_read_either_is_named(key: str, written: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.x.yaml"
    path.write_text(f"config:\n  task-migration:{key}: {written}\n")
    with pytest.raises(ConfigError, match=said):
        migration_config(read_stack_file(path))


def test_an_arn_that_was_cut_is_named_with_its_form() -> None:
    with pytest.raises(ConfigError, match="import: .*limit: no whole ARN: arn:aws:SERVICE:REGION:ACCOUNT:NAME"):
        parse(StackConfig, {**WHOLE, "import": {"service-log": "arn:aws:logs"}})


def test_a_map_that_stands_twice_by_its_anchor_is_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.x.yaml"
    path.write_text("config:\n  task-migration:gates: &g {p95Ms: 400}\n  task-migration:other: *g\n")
    assert read_stack_file(path) == {"gates": {"p95Ms": 400}, "other": {"p95Ms": 400}}


def test_a_file_without_a_configuration_has_no_values_and_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.x.yaml"
    for text in ("encryptionsalt: v1:x\n", "# nothing yet\n", "config: {}\n"):
        path.write_text(text)
        assert read_stack_file(path) == {}
    with pytest.raises(ConfigError) as refused:
        read_stack_file(tmp_path)
    assert (
        str(refused.value) == f"{tmp_path} cannot be read: Is a directory; it has to be a file that this user may read"
    )
