"""The stack's file, changed without the CLI: one value moves, everything else stays, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.deployment.stack_file import StackFile, replaced
from scripts.support.errors import MigrationError, UsageError
from tests.foreign import read

ROOT = Path(__file__).parents[3]
WEIGHT = "task-migration:canaryWeight"


@pytest.fixture(params=["staging", "prod"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> StackFile:
    name = f"Pulumi.{request.param}.yaml"
    (tmp_path / name).write_text((ROOT / name).read_text())
    return StackFile(request.param, tmp_path)


def test_a_weight_is_kept_on_its_line_and_nothing_else_changes(file: StackFile) -> None:
    """Fails when keeping the weight drops the comments that tell a team what to fill in, or touches another key."""
    before = file.path.read_text().splitlines()
    file.path.chmod(0o640)
    file.keep({"canaryWeight": 25})
    after = file.path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [("  task-migration:canaryWeight: 0", "  task-migration:canaryWeight: 25")]
    assert file.config()["canaryWeight"] == 25
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in file.path.parent.iterdir()] == [file.path.name]


def test_a_file_of_windows_changes_in_one_line_and_comes_back_as_it_was(file: StackFile) -> None:
    """Fails when keeping a weight turns every line end, so that a team's diff shows a whole new file."""
    before = file.path.read_bytes().replace(b"\n", b"\r\n")
    file.path.write_bytes(before)
    edit = file.keep({"canaryWeight": 25})
    wanted = before.replace(b"task-migration:canaryWeight: 0\r\n", b"task-migration:canaryWeight: 25\r\n")
    assert file.path.read_bytes() == wanted != before
    assert edit.undo()
    assert file.path.read_bytes() == before


def test_an_undone_edit_restores_the_text_and_never_a_strangers(file: StackFile) -> None:
    """Fails when putting a weight back overwrites what somebody else set in the meantime."""
    text = file.path.read_text()
    first = file.keep({"canaryWeight": 5, "canaryLadder": [5, 100], "sourceHost": "db.internal"})
    assert file.config()["canaryLadder"] == [5, 100]
    assert file.config()["sourceHost"] == "db.internal"
    assert first.undo()
    assert file.path.read_text() == text
    second = file.keep({"canaryWeight": 5})
    file.keep({"canaryWeight": 50})
    assert not second.undo()
    assert file.config()["canaryWeight"] == 50


def test_a_lower_weight_is_told_from_a_higher_one(file: StackFile) -> None:
    """Fails when a rollback that could not run is undone in the file, so that the next `up` raises the weight again."""
    up = file.keep({"canaryWeight": 50})
    down = file.keep({"canaryWeight": 5})
    other = file.keep({"sourceHost": "x"})
    wrong = file.keep({"canaryWeight": "many"})
    found = [edit.lowers("canaryWeight") for edit in (up, down, other, wrong)]
    assert found == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config:\n  a: b\n", f"config:\n  {WEIGHT}: 7\n  a: b\n"),
        ("# head\nconfig:\n    a: b # c\n", f"# head\nconfig:\n    {WEIGHT}: 7\n    a: b # c\n"),
        (f'config:\n  {WEIGHT}: "0" # now\n  a: b\n', f"config:\n  {WEIGHT}: 7 # now\n  a: b\n"),
        (f"config:\n  {WEIGHT}:\n  a: b\n", f"config:\n  {WEIGHT}: 7\n  a: b\n"),
        (f"config:\n  {WEIGHT}:\n    - 1\n    - 2\n  # of a\n  a: b\n", f"config:\n  {WEIGHT}: 7\n  # of a\n  a: b\n"),
        ("encryptionsalt: v1:x\nconfig:\n  a: b", f"encryptionsalt: v1:x\nconfig:\n  {WEIGHT}: 7\n  a: b"),
        ("", f"config:\n  {WEIGHT}: 7\n"),
        ("# nothing yet\n", f"config:\n  {WEIGHT}: 7\n# nothing yet\n"),
        ("encryptionsalt: v1:x\n", f"encryptionsalt: v1:x\nconfig:\n  {WEIGHT}: 7\n"),
        ("config: {}\n", f"config:\n  {WEIGHT}: 7\n"),
        ("config: {} # none\nx: y\n", f"config:\n  {WEIGHT}: 7 # none\nx: y\n"),
        ("config: # none\nx: y\n", f"config:\n  {WEIGHT}: 7 # none\nx: y\n"),
        ("config: {a: b}\n", f"config: {{{WEIGHT}: 7, a: b}}\n"),
        (f"config: {{a: b, {WEIGHT}: 5}} # c\n", f"config: {{a: b, {WEIGHT}: 7}} # c\n"),
        # A block of text, a comment before the value, and a value that stands elsewhere.
        (f"config:\n  {WEIGHT}: |\n    5\n\n  # of a\n  a: b\n", f"config:\n  {WEIGHT}: 7\n\n  # of a\n  a: b\n"),
        (f"config:\n  {WEIGHT}: # now\n    5\n  a: b\n", f"config:\n  {WEIGHT}: 7 # now\n  a: b\n"),
        (f"config:\n  a: &w 5 # a\n  {WEIGHT}: *w # w\n", f"config:\n  a: &w 5 # a\n  {WEIGHT}: 7 # w\n"),
        ("\ufeff# head\nconfig:\n  a: b\n", f"\ufeff# head\nconfig:\n  {WEIGHT}: 7\n  a: b\n"),
        ("---\n", f"---\nconfig:\n  {WEIGHT}: 7\n"),
        ("\ufeff", f"\ufeffconfig:\n  {WEIGHT}: 7\n"),
        # What it has already stays as it is written.
        (f"config:\n  {WEIGHT}:   0x7 # seven\n", f"config:\n  {WEIGHT}:   0x7 # seven\n"),
    ],
)
def test_every_shape_of_file_ends_with_the_value_in_it(text: str, expected: str) -> None:
    """Fails when a file that Pulumi itself writes, or that a team wrote by hand, loses a value or becomes no YAML."""
    found = replaced(text, WEIGHT, 7)
    wanted: dict[str, Any] = yaml.safe_load(text) or {}
    wanted["config"] = {**(wanted.get("config") or {}), WEIGHT: 7}
    assert yaml.safe_load(found) == wanted
    assert found == expected
    for end in ("\r\n", "\r") if "\n" in text else ():
        assert replaced(text.replace("\n", end), WEIGHT, 7) == expected.replace("\n", end)


