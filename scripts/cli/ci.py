"""ci-roles: the workflows' way into the account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.cli.options import REFUSED, Json, Stack, prints
from scripts.cli.output import emit
from scripts.support.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from scripts.cli.view import View
    from scripts.deployment.ci_roles import CiRoles

app = typer.Typer()


@app.command("ci-roles")
@prints("scripts.deployment.ci_roles:CiRoles", exits={REFUSED: "the account or GitHub is otherwise than declared"})
def ci_roles(
    repository: Annotated[str, typer.Option("--repository", help="On GitHub: ORG/REPO.")],
    state_bucket: Annotated[str, typer.Option("--state-bucket", help="S3 bucket of Pulumi's state.")],
    secrets_key: Annotated[str, typer.Option("--secrets-key", help="ARN of the KMS key of the stack's secrets.")],
    branch: Annotated[str, typer.Option("--branch", help="What is deployed from.")] = "main",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Write the documents here, and make.sh, which makes the roles of them."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with the account.")] = False,
    environments: Annotated[
        Path | None, typer.Option("--environments", help="Judge this answer of `gh api repos/ORG/REPO/environments`.")
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Print what the workflows may do in the account, or check that it is so."""
    import re

    from components.ci_place import Place
    from scripts.deployment import ci_roles as roles
    from scripts.support.settings import stack_config

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"--repository {repository!r} is no ORG/REPO; give both")
    config = stack_config(stack)
    place = Place(config, repository, branch, state_bucket, secrets_key)
    document = roles.declared(place)
    findings = []
    if check:
        findings += roles.check_account(place)
    if environments is not None:
        findings += roles.check_environments(place, roles.read_environments(environments))
    looked = [word for word, given in (("account", check), ("environments", environments is not None)) if given]
    document = document.model_copy(update={"checked": looked, "findings": findings})
    script = roles.write(place, output) if output is not None else None
    emit(document, as_json=json, text=lambda shown: _view(shown, script))
    return REFUSED if findings else 0


def _view(document: CiRoles, script: Path | None) -> View:
    from scripts.cli.view import Column, View, finding, table
    from scripts.support.figure import counted

    rows = [
        (role.name, role.environment, sum(policy.document.count('"Sid"') for policy in role.policies))
        for role in document.roles
    ]
    parts: list[RenderableType] = [table(["role", "environment", Column("grants", True)], rows)]
    parts += [finding("bad", f"{one.what}: {one.found}", one.remedy) for one in document.findings]
    if document.findings:
        verdict = f"{counted(len(document.findings), 'difference')}: the workflows may do otherwise than declared."
        return View(verdict, "bad", parts, "mend them, then task-migration ci-roles --check again")
    if document.checked:
        return View(f"As declared: {', '.join(document.checked)}.", "good", parts, "pulumi up, by deploy.yml")
    following = "task-migration ci-roles --check" if script is None else f"as an administrator: sh {script}"
    return View("Not checked: what an administrator has to make.", "plain", parts, following)
