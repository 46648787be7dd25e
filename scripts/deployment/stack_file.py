"""A stack's configuration file, read and changed without the Pulumi CLI and without its backend.

`pulumi config set` asks the backend even for a plain value; a rollback at night must not depend on that. A value is
changed where it stands, so that comments, order, line ends and every other line stay as a team wrote them. (ruamel.yaml was tried: its
round trip indents anew, moves comments, drops those before a replaced list and writes CRLF as LF.)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.config import PROJECT, SECRET_KEYS, ConfigError
from components.config_stack import StackConfig
from components.config_values import known_keys, read_stack_file, typed
from scripts.support.errors import MigrationError, UsageError


def text_of(value: object) -> str:
    """A configuration value as Pulumi keeps it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def refuse_unknown(overrides: Mapping[str, object]) -> None:
    """Raises UsageError for a key that the configuration does not have."""
    known = known_keys(StackConfig).keys() | SECRET_KEYS
    if unknown := sorted(set(overrides) - known):
        raise UsageError(f"{', '.join(unknown)}: no configuration key of {PROJECT}; correct its spelling")


@dataclass(frozen=True)
class Edit:
    """One change of the file: its text before and after."""

    path: Path
    before: str
    after: str

    def lowers(self, key: str) -> bool:
        """Whether a number became smaller, compared with 0 where there was none."""
        was, now = (typed(key, _values(text).get(f"{PROJECT}:{key}", 0)) for text in (self.before, self.after))
        return isinstance(was, int) and isinstance(now, int) and now < was

    def undo(self) -> bool:
        """Put the text back as it was; False when somebody else changed the file since, which then stays."""
        if _read(self.path) != self.after:
            return False
        write(self.path, self.before)
        return True


class StackFile:
    """``Pulumi.<stack>.yaml`` in ``directory``."""

    def __init__(self, stack: str, directory: Path) -> None:
        self.stack = stack
        self.path = directory / f"Pulumi.{stack}.yaml"

    def config(self) -> dict[str, Any]:
        """The stack's values (camelCase keys without namespace), as their keys' types have them; secret ones are left out.

        Raises:
            UsageError: the file is missing or is no stack's file.
        """
        try:
            return read_stack_file(self.path)
        except ConfigError as error:
            raise UsageError(str(error)) from None

    def keep(self, overrides: Mapping[str, object]) -> Edit:
        """Write the overrides into the file, whole or not at all.

        Raises:
            UsageError: a key is unknown or secret (the CLI alone encrypts), or the file is no stack's file.
            MigrationError: the file cannot be written.
        """
        before = _read(self.path)
        after = self._with(overrides)
        if after != before:
            write(self.path, after)
        return Edit(self.path, before, after)

    def copy(self, overrides: Mapping[str, object], directory: Path) -> Path:
        """A copy of the file with the overrides, in ``directory``. Raises as :meth:`keep`."""
        path = directory / self.path.name
        write(path, self._with(overrides))
        return path

    def _with(self, overrides: Mapping[str, object]) -> str:
        refuse_unknown(overrides)
        if hidden := sorted(SECRET_KEYS & set(overrides)):
            raise UsageError(f"{', '.join(hidden)}: secret; set it by itself first: pulumi config set --secret")
        self.config()  # a file that is none is refused by name
        text = _read(self.path)
        for key, value in overrides.items():
            text = replaced(text, f"{PROJECT}:{key}", value)
        return text


def _values(text: str) -> dict[str, Any]:
    return dict((yaml.safe_load(text) or {}).get("config") or {})


def replaced(text: str, key: str, value: object) -> str:
    """The YAML ``text`` with ``config.<key>`` set to ``value``; every other character stays."""
    wanted = yaml.safe_load(text) or {}
    wanted["config"] = {**(wanted.get("config") or {}), key: value}
    with suppress(yaml.YAMLError):
        changed = _spliced(text, key, value)
        if changed is not None and yaml.safe_load(changed) == wanted:
            return changed
    # A form that is not edited in place (an alias, a flow map): the values are what counts.
    return _dumped(wanted, flow=False).replace("\n", _line_end(text))


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _dumped(value: object, *, flow: bool) -> str:
    """The value as YAML that reads back as it: PyYAML writes a few controls (U+0085) so that they do not."""
    for readable in (True, False):
        text = yaml.safe_dump(
            value, default_flow_style=flow, allow_unicode=readable, width=float("inf"), sort_keys=False
        )
        if yaml.safe_load(text) == value:
            break
    return text


def _spliced(text: str, key: str, value: object) -> str | None:
    # A list keeps to its key's line: as an item of a flow list, without that list's brackets.
    written, end = _dumped([value], flow=True)[1:-2], _line_end(text)
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(top, yaml.MappingNode):
        return f"config:{end}  {key}: {written}{end}{text}"
    config = next((node for name, node in top.value if name.value == "config"), None)
    if not isinstance(config, yaml.MappingNode) or not config.value:
        return None
    for name, node in config.value:
        if name.value == key:
            colon = text.index(":", name.end_mark.index) + 1
            return f"{text[:colon]} {written}{text[max(colon, _last_leaf(node).end_mark.index) :]}"
    first = config.value[0][0].start_mark
    return f"{text[: first.index]}{key}: {written}{end}{' ' * first.column}{text[first.index :]}"


def _last_leaf(node: yaml.Node) -> yaml.Node:
    """Where a value ends: a block list or map says it ends at the next key, after the comments between."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); name another stack with --stack") from None


def write(path: Path, text: str) -> None:
    """Replace the file by ``text`` in one step, with the rights that it had."""
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh = Path(name)
            fresh.chmod(mode)
            fresh.replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MigrationError(
            f"{path} cannot be written ({error.strerror}); nothing of it was changed: give this user the right to write it"
        ) from None
