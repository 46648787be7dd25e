"""A stack's configuration file, read and changed without the Pulumi CLI and without its backend.

`pulumi config set` asks the backend even for a plain value; a rollback at night must not depend on that. A value is
changed where it stands, so that comments, order, line ends and every other line stay as a team wrote them. (ruamel.yaml was tried: its
round trip indents anew, moves comments, drops those before a replaced list and writes CRLF as LF.)
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from components.config import PROJECT, SECRET_KEYS, ConfigError
from components.config_stack import StackConfig
from components.config_values import known_keys, read_stack_file, stack_text, typed
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
        return isinstance(was, int | float) and isinstance(now, int | float) and now < was

    def undo(self) -> bool:
        """Put the text back as it was; False when somebody else changed the file since, which then stays."""
        if read(self.path) != self.after:
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
        before = read(self.path)
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
        text = read(self.path)
        for key, value in overrides.items():
            text = replaced(text, f"{PROJECT}:{key}", value)
        return text


def _values(text: str) -> dict[str, Any]:
    return dict((yaml.safe_load(text) or {}).get("config") or {})


def replaced(text: str, key: str, value: object, within: str | None = "config") -> str:
    """The YAML ``text`` with ``config.<key>`` set to ``value``, or the top's ``key`` where ``within`` is None; every other character
    stays, the mark of a byte order and each line's end too.
    """
    before = yaml.safe_load(text) or {}
    had = before if within is None else before.get(within) or {}
    if key in had and yaml.safe_dump(had[key]) == yaml.safe_dump(value):
        return text
    changed = {**had, key: value}
    wanted = changed if within is None else {**before, within: changed}
    mark = _MARK if text.startswith(_MARK) else ""
    for spliced in _spliced(text.removeprefix(mark), key, value, within):
        with suppress(yaml.YAMLError):
            if yaml.safe_load(spliced) == wanted:
                return mark + spliced
    # A form that is not edited in place (an anchor that others name): the values are what counts.
    return mark + _dumped(wanted, flow=False).replace("\n", _line_end(text, 0))


_MARK = "\ufeff"
#: YAML 1.2, 'Line Break Characters'.
_BREAK = re.compile(r"\r\n|\r|\n")


def _line_end(text: str, at: int) -> str:
    """The end of the line at ``at``, else of the one before."""
    found = _BREAK.search(text, at)
    return found[0] if found else (_BREAK.findall(text) or ["\n"])[-1]


def _dumped(value: object, *, flow: bool) -> str:
    """The value as YAML that reads back as it: PyYAML writes a few controls (U+0085) so that they do not. In flow on one line."""
    for readable, style in product((True, False), (None, '"')):
        text = yaml.safe_dump(
            value,
            default_flow_style=flow,
            default_style=style,
            allow_unicode=readable,
            width=float("inf"),
            sort_keys=False,
        )
        if yaml.safe_load(text) == value and not (flow and _BREAK.search(text[:-1])):
            break
    return text


def _spliced(text: str, key: str, value: object, within: str | None) -> Iterator[str]:
    """The text with the value at each place where it may be meant; the reader says which is right."""
    # A list keeps to its key's line: as an item of a flow list, without that list's brackets.
    written = _dumped([value], flow=True)[1:-2]
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    line = f"{key}: {written}"
    if not isinstance(top, yaml.MappingNode):
        end = _line_end(text, 0)
        block = f"{line}{end}" if within is None else f"{within}:{end}  {line}{end}"
        yield from (block + text, text + block)  # behind the mark of a document's begin
        return
    holder = top
    if within is not None:
        found = next((pair for pair in top.value if pair[0].value == within), None)
        if found is None:
            end = _line_end(text, len(text))
            ended = bool(_BREAK.search(text[-1:]))
            yield f"{text}{'' if ended else end}{within}:{end}  {line}{end if ended else ''}"
            return
        name, holder = found
        if not isinstance(holder, yaml.MappingNode) or not holder.value:
            colon, close = _place(text, name, holder)
            yield f"{text[:colon]}{_line_end(text, colon)}{' ' * (name.start_mark.column + 2)}{line}{text[close:]}"
            return
    for name, node in holder.value:
        if name.value == key:
            colon, close = _place(text, name, node)
            gap = text[colon : max(colon, node.start_mark.index)]
            yield f"{text[:colon]} {written}{gap.rstrip() if '#' in gap else ''}{text[close:]}"
            return
    first = holder.value[0][0].start_mark
    between = ", " if holder.flow_style else f"{_line_end(text, first.index)}{' ' * first.column}"
    yield f"{text[: first.index]}{line}{between}{text[first.index :]}"


def _place(text: str, name: yaml.Node, node: yaml.Node) -> tuple[int, int]:
    """Behind a key's colon, and where its value ends."""
    colon = text.index(":", name.end_mark.index) + 1
    if node.start_mark.index < colon and (alias := re.compile(r"\s*\*[^\s,\]}]+").match(text, colon)):
        return colon, alias.end()
    close = max(colon, _last_leaf(node).end_mark.index)
    # A block of text says it ends at the next key.
    return colon, colon + len(text[colon:close].rstrip())


def _last_leaf(node: yaml.Node) -> yaml.Node:
    """Where a value ends: a block list or map says it ends at the next key, after the comments between."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def read(path: Path) -> str:
    """As :func:`components.config_values.stack_text`; raises UsageError."""
    try:
        return stack_text(path)
    except ConfigError as error:
        raise UsageError(str(error)) from None


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
