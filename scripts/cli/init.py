"""init: from nothing to a stack's file."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.cli.options import REFUSED, DryRun, Json, prints
from scripts.cli.output import emit
from scripts.support.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from scripts.cli.view import View
    from scripts.init.documents import Init, InitKey

app = typer.Typer()


@app.command()
@prints("scripts.init.documents:Init", exits={REFUSED: "a key that the program needs, or a secret, is still open"})
def init(
    stack: Annotated[str, typer.Option("--stack", envvar="PULUMI_STACK", help="Stack whose file is written.")],
    values: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, as in the file; a list as a,b or as JSON.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="What is found in the account replaces what the file has.")
    ] = False,
    secrets_provider: Annotated[
        str | None,
        typer.Option("--secrets-provider", help="Key of a new stack's secrets: awskms:///KEY-ARN?region=REGION."),
    ] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing, also on a terminal.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Write a stack's file from what the account has, and ask for the rest.

    Nothing that the file has is replaced without --set or --force. Where several things fit, none is taken: they are asked
    for on a terminal, else listed. What stands already under a name of the program's goes under `import`. Needs credentials
    that may look at the account (AWS's policy ReadOnlyAccess).
    """
    from scripts.init.run import init as run

    given: dict[str, str] = {}
    for word in values or ():
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word!r} is no KEY=VALUE; give both")
        given[key] = value
    asks = not (no_input or json or dry_run) and sys.stdin.isatty()
    document = run(
        stack,
        _place(stack),
        given,
        force=force,
        dry_run=dry_run,
        ask=_ask if asks else None,
        secrets_provider=secrets_provider,
    )
    emit(document, as_json=json, text=lambda shown: _view(shown, stack))
    return 0 if document.complete else REFUSED


def _place(stack: str) -> Path:
    """The file: the working directory's where that is a project of Pulumi, else this project's."""
    from scripts.support.settings import stack_file

    found = stack_file(stack)
    return Path.cwd() / found.name if (Path.cwd() / "Pulumi.yaml").exists() else found


def _ask(key: InitKey) -> Any:
    """A person's answer: numbers of candidates, or a value; nothing leaves the key open."""
    from components.config_stack import StackConfig
    from components.config_values import known_keys
    from scripts.init.run import value_of

    width = min(shutil.get_terminal_size().columns, 100)
    typer.echo("", err=True)
    for text in (f"{key.key}: {known_keys(StackConfig).get(key.key, '')}", key.how):
        typer.echo(textwrap.fill(text.strip(), width, subsequent_indent="  ", break_on_hyphens=False), err=True)
    for number, one in enumerate(key.candidates, 1):
        typer.echo(f"  {number}  {one.value}  {one.what}", err=True)
    while True:
        said = typer.prompt(f"{key.key} (nothing leaves it open)", default="", show_default=False, err=True).strip()
        if not said:
            return None
        parts = [part.strip() for part in said.split(",")]
        if key.candidates and all(part.isdigit() and 0 < int(part) <= len(key.candidates) for part in parts):
            parts = [str(key.candidates[int(part) - 1].value) for part in parts]
        try:
            return value_of(key.key, ",".join(parts))
        except UsageError as error:
            typer.echo(str(error), err=True)


def _view(document: Init, stack: str) -> View:
    from rich.console import Group
    from rich.text import Text

    from scripts.cli.view import View, facts, finding
    from scripts.support.figure import counted

    def shown(one: InitKey) -> str:
        """The value as the file has it, and below it where it is from."""
        each = [f"{name} {id_}" for name, id_ in one.value.items()] if isinstance(one.value, dict) else one.value
        value = ", ".join(map(str, each)) if isinstance(each, list) else str(each)
        how = {"found": one.how, "kept": one.how.partition("; ")[2]}.get(one.state)
        return "\n".join(filter(None, (value.lower() if isinstance(one.value, bool) else value, how)))

    parts: list[RenderableType] = []
    for state, title in {"given": "As you said", "found": "Found in the account", "kept": "In the file before"}.items():
        known = [(one.key, shown(one)) for one in document.keys if one.state == state]
        if known:
            parts.append(Group(Text(title), facts(*known, indent=2)))
    alike: dict[tuple[bool, str, str | None], list[InitKey]] = {}
    for one in document.keys:
        if one.state == "open":
            several = "".join(f"\n{candidate.value}  {candidate.what}" for candidate in one.candidates)
            remedy = one.remedy and one.remedy.replace(f"--set {one.key}=...", "--set KEY=VALUE")
            alike.setdefault((one.required, one.how + several, remedy), []).append(one)
    for (required, how, remedy), keys in sorted(alike.items(), key=lambda item: not item[0][0]):
        names = ", ".join(one.key for one in keys)
        said = keys[0].remedy if len(keys) == 1 else remedy
        parts.append(finding("bad" if required else "warning", f"{names}: {how}", said))
    for key, kept in document.secrets.items():
        if not kept:
            parts.append(finding("bad", f"{key}: no value", document.secrets_remedy))
    did = "written" if document.written else "not written"
    left = len(document.open) + sum(not kept for kept in document.secrets.values())
    if left:
        verdict = f"{document.file} is {did}; {counted(left, 'key')} to fill in."
        return View(verdict, "bad", parts, f"task-migration init --stack {stack} --set KEY=VALUE")
    return View(
        f"{document.file} is {did}; nothing is missing.",
        "good",
        parts,
        f"task-migration preflight --account --stack {stack}",
    )
