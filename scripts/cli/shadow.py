"""shadow: both sides' answers, before the first user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.cli.options import DIFFER, REFUSED, TIMED_OUT, Json, Stack, prints
from scripts.cli.output import display, emit
from scripts.cli.settings import load_settings, stage_of

app = typer.Typer()


@app.command()
@prints(
    "scripts.shadow.documents:Shadow",
    exits={
        REFUSED: "the weight is not 0, the Task Service does not serve, a token is refused, or nothing could be compared",
        DIFFER: "the two sides answer differently; which fields, by endpoint",
        TIMED_OUT: "what the monolith had written did not arrive in time",
    },
)
def shadow(
    base_url: Annotated[
        str, typer.Option("--base-url", help="Of the API, or of the load balancer, from inside the VPC.")
    ],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="File with JWTs of users who have tasks, one a line.")
    ],
    users: Annotated[int, typer.Option("--users", min=1, help="So many of them, chosen at random.")] = 20,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, max=1000.0, help="Requests per second, to both sides together.")
    ] = 10.0,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Ask both sides for users' tasks at weight 0 and compare the answers, field by field.

    Reads only: the lists and single tasks of a sample of users. The Task Service is asked by the smoke rule's header, once a fence has
    shown that it has what the monolith answered; the monolith is asked again, so that what changes by itself does not count. The
    first canary step wants a run of the last day without a difference.
    """
    from scripts.cli.shadow_text import shadow as text
    from scripts.shadow import run as step

    document = step.run(
        stage_of(load_settings(stack)), base_url, token_file, users=users, rate=rate, progress=display()
    )
    emit(document, as_json=json, text=text)
    return 0 if document.match else DIFFER