_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
_OTHERS = st.sampled_from(
    [
        "# a comment: 5 'é",
        "",
        "  task-migration:sourceHost:   'a # b'  # why",
        '  "quoted:key": "x\\n: y"',
        "  task-migration:tables: [a, 'b']",
        "  task-migration:gates: {p95Ms: 400, p50Ms: 200} # both",
        "  task-migration:columnGroups:\n    -   [a, b]\n    # between\n    - - c\n      - d",
        "  task-migration:text: |\n    canaryWeight: 9\n    # no comment",
        "  task-migration:smokeHeaderValue:\n    secure: v1:abc/+=",
        "  7: ~",
    ]
)


@given(
    st.lists(_OTHERS, max_size=5, unique=True),
    st.lists(_OTHERS, max_size=5, unique=True),
    st.sampled_from(["0", '"0"', "'0'", "0x0", "|\n    0", "\n    - 1\n    - 2", "{a: 1}", ""]),
    st.sampled_from([7, "a: b", "x\ny", [5, "é # 1"], {"a": [1]}, True]),
    st.lists(_ENDS, min_size=40, max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_every_other_byte_of_a_file_stays(
    above: list[str], below: list[str], had: str, value: Any, ends: list[str], mark: bool, last: bool
) -> None:
    """Fails when one value that is set turns a line end, a quote, a comment or the mark of a byte order of another line."""
    below = [one for one in below if one not in above or one.startswith("#") or not one]

    def file(*lines: str) -> str:
        rows = "\n".join(("config:", *lines)).split("\n")
        text = "".join(row + end for row, end in zip(rows, ends, strict=False))
        return ("\ufeff" if mark else "") + (text if last else text.rstrip("\r\n"))

    written = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1000)[1:-2]
    written = '"x\\ny"' if value == "x\ny" else written
    before = file(*above, f"  {WEIGHT}: {had}".rstrip(" "), "  z: 1", *below)
    changed = replaced(before, WEIGHT, value)
    values = yaml.safe_load(before)["config"]
    assert yaml.safe_load(changed)["config"] == {**values, WEIGHT: value}
    # Of the file's two parts around the old value nothing is lost, and between them stands the new one.
    head, _, tail = before.partition(f"  {WEIGHT}:")
    assert changed.startswith(f"{head}  {WEIGHT}: {written}")
    rest = changed.removeprefix(f"{head}  {WEIGHT}: {written}")
    assert tail.endswith(rest)
    assert tail.removesuffix(rest).split() == had.split()
    # And a key that it lacks is one line more.
    added = replaced(before, "task-migration:new", value)
    at = added.index("task-migration:new")
    line = added[at:].splitlines(keepends=True)[0]
    assert line.rstrip("\r\n") == f"task-migration:new: {written}"
    assert added[:at] + added[at + len(line) :].removeprefix("  ") == before


_VALUES = st.one_of(st.integers(0, 100), st.booleans(), st.text(max_size=20), st.lists(st.text(max_size=9), max_size=3))


@given(
    st.dictionaries(st.sampled_from([WEIGHT, "a", "b c", "task-migration:tables", "ü"]), _VALUES, max_size=4),
    st.sampled_from([WEIGHT, "task-migration:tables", "new"]),
    _VALUES,
    st.booleans(),
)
def test_any_value_in_any_file_is_what_yaml_reads_back(
    values: dict[str, Any], key: str, value: Any, flow: bool
) -> None:
    """Fails when a value with a quote, a colon or a line end corrupts its neighbours."""
    text = yaml.safe_dump({"config": values, "encryptionsalt": "v1:x"}, default_flow_style=flow)
    found = yaml.safe_load(replaced(text, key, value))
    assert found == {"config": {**values, key: value}, "encryptionsalt": "v1:x"}


#: How a file may begin, and pieces of which some make no YAML, some make YAML of a kind that no value has, and some stand twice.
_BEGINS = st.sampled_from(
    ["", "config:\n  ", f"config:\n  {WEIGHT}: ", "config:\n  task-migration:tables:\n    - ", "config: {", "x: &x {a: 1}\nconfig:\n  <<: ", "---\n"]
)  # fmt: skip
_PIECES = st.sampled_from(
    ["config:", "\n", "\n  ", "\n    - ", "canaryWeight: ", "a: ", "[", "]", "{", "}", ", ", ": ", "&x ", "*x", "<<: ", "? ", "!!int ", "!!set ",
     "!!binary ", "'", '"', "\\ud800", "|", ">", "# c", "---\n", "\t", "\r\n", "\x00", "\ufeff", "\xff", "0b_", "1_0", "2001-99-99", ".nan", "~", "0x1f",
     "1:30", "yes", "null", "\u2028", "é", "7" * 4301]
)  # fmt: skip


def in_any_order(values: dict[Any, Any]) -> list[str]:
    """By how they are written: `.nan` is not equal to itself, and keys of two kinds have no order."""
    return sorted(map(repr, values.items()))


@settings(max_examples=200)
@example("config:\n  ", "1_0: ")
@example("config:\n  task-migration:canaryWeight: ", ".nan")
@given(_BEGINS, st.lists(_PIECES, max_size=6).map("".join))
def test_any_text_is_the_values_that_yaml_has_or_no_file(tmp_path: Path, begin: str, text: str) -> None:
    """Prevents a traceback for a date that is none, a set whose tables come in any order, and a file that is changed in spite of it."""
    file = StackFile("x", tmp_path)
    before = (begin + text).encode(
        "latin-1" if "\xff" in text and "\u2028" not in text and "\ufeff" not in text else "utf-8"
    )
    file.path.write_bytes(before)
    found, refused = read(file.config)
    if found is None:
        assert refused.startswith(f"{file.path} ")
        assert read(lambda: file.keep({"canaryWeight": 7})) == (None, refused)
        assert file.path.read_bytes() == before
        return
    written = yaml.safe_load(before) or {}
    values = {str(key): value for key, value in written.get("config", {}).items()}
    ours = {key: value for name, value in values.items() if (key := name.removeprefix("task-migration:")) != name}
    assert found.keys() == ours.keys()
    assert all(repr(typed) == repr(ours[key]) or typed == yaml.safe_load(ours[key]) for key, typed in found.items())
    file.keep({"canaryWeight": 7})
    now = yaml.safe_load(file.path.read_bytes())
    assert in_any_order(now.pop("config")) == in_any_order({**written.pop("config", {}), WEIGHT: 7})
    assert in_any_order(now) == in_any_order(written)


def test_what_cannot_be_kept_is_refused_and_nothing_is_written(file: StackFile, tmp_path: Path) -> None:
    """Fails when a misspelt key, a secret or a full disk leaves the file half-changed."""
    text = file.path.read_text()
    with pytest.raises(UsageError, match="canaryWeigth: no configuration key"):
        file.keep({"canaryWeight": 5, "canaryWeigth": 5})
    with pytest.raises(UsageError, match="smokeHeaderValue: secret; .* --secret"):
        file.keep({"canaryWeight": 5, "smokeHeaderValue": "x"})
    assert file.path.read_text() == text
    with pytest.raises(UsageError, match=r"Pulumi\.nowhere\.yaml"):
        StackFile("nowhere", tmp_path).keep({"canaryWeight": 5})
    with pytest.raises(MigrationError, match=r"gone.* cannot be written .*nothing of it was changed"):
        file.copy({"canaryWeight": 5}, tmp_path / "gone")
